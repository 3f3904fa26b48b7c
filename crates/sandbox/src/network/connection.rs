//! One connection of the program, from its knock to its end on both sides.
//!
//! ```text
//! knocked ──a name──► resolving ──addresses──► connecting ──made──► let in ──accepted──► relaying ──ended──► over
//!     └─────────────an address──────────────────▲    └── next address ─┘
//!            resolving, connecting ──none left──► over, and the program's connect fails
//!                                  let in ──the program has gone meanwhile──► over
//! ```

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};

use super::door;
use super::flow::{Flow, Moved, Progress};
use super::knock::Knock;

#[derive(Debug)]
pub(super) struct Connection {
    /// Which of the routes it takes.
    pub route: usize,
    /// The newest: the program's kernel repeats it until it is answered.
    pub knock: Knock,
    pub stage: Stage,
    /// When the stage has lasted too long, if it may.
    pub deadline: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Stage {
    Resolving,
    Connecting {
        outside: OwnedFd,
        /// To try next.
        addresses: Vec<IpAddr>,
    },
    /// The program's kernel may complete its connection, which a listener then has.
    LetIn {
        outside: OwnedFd,
    },
    Relaying(Relay),
}

/// The program's bytes go out, the endpoint's come back.
#[derive(Debug)]
pub(super) struct Relay {
    /// To the program.
    inside: OwnedFd,
    outside: OwnedFd,
    out: Flow,
    back: Flow,
}

/// Bytes that may pass, or did, out and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Both<T> {
    pub out: T,
    pub back: T,
}

/// Which of a connection's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Inside,
    Outside,
}

/// Those that are ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sides {
    pub inside: bool,
    pub outside: bool,
}

impl Sides {
    pub(super) fn any(self) -> bool {
        self.inside || self.outside
    }
}

/// Whether there will be more of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Goes,
    Over,
}

impl Connection {
    pub(super) fn new(route: usize, knock: Knock, deadline: Duration) -> Self {
        Connection { route, knock, stage: Stage::Resolving, deadline: Some(deadline) }
    }

    /// The descriptors to wait for, while so many bytes may pass.
    pub(super) fn wants(&self, allowance: Both<u64>) -> Vec<(Side, BorrowedFd<'_>, PollFlags)> {
        match &self.stage {
            Stage::Resolving | Stage::LetIn { .. } => Vec::new(),
            Stage::Connecting { outside, .. } => vec![(Side::Outside, outside.as_fd(), PollFlags::OUT)],
            Stage::Relaying(relay) => {
                let flags = |read: bool, write: bool| {
                    let read = if read { PollFlags::IN } else { PollFlags::empty() };
                    let write = if write { PollFlags::OUT } else { PollFlags::empty() };
                    read | write
                };
                let may = |flow: &Flow, allowance| flow.wants_to_read() && allowance > 0;
                let inside = flags(may(&relay.out, allowance.out), relay.back.wants_to_write());
                let outside = flags(may(&relay.back, allowance.back), relay.out.wants_to_write());
                let both = [
                    (Side::Inside, relay.inside.as_fd(), inside),
                    (Side::Outside, relay.outside.as_fd(), outside),
                ];
                // One that nothing is wanted of is left out: its hanging up would be reported for ever.
                both.into_iter().filter(|(_, _, flags)| !flags.is_empty()).collect()
            }
        }
    }

    /// A listener has accepted the program's end: bytes can flow.
    ///
    /// # Errors
    /// When there are too many pipes.
    pub(super) fn relay(&mut self, inside: OwnedFd, outside: OwnedFd) -> rustix::io::Result<()> {
        let flows = Flow::new().and_then(|out| Ok((out, Flow::new()?)));
        let (out, back) = flows.inspect_err(|_| reset_when_closed(&inside))?;
        // Bytes that wait here would wait twice. Where it fails, they do.
        let _ = sockopt::set_tcp_nodelay(&inside, true);
        door::forget(&inside);
        self.stage = Stage::Relaying(Relay { inside, outside, out, back });
        self.deadline = None;
        Ok(())
    }

    /// Moves what can be moved without waiting, now that one or both ends are ready.
    pub(super) fn advance(&mut self, ready: Sides, allowance: Both<u64>) -> (Both<Moved>, Life) {
        let Stage::Relaying(Relay { inside, outside, out, back }) = &mut self.stage else {
            return (Both::default(), Life::Goes);
        };
        let mut moved = Both::default();
        // Which end is ready for what is not told apart; a flow that has nothing to pass is about its sender only.
        if ready.inside || out.wants_to_write() {
            moved.out = out.advance(&*inside, &*outside, allowance.out);
        }
        if ready.outside || back.wants_to_write() {
            moved.back = back.advance(&*outside, &*inside, allowance.back);
        }
        match (out.progress(), back.progress()) {
            (Progress::Closed, Progress::Closed) => (moved, Life::Over),
            // What an end that takes no more has sent before is still passed on, until it ends by itself.
            (Progress::Runs, other) | (other, Progress::Runs) if other != Progress::SenderGone => {
                (moved, Life::Goes)
            }
            // One end was reset, so must the other be.
            _ => {
                self.reset();
                (moved, Life::Over)
            }
        }
    }

    /// Makes its ends, when they are closed, tell their peers by a reset that something went wrong.
    pub(super) fn reset(&self) {
        match &self.stage {
            Stage::Relaying(relay) => [&relay.inside, &relay.outside].into_iter().for_each(reset_when_closed),
            Stage::LetIn { outside } => reset_when_closed(outside),
            Stage::Resolving | Stage::Connecting { .. } => (),
        }
    }
}

pub(super) fn reset_when_closed(socket: impl AsFd) {
    // Where it fails, the peer sees an end in place of a reset.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Begins to connect to an address from the host's network. The socket is never the program's.
///
/// # Errors
/// What the kernel says at once.
pub(super) fn begin(address: SocketAddr, buffer: Option<usize>) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // The program's own probes end at us: a peer that vanished must be noticed here.
    sockopt::set_socket_keepalive(&socket, true)?;
    if let Some(bytes) = buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e),
    }
}

/// Whether an address is one of this machine: the kernel would then send from that very address.
pub(super) fn is_own(address: IpAddr) -> bool {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let found = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).and_then(|probe| {
        // Connecting a datagram socket sends nothing; the port is of no matter.
        connect(&probe, &SocketAddr::new(address, 9))?;
        SocketAddr::try_from(rustix::net::getsockname(&probe)?)
    });
    found.is_ok_and(|own| own.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_knows_its_own_addresses() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        // Set aside for documentation, so that no machine has it.
        assert!(!is_own("203.0.113.77".parse().unwrap()));
    }
}
