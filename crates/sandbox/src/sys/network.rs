//! The loopback interface of a new network namespace.

use std::io;
use std::os::fd::AsRawFd;
use std::{mem, net};

use super::checked;

/// Brings up `lo`, which is down in a new network namespace.
///
/// # Errors
/// Whatever the kernel says; without `CAP_NET_ADMIN` in the namespace, permission denied.
pub(crate) fn raise_loopback() -> io::Result<()> {
    let socket = net::UdpSocket::bind(("0.0.0.0", 0))?;
    // SAFETY: `ifreq` is plain integers, arrays and pointers, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("both flags are below 0x100");
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which `request` is and which outlives the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }).map(|_| ())
}
