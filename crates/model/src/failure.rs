//! Why an attempt failed: a closed list of reasons that carry what was measured, and the three classes into
//! which §4.2.3 sorts them. A failure is data, never an `Err`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trouble::{Crash, Dialog};
use crate::units::{ByteSize, display_duration};

/// The three classes of §4.2.3. The class decides who is blamed and what is tried next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The desktop's owner or its other programs needed the resource; another client may have it.
    DesktopContention,
    /// The client could not run subjobs properly.
    ClientFault,
    /// The subjob itself is wrong: it will fail elsewhere too.
    MalformedSubjob,
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureClass::DesktopContention => "desktop contention",
            FailureClass::ClientFault => "client fault",
            FailureClass::MalformedSubjob => "malformed subjob",
        })
    }
}

/// Why one attempt of a subjob did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FailureReason {
    /// The program ended with a status that is not 0.
    ExitCode { code: i32 },
    /// The program was ended by a signal that nobody of ours sent.
    Signal {
        signal: i32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crash: Option<Box<Crash>>,
    },
    /// It showed a window that waited for somebody, and did not go on when that was closed.
    Dialog { dialog: Dialog },
    /// Its processes together took more memory than the limit.
    MemoryLimit { limit: ByteSize, peak: ByteSize },
    /// Its processes together took more processor time than the limit.
    CpuLimit { limit: Duration, used: Duration },
    /// It ran longer than `runtime_max`; perhaps since a window of it was closed that had waited for somebody.
    RuntimeMax {
        limit: Duration,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dialog: Option<Dialog>,
    },
    /// It succeeded faster than `runtime_min`.
    RuntimeMin { limit: Duration, ran: Duration },
    /// It tried to start more processes and threads than the limit.
    ProcessLimit { limit: u32, peak: u32 },
    /// Its working directory grew over the limit.
    DiskLimit { limit: ByteSize, used: ByteSize },
    /// Outputs, stdout and stderr together are larger than the limit.
    OutputLimit { limit: ByteSize, size: ByteSize },
    /// A declared output does not exist.
    OutputMissing { path: String },
    /// A declared output is a link, a device or a path out of the working directory.
    OutputRefused { path: String, why: String },
    /// The program could not be started.
    NotStarted { why: String },
    /// The client's own disk is full or failing.
    ClientStorage { why: String },
    /// Something on the client's disk, or on its way there, is not what it must be: a file by its path, or all of a
    /// subjob's sealed files.
    Tampering { path: String },
    /// The client could not set up the sandbox or fetch a file.
    ClientSetup { why: String },
    /// The VM Portal ended or fell silent while the program ran: somebody or something on the client's machine
    /// killed or stopped it, for no program can reach it.
    PortalLost { why: String },
    /// The lease ran out: the client was not heard of for too long.
    LeaseExpired,
    /// The client came back without the subjob: it was restarted or lost it.
    LeaseLost,
    /// The client was told to stop by its owner.
    Evicted { why: String },
}

impl FailureReason {
    /// The class of §4.2.3 that the reason alone points to.
    pub fn class(&self) -> FailureClass {
        match self {
            FailureReason::ExitCode { .. }
            | FailureReason::Signal { .. }
            | FailureReason::RuntimeMax { .. }
            | FailureReason::CpuLimit { .. }
            | FailureReason::Dialog { .. }
            | FailureReason::RuntimeMin { .. }
            | FailureReason::ProcessLimit { .. }
            | FailureReason::MemoryLimit { .. }
            | FailureReason::DiskLimit { .. }
            | FailureReason::OutputLimit { .. }
            | FailureReason::OutputMissing { .. }
            | FailureReason::OutputRefused { .. }
            | FailureReason::NotStarted { .. } => FailureClass::MalformedSubjob,
            FailureReason::ClientStorage { .. }
            | FailureReason::Tampering { .. }
            | FailureReason::ClientSetup { .. }
            | FailureReason::PortalLost { .. } => FailureClass::ClientFault,
            FailureReason::LeaseExpired | FailureReason::LeaseLost | FailureReason::Evicted { .. } => {
                FailureClass::DesktopContention
            }
        }
    }

    /// Whether the attempt counts against the subjob's `attempts`. Evictions, lost clients and clients that are
    /// broken do not: on desktops they are daily life, and have bounds of their own.
    pub fn is_strike(&self) -> bool {
        self.class() == FailureClass::MalformedSubjob
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailureReason::ExitCode { code: 127 } => f.write_str(
                "the program ended with status 127: a command that it calls is not part of the application, name it \
                 in app.include",
            ),
            FailureReason::ExitCode { code } => write!(f, "the program ended with status {code}"),
            FailureReason::Signal { signal, crash } => {
                write!(f, "the program was ended by signal {signal} ({})", signal_name(*signal))?;
                crash.as_ref().map_or(Ok(()), |crash| write_crash(f, crash))
            }
            FailureReason::Dialog { dialog } => write_dialog(f, dialog),
            FailureReason::MemoryLimit { limit, peak } => {
                write!(
                    f,
                    "killed by the memory limit of {limit} after a peak of {peak}: raise resources.memory"
                )
            }
            FailureReason::CpuLimit { limit, used } => write!(
                f,
                "took {} of processor time, limits.cpu_max = {}: raise it, or make the subjobs smaller",
                display_duration(*used),
                display_duration(*limit)
            ),
            FailureReason::RuntimeMax { limit, dialog } => {
                write!(f, "ran longer than limits.runtime_max = {}", display_duration(*limit))?;
                let Some(dialog) = dialog else { return Ok(()) };
                f.write_str("; it may have waited for an answer: ")?;
                write_dialog(f, dialog)
            }
            FailureReason::RuntimeMin { limit, ran } => write!(
                f,
                "ended after {} although limits.runtime_min = {}",
                display_duration(*ran),
                display_duration(*limit)
            ),
            FailureReason::ProcessLimit { limit, peak } => write!(
                f,
                "reached the limit of {limit} processes and threads with a peak of {peak}: raise limits.processes"
            ),
            FailureReason::DiskLimit { limit, used } => {
                write!(f, "its files took {used}, the limit is {limit}: raise resources.disk")
            }
            FailureReason::OutputLimit { limit, size } => {
                write!(f, "its outputs are {size}, the limit is {limit}: raise limits.output")
            }
            FailureReason::OutputMissing { path } => {
                write!(f, "the declared output '{path}' was not produced")
            }
            FailureReason::OutputRefused { path, why } => write!(f, "the output '{path}' was refused: {why}"),
            FailureReason::NotStarted { why } => write!(f, "the program could not be started: {why}"),
            FailureReason::ClientStorage { why } => write!(f, "the client's disk failed: {why}"),
            FailureReason::Tampering { path } => {
                write!(f, "tampering: '{path}' is not what it was, or not what the manifest says")
            }
            FailureReason::ClientSetup { why } => write!(f, "the client could not set up the subjob: {why}"),
            FailureReason::PortalLost { why } => write!(f, "the VM Portal was lost: {why}"),
            FailureReason::LeaseExpired => f.write_str("the client was not heard of for too long"),
            FailureReason::LeaseLost => f.write_str("the client was restarted and lost the subjob"),
            FailureReason::Evicted { why } => write!(f, "the client gave it up: {why}"),
        }
    }
}

fn write_dialog(f: &mut fmt::Formatter<'_>, Dialog { title, text }: &Dialog) -> fmt::Result {
    write!(f, "a window '{title}' waited for somebody and was closed")?;
    text.as_ref().map_or(Ok(()), |text| write!(f, "; it said: {text}"))
}

/// Where and on what, with the innermost frames: the whole backtrace is in the value.
fn write_crash(f: &mut fmt::Formatter<'_>, crash: &Crash) -> fmt::Result {
    const SHOWN: usize = 8;
    write!(f, " in {}", crash.program)?;
    if let Some(address) = crash.address {
        write!(f, " at address {address:#x}")?;
    }
    crash.backtrace.iter().take(SHOWN).try_for_each(|frame| write!(f, "\n  {frame}"))
}

/// The name of a Linux x86-64 signal, from signal(7).
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL, illegal instruction",
        6 => "SIGABRT, the program gave up",
        7 => "SIGBUS, bad memory access",
        8 => "SIGFPE, arithmetic error",
        9 => "SIGKILL",
        11 => "SIGSEGV, bad memory access",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ, file too large",
        31 => "SIGSYS, forbidden system call",
        _ => "see signal(7)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losing_a_desktop_is_no_strike_against_the_subjob() {
        assert!(!FailureReason::LeaseExpired.is_strike());
        assert!(!FailureReason::Evicted { why: "owner".into() }.is_strike());
        assert!(FailureReason::ExitCode { code: 1 }.is_strike());
    }

    #[test]
    fn a_program_that_was_asked_something_may_have_waited_for_the_answer() {
        let dialog = Some(Dialog { title: "Sure?".into(), text: None });
        let reason = FailureReason::RuntimeMax { limit: Duration::from_secs(60), dialog };
        assert_eq!(
            reason.to_string(),
            "ran longer than limits.runtime_max = 1m00s; it may have waited for an answer: a window 'Sure?' waited for \
             somebody and was closed"
        );
    }

    #[test]
    fn a_limit_is_reported_with_its_value_the_peak_and_the_cure() {
        let reason = FailureReason::MemoryLimit { limit: ByteSize::gib(2), peak: ByteSize(2_150_000_000) };
        assert_eq!(
            reason.to_string(),
            "killed by the memory limit of 2 GiB after a peak of 2.0 GiB: raise resources.memory"
        );
    }
}
