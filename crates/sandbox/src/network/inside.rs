//! What of it lies inside the subjob's network namespace: the addresses and the listeners. Made by the VM Portal
//! while it still may.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use model::ByteSize;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, ipproto, listen, recv, send,
    socket_with, sockopt,
};

use super::{Link, NetworkSetup};

/// Connections that may wait at a listener.
const BACKLOG: i32 = 128;

/// Number of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;

/// Makes everything, and hands it to the broker. The loopback interface must be up.
///
/// # Errors
/// The endpoint that it failed for, and what the kernel said.
pub(crate) fn prepare(setup: &NetworkSetup, link: &Link) -> Result<(), (String, io::Error)> {
    let addresses: BTreeSet<IpAddr> = setup.routes.iter().map(|route| route.inside.ip()).collect();
    for address in addresses.into_iter().filter(|address| !address.is_loopback()) {
        add_address(address).map_err(|e| (address.to_string(), e))?;
    }
    for route in &setup.routes {
        let handed = open_listener(route.inside, setup.rate).and_then(|listener| link.send(listener));
        handed.map_err(|e| (route.endpoint.to_string(), e))?;
    }
    if let Some(rate) = setup.rate {
        limit_send_buffers(rate);
    }
    Ok(())
}

fn open_listener(at: SocketAddr, rate: Option<ByteSize>) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if let Some(rate) = rate {
        // The accepted sockets inherit it.
        sockopt::set_socket_recv_buffer_size(&socket, buffer_size(rate))?;
    }
    bind(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// How much of a slow connection may lie in a buffer: about a quarter of a second's, so that a program sees how slow
/// it is and what it has sent arrives soon after its end.
pub(super) fn buffer_size(rate: ByteSize) -> usize {
    usize::try_from(rate.0 / 4).unwrap_or(usize::MAX).clamp(8 << 10, 1 << 20)
}

/// As [`buffer_size`], for what the program writes, whose buffers grow to this unless it says otherwise. Where /proc
/// can't be written, they hold more and take longer to be delivered.
fn limit_send_buffers(rate: ByteSize) {
    let most = buffer_size(rate).max(16 << 10);
    let _ = fs::write("/proc/sys/net/ipv4/tcp_wmem", format!("4096 16384 {most}"));
}

/// Gives the loopback interface an address, by rtnetlink(7).
fn add_address(address: IpAddr) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &address_request(address), SendFlags::empty())?;
    let mut reply = [0; 512];
    let (length, _) = recv(&socket, &mut reply, RecvFlags::empty())?;
    acknowledged(&reply[..length])
}

/// `RTM_NEWADDR` for a whole address on the loopback interface, to be acknowledged.
fn address_request(address: IpAddr) -> Vec<u8> {
    const NEW_ADDRESS: u16 = 20;
    /// Request, acknowledge, create, exclusively.
    const FLAGS: u16 = 0x1 | 0x4 | 0x400 | 0x200;
    const LOCAL: u16 = 2;
    const NO_DUPLICATE_DETECTION: u8 = 0x02;
    const HOST_SCOPE: u8 = 254;
    let (family, bytes) = match address {
        IpAddr::V4(address) => (AddressFamily::INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AddressFamily::INET6, address.octets().to_vec()),
    };
    let family = u8::try_from(family.as_raw()).expect("families are small numbers");
    let length = |bytes: usize| u16::try_from(bytes).expect("a request is some dozen bytes");
    let mut body = vec![family, length(bytes.len() * 8).to_ne_bytes()[0], NO_DUPLICATE_DETECTION, HOST_SCOPE];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(length(4 + bytes.len()).to_ne_bytes());
    body.extend(LOCAL.to_ne_bytes());
    body.extend(bytes);
    let mut request = u32::from(length(16 + body.len())).to_ne_bytes().to_vec();
    request.extend(NEW_ADDRESS.to_ne_bytes());
    request.extend(FLAGS.to_ne_bytes());
    // A sequence number and a port, which a single request needs not.
    request.extend([0; 8]);
    request.extend(body);
    request
}

/// Reads the kernel's answer to a single request: an `NLMSG_ERROR` whose error is 0.
fn acknowledged(reply: &[u8]) -> io::Result<()> {
    const ERROR: u16 = 2;
    let kind = reply.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error = reply.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(error)) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_as_the_kernel_wants_it() {
        let four = address_request("10.2.0.5".parse().unwrap());
        assert_eq!(four.len(), 32);
        assert_eq!(four[..8], [32, 0, 0, 0, 20, 0, 5, 6]);
        assert_eq!(four[16..], [2, 32, 2, 254, 1, 0, 0, 0, 8, 0, 2, 0, 10, 2, 0, 5]);
        let six = address_request("2001:db8::7".parse().unwrap());
        assert_eq!((six.len(), six[16], six[17], six[24]), (44, 10, 128, 20));
    }

    #[test]
    fn an_answer_is_read_whatever_it_is() {
        let answer = |error: i32| {
            let mut bytes = [36, 0, 0, 0, 2, 0].to_vec();
            bytes.resize(16, 0);
            bytes.extend(error.to_ne_bytes());
            bytes
        };
        assert!(acknowledged(&answer(0)).is_ok());
        assert_eq!(acknowledged(&answer(-libc::EEXIST)).unwrap_err().raw_os_error(), Some(libc::EEXIST));
        for bad in [answer(i32::MIN), answer(0)[..18].to_vec(), vec![0; 20], Vec::new()] {
            assert!(acknowledged(&bad).is_err());
        }
    }

    #[test]
    fn a_buffer_holds_a_quarter_of_a_second_within_reason() {
        assert_eq!(buffer_size(ByteSize(1)), 8 << 10);
        assert_eq!(buffer_size(ByteSize(1 << 20)), 256 << 10);
        assert_eq!(buffer_size(ByteSize(u64::MAX)), 1 << 20);
    }
}
