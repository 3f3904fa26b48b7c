//! The lowest classes of processor and disk scheduling.

use std::{io, mem};

use super::checked;

/// Puts the calling thread, and what it will fork, into `SCHED_IDLE`.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn take_idle_scheduling_class() -> io::Result<()> {
    // SAFETY: `sched_param` is plain integers, for which all zeros is a valid value.
    let parameters: libc::sched_param = unsafe { mem::zeroed() };
    // SAFETY: pid 0 is the caller, and `parameters` is valid for reads for the length of the call.
    checked(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) }).map(|_| ())
}

/// Puts the calling thread, and what it will fork, into the idle class of disk scheduling.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn take_idle_io_class() -> io::Result<()> {
    const WHO_PROCESS: libc::c_long = 1;
    const CLASS_IDLE: libc::c_long = 3 << 13;
    // SAFETY: ioprio_set takes three integers and no pointer.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0_i64, CLASS_IDLE) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
