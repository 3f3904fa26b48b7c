//! The loopback interface of the subjob's network namespace, by rtnetlink(7) and sysctl: the endpoints' addresses, and
//! what makes it quick.

use std::fs;
use std::io;
use std::net::IpAddr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Number of the loopback interface in every network namespace.
pub(super) const LOOPBACK: u32 = 1;

/// Most bytes that TCP sends in one piece. A pipe of the relay holds as many; bigger pieces were no faster.
const PIECE: u32 = 256 << 10;

// Of linux/rtnetlink.h and linux/if_link.h.
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const MAX_SIZE: u16 = 41;
const MAX_SIZE_IPV4: u16 = 63;

/// Makes connections over the interface as quick as this kernel can. It has no say in whether they work, so what
/// fails is left as it is: slower.
pub(super) fn quicken() {
    // What the host has chosen is for real networks: one that measures and paces, such as BBR, halves the throughput
    // where nothing is ever lost. This one is in every kernel, and only counts.
    let _ = fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno");
    let _ = request(&size_request(PIECE));
}

/// Has the kernel take packets that the broker sends on the interface: from addresses of this host, and with 127.0.0.1
/// at either end, as it does with its own. Nothing else can send any there.
///
/// # Errors
/// What the kernel says.
pub(super) fn admit_broker() -> io::Result<()> {
    request(&admission_request())
}

/// Gives the interface an address.
///
/// # Errors
/// What the kernel says.
pub(super) fn add_address(address: IpAddr) -> io::Result<()> {
    request(&address_request(address))
}

fn request(message: &[u8]) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, message, SendFlags::empty())?;
    let mut reply = [0; 512];
    let (length, _) = recv(&socket, &mut reply, RecvFlags::empty())?;
    acknowledged(&reply[..length])
}

/// `RTM_NEWADDR` for a whole address.
fn address_request(address: IpAddr) -> Vec<u8> {
    const LOCAL: u16 = 2;
    const NO_DUPLICATE_DETECTION: u8 = 0x02;
    const HOST_SCOPE: u8 = 254;
    let (family, bytes) = match address {
        IpAddr::V4(address) => (AddressFamily::INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AddressFamily::INET6, address.octets().to_vec()),
    };
    let family = u8::try_from(family.as_raw()).expect("families are small numbers");
    let prefix = u8::try_from(bytes.len() * 8).expect("an address has 128 bits at the most");
    let mut body = vec![family, prefix, NO_DUPLICATE_DETECTION, HOST_SCOPE];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(attribute(LOCAL, &bytes));
    message(NEW_ADDRESS, CREATE | EXCLUSIVE, &body)
}

/// `RTM_NEWLINK` for the size of the pieces that TCP sends. A kernel before 6.3 has it for IPv6 only, and does not
/// look at the other.
fn size_request(bytes: u32) -> Vec<u8> {
    let sizes = [MAX_SIZE, MAX_SIZE_IPV4].map(|kind| attribute(kind, &bytes.to_ne_bytes()));
    link_request(&sizes.concat())
}

/// `RTM_NEWLINK` for what sysctl calls `accept_local` and `route_localnet`. IPv6 has no such checks.
fn admission_request() -> Vec<u8> {
    const OF_FAMILIES: u16 = 26;
    const CONFIGURATION: u16 = 1;
    const ACCEPT_LOCAL: u16 = 23;
    const ROUTE_LOCALNET: u16 = 26;
    let switches = [ACCEPT_LOCAL, ROUTE_LOCALNET].map(|switch| attribute(switch, &1_u32.to_ne_bytes()));
    let of_ipv4 = attribute(AddressFamily::INET.as_raw(), &attribute(CONFIGURATION, &switches.concat()));
    link_request(&attribute(OF_FAMILIES, &of_ipv4))
}

/// `RTM_NEWLINK` for attributes of the interface.
fn link_request(attributes: &[u8]) -> Vec<u8> {
    // Of any family and kind, the interface, and none of its flags changed.
    let mut body = vec![0; 4];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend([0; 8]);
    body.extend(attributes);
    message(NEW_LINK, 0, &body)
}

/// An attribute whose value fills whole words.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = length(4 + value.len()).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes
}

/// A single request, to be acknowledged.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::from(length(16 + body.len())).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | ACKNOWLEDGE | flags).to_ne_bytes());
    // A sequence number and a port, which a single request needs not.
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("a request is some dozen bytes")
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
    fn a_size_is_asked_for_as_the_kernel_wants_it() {
        let request = size_request(0x0004_0000);
        assert_eq!(request.len(), 48);
        assert_eq!(request[..8], [48, 0, 0, 0, 16, 0, 5, 0]);
        assert_eq!(request[16..32], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(request[32..], [8, 0, 41, 0, 0, 0, 4, 0, 8, 0, 63, 0, 0, 0, 4, 0]);
    }

    #[test]
    fn a_switch_is_asked_for_as_the_kernel_wants_it() {
        let request = admission_request();
        assert_eq!(request[..8], [60, 0, 0, 0, 16, 0, 5, 0]);
        assert_eq!(request[32..44], [28, 0, 26, 0, 24, 0, 2, 0, 20, 0, 1, 0]);
        assert_eq!(request[44..], [8, 0, 23, 0, 1, 0, 0, 0, 8, 0, 26, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn the_kernel_takes_all() {
        // A network namespace belongs to a thread as well.
        let done = std::thread::spawn(|| {
            crate::sys::unshare(rustix::thread::UnshareFlags::NEWNET)?;
            quicken();
            admit_broker().unwrap();
            let is = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
            let names = ["tcp_congestion_control", "conf/lo/accept_local", "conf/lo/route_localnet"];
            Ok::<_, io::Error>((names.map(is), request(&size_request(PIECE))))
        });
        match done.join().unwrap() {
            Ok((switches, size)) => {
                assert_eq!(switches, ["reno\n", "1\n", "1\n"]);
                size.unwrap();
            }
            Err(reason) => eprintln!("skipped: no network namespace can be made: {reason}"),
        }
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
}
