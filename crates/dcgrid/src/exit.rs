//! Exit codes, and how an error is told to a person.

use std::process::ExitCode;

use desktop_controller::ControllerError;
use link::LinkError;
use protocol::api::ProblemCode;
use protocol::spec::SpecErrors;
use server::ServerError;
use server::files::FilesError;

/// What the exit status says. Documented in docs/manual/command-line.md; numbers never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Success = 0,
    /// The job ended with failed subjobs, or what was asked for is not there.
    Failed = 1,
    /// The command line, the job spec or the program to wrap is wrong. Nothing was submitted.
    Usage = 2,
    /// Not logged in, not allowed, or a token or key that is refused.
    Refused = 3,
    /// The server could not be reached.
    Unreachable = 4,
    Cancelled = 5,
    /// `--timeout` passed; the job goes on.
    TimedOut = 6,
    /// A disk is full, here or on the server.
    DiskFull = 7,
    /// A failure of DCGrid itself or of this machine.
    Internal = 70,
    /// Ctrl-C; a submitted job goes on.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error whose exit code is known where it arises.
#[derive(Debug)]
pub struct Fault {
    pub exit: Exit,
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// A fault to end the command with.
pub fn fault(exit: Exit, message: impl Into<String>, fix: impl Into<String>) -> anyhow::Error {
    let fix = fix.into();
    Fault { exit, message: message.into(), fix: (!fix.is_empty()).then_some(fix) }.into()
}

/// Prints an error with its causes and what to do, and says how to end.
pub fn report(error: &anyhow::Error) -> Exit {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    eprintln!("error: {text}");
    if let Some(fix) = fix(error) {
        eprintln!("  help: {fix}");
    }
    code(error)
}

fn code(error: &anyhow::Error) -> Exit {
    let io_full = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    };
    if error.chain().filter_map(|cause| cause.downcast_ref()).any(io_full) {
        return Exit::DiskFull;
    }
    for cause in error.chain() {
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return fault.exit;
        }
        if let Some(link) = cause.downcast_ref::<LinkError>() {
            return link_code(link);
        }
        if let Some(ControllerError::Link(link)) = cause.downcast_ref::<ControllerError>() {
            return link_code(link);
        }
        match cause.downcast_ref() {
            Some(ControllerError::NotJoined | ControllerError::Token(_)) => return Exit::Refused,
            Some(ControllerError::InUse { .. }) => return Exit::Usage,
            _ => {}
        }
        if let Some(ServerError::Files(FilesError::Locked { .. })) = cause.downcast_ref() {
            return Exit::Usage;
        }
        if cause.is::<SpecErrors>() || cause.is::<wrap::WrapError>() {
            return Exit::Usage;
        }
        if cause.is::<protocol::token::TokenError>() {
            return Exit::Refused;
        }
    }
    Exit::Internal
}

fn link_code(error: &LinkError) -> Exit {
    match error {
        LinkError::Refused(problem) => match problem.code {
            ProblemCode::NotLoggedIn
            | ProblemCode::NotAllowed
            | ProblemCode::TokenRefused
            | ProblemCode::ClientRevoked => Exit::Refused,
            ProblemCode::BadRequest | ProblemCode::BadSpec | ProblemCode::TooLarge => Exit::Usage,
            ProblemCode::NotFound => Exit::Failed,
            ProblemCode::StorageFull => Exit::DiskFull,
            ProblemCode::Overloaded => Exit::Unreachable,
            ProblemCode::MissingBlobs
            | ProblemCode::StaleSequence
            | ProblemCode::WrongOffset
            | ProblemCode::HashMismatch
            | ProblemCode::Internal => Exit::Internal,
        },
        LinkError::Url { .. } => Exit::Usage,
        LinkError::Connect { .. }
        | LinkError::Proxy { .. }
        | LinkError::Http { .. }
        | LinkError::Timeout { .. }
        | LinkError::Answer { .. }
        | LinkError::TooLong { .. } => Exit::Unreachable,
        LinkError::Tls { .. } | LinkError::Forged { .. } | LinkError::Unsigned(_) => Exit::Refused,
        LinkError::WrongHash { .. } | LinkError::Local { .. } | LinkError::Key(_) => Exit::Internal,
    }
}

fn fix(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return fault.fix.clone();
        }
        match cause.downcast_ref::<ControllerError>() {
            Some(ControllerError::Link(link)) => return link.fix(),
            Some(ControllerError::NotJoined) => {
                return Some(
                    "dcgrid client --server URL --token TOKEN (from `dcgrid token create join`)".into(),
                );
            }
            _ => {}
        }
        cause.downcast_ref::<LinkError>().and_then(LinkError::fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::api::Problem;

    #[test]
    fn each_kind_of_error_has_its_code() {
        let refused = |code| LinkError::Refused(Problem { status: 400, code, detail: "d".into(), fix: None });
        let check = |error: anyhow::Error, expect| assert_eq!(code(&error), expect, "{error}");
        check(refused(ProblemCode::NotLoggedIn).into(), Exit::Refused);
        check(refused(ProblemCode::StorageFull).into(), Exit::DiskFull);
        check(anyhow::Error::new(refused(ProblemCode::NotFound)).context("asking"), Exit::Failed);
        check(std::io::Error::from(std::io::ErrorKind::StorageFull).into(), Exit::DiskFull);
        check(fault(Exit::TimedOut, "late", ""), Exit::TimedOut);
        check(anyhow::anyhow!("bug"), Exit::Internal);
    }
}
