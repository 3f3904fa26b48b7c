//! A knock: the SYN by which a program's kernel asks for a connection, and the packets that answer it. Pure.
//!
//! What is read here was written by the kernel inside, but partly as the program wished: options of TCP and of IP,
//! ports, bytes sent along. Nothing but addresses, ports, lengths and the sequence number is looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use super::door::{ACK, SYN};

const RST: u8 = 0x04;

/// Destination, source and type of the link, all zeros on the loopback interface but the type.
const LINK_HEADER: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Longest frame that is a knock: far more than a SYN with all options.
pub(super) const MAX_FRAME: usize = 2_048;

/// Most bytes of a packet that are sent back with the news that it did not arrive (RFC 4443 has 1,232).
const QUOTED: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Knock {
    /// The program's end.
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// From the header of IP on.
    packet: Vec<u8>,
    /// Length of the header of IP.
    header: usize,
}

/// Why a connection can't be made, as far as the network has words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Refused,
    NoNetwork,
    NoHost,
}

impl Refusal {
    pub(super) fn of(error: Errno) -> Self {
        match error {
            Errno::CONNREFUSED | Errno::CONNRESET => Refusal::Refused,
            Errno::NETUNREACH | Errno::NETDOWN => Refusal::NoNetwork,
            _ => Refusal::NoHost,
        }
    }
}

impl Knock {
    /// Reads a frame; nothing if it is no knock.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let (link, packet) = frame.split_at_checked(LINK_HEADER)?;
        let (header, length, protocol, from, to) = match (word(link, 12)?, packet.first()? >> 4) {
            (IPV4, 4) => (
                usize::from(packet[0] & 0xf) * 4,
                usize::from(word(packet, 2)?),
                *packet.get(9)?,
                IpAddr::from(*packet.get(12..)?.first_chunk::<4>()?),
                IpAddr::from(*packet.get(16..)?.first_chunk::<4>()?),
            ),
            (IPV6, 6) => (
                IPV6_HEADER,
                IPV6_HEADER + usize::from(word(packet, 4)?),
                *packet.get(6)?,
                IpAddr::from(*packet.get(8..)?.first_chunk::<16>()?),
                IpAddr::from(*packet.get(24..)?.first_chunk::<16>()?),
            ),
            _ => return None,
        };
        let packet = packet.get(..length)?;
        let segment = packet.get(header..)?;
        let is_knock = header >= IPV4_HEADER
            && protocol == TCP
            && segment.len() >= TCP_HEADER
            && segment[13] & (SYN | ACK) == SYN;
        is_knock.then_some(())?;
        let (from, to) = (SocketAddr::new(from, word(segment, 0)?), SocketAddr::new(to, word(segment, 2)?));
        Some(Knock { from, to, packet: packet.to_vec(), header })
    }

    /// Whether it asks for the same connection.
    pub(super) fn is_of(&self, other: &Knock) -> bool {
        (self.from, self.to) == (other.from, other.to)
    }

    /// Whether it has come from an address, whatever scope and flow the address names.
    pub(super) fn comes_from(&self, address: SocketAddr) -> bool {
        (self.from.ip(), self.from.port()) == (address.ip(), address.port())
    }

    /// The frame that lets the program in: its own, with the checksum that the kernel leaves out on this interface.
    pub(super) fn let_in(&self) -> Vec<u8> {
        let mut packet = self.packet.clone();
        let segment = &mut packet[self.header..];
        put(segment, 16, 0);
        let sum = checksum(&[&self.pseudo_header(TCP, segment.len()), segment]);
        put(segment, 16, sum);
        self.frame(&packet)
    }

    /// The frame that tells the program's kernel why not.
    pub(super) fn refuse(&self, why: Refusal) -> Vec<u8> {
        let is_ipv4 = self.to.is_ipv4();
        let (protocol, mut body) = match why {
            Refusal::Refused => (TCP, self.reset()),
            Refusal::NoNetwork if is_ipv4 => (ICMP, self.unreachable(3, 0)),
            Refusal::NoHost if is_ipv4 => (ICMP, self.unreachable(3, 1)),
            Refusal::NoNetwork => (ICMPV6, self.unreachable(1, 0)),
            Refusal::NoHost => (ICMPV6, self.unreachable(1, 3)),
        };
        // ICMP of IPv4 alone sums up nothing but itself.
        let pseudo = if protocol == ICMP { Vec::new() } else { self.pseudo_header(protocol, body.len()) };
        let sum = checksum(&[&pseudo, &body]);
        put(&mut body, if protocol == TCP { 16 } else { 2 }, sum);
        let mut packet = self.header_back(protocol, body.len());
        packet.extend(body);
        self.frame(&packet)
    }

    /// A reset that answers the SYN, yet without its checksum.
    fn reset(&self) -> Vec<u8> {
        let segment = &self.packet[self.header..];
        let sequence = u32::from_be_bytes(*segment[4..].first_chunk().expect("a header has been parsed"));
        let mut reset = [self.to.port().to_be_bytes(), self.from.port().to_be_bytes()].concat();
        reset.extend([0; 4]);
        reset.extend(sequence.wrapping_add(1).to_be_bytes());
        // Five words of header, and no window.
        reset.extend([5 << 4, RST | ACK, 0, 0, 0, 0, 0, 0]);
        reset
    }

    /// A message of ICMP that quotes the SYN, yet without its checksum.
    fn unreachable(&self, kind: u8, code: u8) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
        message.extend(&self.packet[..self.packet.len().min(QUOTED)]);
        message
    }

    /// The header of IP for an answer.
    fn header_back(&self, protocol: u8, length: usize) -> Vec<u8> {
        const HOPS: u8 = 64;
        let long =
            |bytes: usize| u16::try_from(bytes).expect("an answer is shorter than a frame").to_be_bytes();
        match (self.to.ip(), self.from.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [high, low] = long(IPV4_HEADER + length);
                // Not to be fragmented, so that it needs no number.
                let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, protocol, 0, 0];
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = checksum(&[&header]);
                put(&mut header, 10, sum);
                header
            }
            (source, destination) => {
                let [high, low] = long(length);
                let mut header = vec![0x60, 0, 0, 0, high, low, protocol, HOPS];
                header.extend(octets(source));
                header.extend(octets(destination));
                header
            }
        }
    }

    /// What the checksums of TCP and of ICMP for IPv6 count besides their own bytes. Its fields are of another order
    /// and width for IPv4, but the sum is the same.
    fn pseudo_header(&self, protocol: u8, length: usize) -> Vec<u8> {
        let length = u32::try_from(length).expect("a packet is shorter than a frame");
        let mut bytes = octets(self.from.ip());
        bytes.extend(octets(self.to.ip()));
        bytes.extend(length.to_be_bytes());
        bytes.extend(u32::from(protocol).to_be_bytes());
        bytes
    }

    fn frame(&self, packet: &[u8]) -> Vec<u8> {
        let kind = if self.to.is_ipv4() { IPV4 } else { IPV6 };
        let mut frame = vec![0; LINK_HEADER - 2];
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        frame
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

fn put(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// RFC 1071, over parts of which all but the last are of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 =
        words.map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(sum).expect("carries have been added twice")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    /// SYNs as the kernel sends them over loopback, but with the checksums that it leaves out.
    const FOUR: &str = "0800 4500003c2d6e400040060f4c7f0000017f000001 \
        d4f0d923574bedbd00000000a002ffd7fcfb00000204ffd70402080a563009b5000000000103030a";
    const SIX: &str = "86dd 6005ba4c002806400000000000000000000000000000000100000000000000000000000000000001 \
        b2b68317a32cbb3c00000000a002ffc48c9c00000204ffc40402080aa42e8923000000000103030a";

    fn frame(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        [vec![0; 12], digits.chunks(2).map(byte).collect()].concat()
    }

    #[test]
    fn a_knock_is_read_and_let_in_with_its_checksum() {
        for (text, address, ports) in [(FOUR, "127.0.0.1", (54_512, 55_587)), (SIX, "::1", (45_750, 33_559))]
        {
            let whole = frame(text);
            let mut seen = whole.clone();
            let at = seen.len() - 24;
            put(&mut seen, at, 0xfe30);
            let knock = Knock::parse(&seen).unwrap();
            let address: IpAddr = address.parse().unwrap();
            assert_eq!((knock.from, knock.to), ((address, ports.0).into(), (address, ports.1).into()));
            assert_eq!(knock.let_in(), whole);
        }
    }

    #[test]
    fn a_refusal_answers_the_knock() {
        for (text, header) in [(FOUR, IPV4_HEADER), (SIX, IPV6_HEADER)] {
            let knock = Knock::parse(&frame(text)).unwrap();
            let reset = &knock.refuse(Refusal::Refused)[LINK_HEADER + header..];
            assert_eq!(reset.len(), TCP_HEADER);
            assert_eq!((word(reset, 0), word(reset, 2)), (Some(knock.to.port()), Some(knock.from.port())));
            assert_eq!(
                reset[8..14],
                [&knock.packet[header + 4..header + 7], &[knock.packet[header + 7] + 1, 0x50, 0x14]].concat()
            );
            assert_eq!(checksum(&[&knock.pseudo_header(TCP, reset.len()), reset]), 0);
            for (why, of_four, of_six) in
                [(Refusal::NoNetwork, [3, 0], [1, 0]), (Refusal::NoHost, [3, 1], [1, 3])]
            {
                let answer = knock.refuse(why);
                let message = &answer[LINK_HEADER + header..];
                let (kind, pseudo) = match header {
                    IPV4_HEADER => (of_four, Vec::new()),
                    _ => (of_six, knock.pseudo_header(ICMPV6, message.len())),
                };
                assert_eq!(message[..2], kind);
                assert_eq!(message[8..], knock.packet);
                assert_eq!(checksum(&[&pseudo, message]), 0);
            }
        }
        let four = Knock::parse(&frame(FOUR)).unwrap().refuse(Refusal::NoHost);
        assert_eq!(checksum(&[&four[LINK_HEADER..LINK_HEADER + IPV4_HEADER]]), 0);
    }

    #[test]
    fn nothing_that_a_program_can_send_confuses_it() {
        let mut below = random();
        let mut knocks = 0;
        for turn in 0..100_000 {
            let mut bytes = frame(if turn % 2 == 0 { FOUR } else { SIX });
            for _ in 0..below(4) {
                let at = below(bytes.len());
                bytes[at] = below(256).to_le_bytes()[0];
            }
            bytes.truncate(bytes.len().saturating_sub(below(3) * below(40)));
            bytes.resize(bytes.len() + below(2) * below(MAX_FRAME - bytes.len()), 0);
            let Some(knock) = Knock::parse(&bytes) else { continue };
            knocks += 1;
            assert_eq!(knock.let_in().len(), LINK_HEADER + knock.packet.len());
            for why in [Refusal::Refused, Refusal::NoNetwork, Refusal::NoHost] {
                assert!(knock.refuse(why).len() <= LINK_HEADER + IPV6_HEADER + 8 + QUOTED);
            }
        }
        assert!(knocks > 10_000);
    }

    #[test]
    fn what_is_no_knock_is_none() {
        let (four, six) = (frame(FOUR), frame(SIX));
        for (frame, at, value) in [
            (&four, 12, 0x09),
            (&four, LINK_HEADER, 0x44),
            (&four, LINK_HEADER, 0x4f),
            (&four, LINK_HEADER + 9, 17),
            (&four, LINK_HEADER + IPV4_HEADER + 13, SYN | ACK),
            (&four, LINK_HEADER + IPV4_HEADER + 13, ACK),
            (&six, LINK_HEADER + 6, 43),
            (&six, LINK_HEADER + 4, 1),
        ] {
            assert!(Knock::parse(frame).is_some());
            let mut other = frame.clone();
            other[at] = value;
            assert_eq!(Knock::parse(&other), None, "{at} {value}");
        }
    }
}
