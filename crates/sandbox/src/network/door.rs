//! How a program's connect is held until the broker has made the real connection.
//!
//! ```text
//! connect() ──SYN──► lo ──copy──► tap, of the broker: a knock
//!                     └─► listener: its filter drops it, as a network that loses it
//!
//!           the real connection is made    the broker sends the SYN again, with a mark: the filter lets it in
//!           it can't be made               the broker sends what a host or a router sends: a reset, unreachable
//!           it takes long                  the kernel sends the SYN again and again, until the program's patience ends
//! ```
//! So `connect` gives what it would give outside, blocking or not, and no system call is intercepted for it. Only a
//! holder of `CAP_NET_ADMIN` or `CAP_NET_RAW` in the namespace can mark packets: the VM Portal before it gives both
//! up, and the tap that it made.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::loopback::LOOPBACK;
use crate::sys;

/// What the broker's own packets bear, so that they pass and are no knocks.
const MARK: u32 = 0x6463_6772;

/// Flags of TCP, in byte 13 of its header.
pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

type Instruction = libc::sock_filter;

const fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// Jumps over so many instructions.
const fn if_equal(k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: 0x15, jt, jf, k }
}

const fn load(offset: u32) -> Instruction {
    op(0x30, offset)
}

/// Place of the mark among what the machine knows of a packet.
const LOAD_MARK: Instruction = op(0x20, 0xffff_f000 + 20);
const FLAGS: Instruction = op(0x54, (SYN | ACK) as u32);
const PASS: Instruction = op(0x06, u32::MAX);
const DROP: Instruction = op(0x06, 0);

/// Of a listener, where a packet begins with the header of TCP: all but a SYN without the mark.
const HOLD: &[Instruction] =
    &[LOAD_MARK, if_equal(MARK, 3, 0), load(13), FLAGS, if_equal(SYN as u32, 1, 0), PASS, DROP];

/// Of the tap, where a packet begins with the link header: SYNs without the mark and nothing else. One that hides
/// behind extension headers of IPv6 is not seen, and so never let in.
const KNOCKS: &[Instruction] = &[
    LOAD_MARK,
    if_equal(MARK, 14, 0),
    op(0x28, 12),
    if_equal(0x86dd, 6, 0),
    if_equal(0x0800, 0, 11),
    // IPv4: its protocol, the length of its header, and the flags beyond that.
    load(14 + 9),
    if_equal(6, 0, 9),
    op(0xb1, 14),
    op(0x50, 14 + 13),
    op(0x05, 3),
    // IPv6.
    load(14 + 6),
    if_equal(6, 0, 4),
    load(14 + 40 + 13),
    FLAGS,
    if_equal(SYN as u32, 0, 1),
    PASS,
    DROP,
];

/// The broker's socket on the loopback interface.
///
/// # Errors
/// What the kernel says.
pub(super) fn open_tap() -> io::Result<OwnedFd> {
    sys::open_packet_socket(LOOPBACK, MARK, KNOCKS)
}

/// Has a listener wait for SYNs that the broker sends.
///
/// # Errors
/// What the kernel says.
pub(super) fn hold(listener: impl AsFd) -> io::Result<()> {
    sys::attach_filter(listener, HOLD)
}

/// For a connection that a listener has accepted, which has the listener's filter: it costs a little for each packet.
pub(super) fn forget(accepted: impl AsFd) {
    // Where it fails it goes on costing; it holds back nothing that a connection needs.
    let _ = sys::detach_filter(accepted);
}
