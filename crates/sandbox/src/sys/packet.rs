//! Sockets with filters of the kernel's filter machine, and a socket for whole packets.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use super::checked;

/// Has every packet for a socket pass through `program`, which tells how much of it is let through. What it accepts
/// begins with the same filter.
///
/// # Errors
/// What the kernel says.
pub(crate) fn attach_filter(socket: impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // The instructions that it points to are borrowed by the caller, and the kernel copies them.
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// # Errors
/// What the kernel says, also when there is no filter.
pub(crate) fn detach_filter(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0_i32)
}

/// Opens a socket that gets a copy of those packets that arrive at an interface, with their link header, that
/// `program` lets through for good, and that sends packets which bear `mark`. It does not block.
///
/// # Errors
/// What the kernel says; without `CAP_NET_RAW` in the namespace, permission denied.
pub(crate) fn open_packet_socket(
    interface: u32,
    mark: u32,
    program: &[libc::sock_filter],
) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // Of no protocol, it gets nothing before it is bound, and by then it has its filter.
    // SAFETY: socket takes three integers and no pointer.
    let socket = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the call has just made it, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    attach_filter(&socket, program)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1_i32)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_MARK, &mark)?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    // SAFETY: `sockaddr_ll` is plain integers, for which all zeros is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("families are small numbers");
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("protocols have two bytes").to_be();
    address.sll_ifindex =
        i32::try_from(interface).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let length = length_of(&address);
    // SAFETY: `address` is valid for reads of `length` bytes for the length of the call.
    checked(unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), length) })?;
    Ok(socket)
}

/// Sets an option whose value is a plain structure.
fn set<T>(socket: impl AsFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let (socket, length) = (socket.as_fd().as_raw_fd(), length_of(value));
    // SAFETY: `value` is valid for reads of `length` bytes for the length of the call; setsockopt only reads it.
    checked(unsafe { libc::setsockopt(socket, level, option, ptr::from_ref(value).cast(), length) })
        .map(|_| ())
}

fn length_of<T>(_: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("options and addresses are small")
}
