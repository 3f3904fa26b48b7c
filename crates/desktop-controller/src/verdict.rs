//! Why an attempt failed: what happened on the way, as a reason to report (§4.2.3).

use std::io;
use std::path::Path;
use std::time::Duration;

use link::LinkError;
use model::{ByteSize, Crash, FailureReason};
use sandbox::{Cause, Ended, Exit, LimitHit};

use crate::application::ApplicationError;
use crate::attempt::Order;
use crate::cache::CacheError;

/// What a report calls sealed files of which one was changed: the name of that one is nobody's but the job's.
pub(crate) const SEALED_FILES: &str = "its sealed files";

/// A disk with less free than this counts as full.
const DISK_FULL: ByteSize = ByteSize::mib(8);

/// Why an exit is a failure, if it is one.
pub(crate) fn failure(exit: &Exit, runtime_min: Duration) -> Option<FailureReason> {
    let met = exit.hit.map(|hit| match hit {
        LimitHit::Memory { limit, peak } => FailureReason::MemoryLimit { limit, peak },
        LimitHit::Wall { limit } => {
            FailureReason::RuntimeMax { limit, dialog: exit.dialogs.last().map(|last| last.dialog.clone()) }
        }
        LimitHit::Cpu { limit, used } => FailureReason::CpuLimit { limit, used },
        LimitHit::Processes { limit, peak } => FailureReason::ProcessLimit { limit, peak },
        LimitHit::Disk { limit, used } => FailureReason::DiskLimit { limit, used },
        LimitHit::Stream { limit, size } => FailureReason::OutputLimit { limit, size },
        LimitHit::Tampered => FailureReason::Tampering { path: SEALED_FILES.to_owned() },
        LimitHit::FilesLost => {
            FailureReason::ClientStorage { why: "the files of the subjob were lost".to_owned() }
        }
        LimitHit::Terminated { cause: Cause::Cancelled } => evicted(Order::Cancel),
        LimitHit::Terminated { cause: Cause::Shutdown } => evicted(Order::Stop),
        LimitHit::Terminated { cause: Cause::Contention } => {
            FailureReason::Evicted { why: "the desktop needed the machine".to_owned() }
        }
    });
    match (&exit.ended, met) {
        // It may be why nothing could be started.
        (_, Some(reason @ FailureReason::Tampering { .. })) => Some(reason),
        (Ended::Setup(why), _) => Some(FailureReason::ClientSetup { why: why.clone() }),
        (Ended::Lost(why), _) => Some(FailureReason::PortalLost { why: why.clone() }),
        (Ended::NotStarted(why), _) => Some(FailureReason::NotStarted { why: why.clone() }),
        (Ended::Code(0), Some(FailureReason::ProcessLimit { .. }) | None) => {
            let (limit, ran) = (runtime_min, exit.usage.wall);
            (ran < limit).then_some(FailureReason::RuntimeMin { limit, ran })
        }
        (_, Some(reason)) => Some(reason),
        // It asked somebody, got no answer and gave up: the question says more than the status.
        (Ended::Code(_), None) if let Some(last) = exit.dialogs.last() => {
            Some(FailureReason::Dialog { dialog: last.dialog.clone() })
        }
        (Ended::Code(code), None) => Some(match crash_behind(*code, exit) {
            Some(crash) => FailureReason::Signal { signal: crash.signal, crash: Some(Box::new(crash)) },
            None => FailureReason::ExitCode { code: *code },
        }),
        (Ended::Signal(signal), None) => {
            Some(FailureReason::Signal { signal: *signal, crash: exit.crash.clone().map(Box::new) })
        }
    }
}

/// The crash of a command of which a shell tells by its own status: the crash says more.
fn crash_behind(code: i32, exit: &Exit) -> Option<Crash> {
    /// What shells add to a signal's number.
    const BY_SIGNAL: i32 = 128;
    exit.crash.clone().filter(|crash| code == BY_SIGNAL + crash.signal)
}

/// A program that fails while the client's own disk is full fails for that, not for what is wrong with it.
pub(crate) fn blame_full_disk(reason: FailureReason, free: ByteSize) -> FailureReason {
    match reason {
        FailureReason::ExitCode { .. } | FailureReason::Signal { .. } if free < DISK_FULL => {
            FailureReason::ClientStorage { why: format!("the disk was full when {reason}") }
        }
        other => other,
    }
}

pub(crate) fn evicted(order: Order) -> FailureReason {
    let why = match order {
        Order::Cancel => "the lease was cancelled",
        Order::Run | Order::Stop => "the client was stopped",
    };
    FailureReason::Evicted { why: why.to_owned() }
}

pub(crate) fn application_failure(error: ApplicationError) -> FailureReason {
    match error {
        ApplicationError::Cache(error) => cache_failure(&error),
        ApplicationError::Tampered { path } => FailureReason::Tampering { path },
        ApplicationError::Disk { .. } => FailureReason::ClientStorage { why: error.to_string() },
        ApplicationError::Signature { .. }
        | ApplicationError::Manifest(_)
        | ApplicationError::TooLarge { .. } => FailureReason::ClientSetup { why: error.to_string() },
    }
}

pub(crate) fn cache_failure(error: &CacheError) -> FailureReason {
    match error {
        CacheError::Disk { .. } => FailureReason::ClientStorage { why: error.to_string() },
        CacheError::Link(LinkError::WrongHash { hash }) => {
            FailureReason::Tampering { path: hash.to_string() }
        }
        CacheError::Link(link) => FailureReason::ClientSetup { why: describe(link) },
        CacheError::Size { .. } => FailureReason::ClientSetup { why: error.to_string() },
    }
}

pub(crate) fn storage(path: &Path, error: &io::Error) -> FailureReason {
    FailureReason::ClientStorage { why: format!("'{}': {error}", path.display()) }
}

/// An error with its causes, on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use model::FailureClass;
    use sandbox::NetworkUse;

    use super::*;

    fn exit(ended: Ended, hit: Option<LimitHit>) -> Exit {
        let usage = model::Usage::default();
        Exit {
            ended,
            hit,
            usage,
            crash: None,
            registered: 1,
            dialogs: Vec::new(),
            network: NetworkUse::default(),
        }
    }

    #[test]
    fn each_end_has_the_reason_that_explains_it() {
        let check = |ended: Ended, hit, expect: Option<FailureReason>| {
            assert_eq!(failure(&exit(ended, hit), Duration::ZERO), expect);
        };
        let (limit, used) = (Duration::from_secs(60), Duration::from_secs(61));
        let cpu = Some(LimitHit::Cpu { limit, used });
        let crowded = Some(LimitHit::Processes { limit: 16, peak: 16 });
        check(Ended::Code(0), None, None);
        check(Ended::Code(3), None, Some(FailureReason::ExitCode { code: 3 }));
        check(
            Ended::Signal(9),
            Some(LimitHit::Wall { limit }),
            Some(FailureReason::RuntimeMax { limit, dialog: None }),
        );
        check(Ended::Signal(9), cpu, Some(FailureReason::CpuLimit { limit, used }));
        // A program that was refused a thread and did well all the same did well.
        check(Ended::Code(0), crowded, None);
        check(Ended::Code(1), crowded, Some(FailureReason::ProcessLimit { limit: 16, peak: 16 }));
        let why = || "it fell silent".to_owned();
        check(Ended::Lost(why()), None, Some(FailureReason::PortalLost { why: why() }));
        assert_eq!(FailureReason::PortalLost { why: why() }.class(), FailureClass::ClientFault);
    }

    #[test]
    fn a_dialog_may_be_why_a_program_ran_for_too_long() {
        let limit = Duration::from_secs(60);
        let dialog = model::Dialog { title: "Sure?".into(), text: None };
        let closed = sandbox::ClosedDialog { dialog: dialog.clone(), picture: Vec::new() };
        let ended = exit(Ended::Signal(9), Some(LimitHit::Wall { limit }));
        let found = failure(&Exit { dialogs: vec![closed], ..ended }, Duration::ZERO);
        assert_eq!(found, Some(FailureReason::RuntimeMax { limit, dialog: Some(dialog) }));
    }

    #[test]
    fn a_shell_s_status_for_a_crash_is_that_crash() {
        let crash = Crash { program: "/app/x".into(), signal: 11, address: Some(0), backtrace: Vec::new() };
        let check = |code, expect| {
            let exit = Exit { crash: Some(crash.clone()), ..exit(Ended::Code(code), None) };
            assert_eq!(failure(&exit, Duration::ZERO), Some(expect));
        };
        check(139, FailureReason::Signal { signal: 11, crash: Some(Box::new(crash.clone())) });
        check(1, FailureReason::ExitCode { code: 1 });
    }

    #[test]
    fn a_success_that_came_too_soon_is_none() {
        let limit = Duration::from_secs(20);
        let found = failure(&exit(Ended::Code(0), None), limit);
        assert_eq!(found, Some(FailureReason::RuntimeMin { limit, ran: Duration::ZERO }));
    }

    #[test]
    fn a_full_disk_is_not_the_program_s_fault() {
        let failed = || FailureReason::ExitCode { code: 1 };
        assert_eq!(blame_full_disk(failed(), DISK_FULL), failed());
        let blamed = blame_full_disk(failed(), ByteSize(0));
        assert_eq!(blamed.class(), FailureClass::ClientFault, "{blamed}");
    }
}
