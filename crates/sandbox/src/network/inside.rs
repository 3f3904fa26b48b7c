//! What of it lies inside the subjob's network namespace: the addresses and the listeners. Made by the VM Portal
//! while it still may.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use model::ByteSize;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};

use super::door;
use super::loopback::{self, add_address};
use super::{Link, NetworkSetup};

/// Connections that may wait at a listener.
const BACKLOG: i32 = 128;

/// Makes everything, and hands it to the broker. The loopback interface must be up.
///
/// # Errors
/// The endpoint that it failed for, and what the kernel said.
pub(crate) fn prepare(setup: &NetworkSetup, link: &Link) -> Result<(), (String, io::Error)> {
    // Before there are sockets, which begin with what they find.
    loopback::quicken();
    let tap = loopback::admit_broker().and_then(|()| door::open_tap()).and_then(|tap| link.send(tap));
    tap.map_err(|e| ("every endpoint".to_owned(), e))?;
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
    door::hold(&socket)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_holds_a_quarter_of_a_second_within_reason() {
        assert_eq!(buffer_size(ByteSize(1)), 8 << 10);
        assert_eq!(buffer_size(ByteSize(1 << 20)), 256 << 10);
        assert_eq!(buffer_size(ByteSize(u64::MAX)), 1 << 20);
    }
}
