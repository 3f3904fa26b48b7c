//! Keeping this process's memory to itself. Keys come into it with each lease, and what a sealed subjob leaves goes
//! through it to the server.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on no other process of the same account can look into this one, it leaves no core, and it isn't swapped out
/// if the account may lock so much. Keys are locked one by one in any case.
///
/// # Errors
/// The kernel's, if it does not even forbid cores.
pub(crate) fn keep_memory_secret() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Under a limit, the first allocation beyond it would fail.
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        tracing::debug!("this account may not lock all of the client's memory");
        return Ok(());
    }
    // On fault: what is reserved and never used, as most of each thread's stack, takes no memory.
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}
