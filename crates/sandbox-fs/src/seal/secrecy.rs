//! Keeping the memory of a whole process to itself. The library of ciphers expands keys into memory that we don't
//! choose, and names and tags are secrets as well: so the process that serves a store locks all it has.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// How far the memory of this process is kept from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an owner who was promised more should be told"]
pub enum Secrecy {
    /// Nothing of it is ever swapped out.
    WholeProcess,
    /// The system does not let this account lock so much: a [`crate::seal::StoreKey`] is never swapped out, and what
    /// was derived from it may be.
    StoreKeys,
}

/// From now on no other process of the same account can look into this one's memory, it leaves no core, and it isn't
/// swapped out if the system allows that. Call it before there is a key, and after the last change of account.
///
/// # Errors
/// The kernel's, if it does not even forbid cores.
pub fn keep_memory_secret() -> io::Result<Secrecy> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // With a limit, the first allocation beyond it would fail.
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        return Ok(Secrecy::StoreKeys);
    }
    // On fault: what is reserved and never used, as most of each thread's stack, takes no memory.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    Ok(Secrecy::WholeProcess)
}
