//! seccomp(2): installs a filter.

use std::{io, ptr};

/// Installs a filter for the calling thread. It needs no_new_privs, and can't be undone.
///
/// # Errors
/// What the kernel says.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    const NO_FLAGS: libc::c_ulong = 0;
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: this operation reads a `sock_fprog` and the instructions that it points to; both outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, NO_FLAGS, ptr::from_ref(&program))
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
