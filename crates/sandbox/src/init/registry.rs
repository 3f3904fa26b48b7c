//! Where the processes of a subjob register (§4.2.1): a socket in the subjob's network namespace, to which the portal
//! loader sends a datagram when a process starts and when it crashes.
//!
//! Anybody in the subjob can send anything. So nothing is believed but the sender's id, which is the kernel's; what is
//! kept is a count and the last crash; and however much comes, the VM Portal has a rest after every few.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use portal_loader::frame::{ADDRESS, Frame, MAX_FRAME};
use rustix::io::IoSliceMut;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketAddrUnix,
    SocketFlags, SocketType, bind, recvmsg, socket_with,
};

use super::step::{StepError, step};

/// Most datagrams taken before the rest; about as many as the kernel keeps for a socket.
const BATCH: u32 = 16;

/// How long nothing is taken after that: a flood then costs no more than some hundredths of a processor.
const REST: Duration = Duration::from_millis(2);

/// The socket, and what has come by it.
pub(super) struct Registry {
    socket: OwnedFd,
    buffer: Vec<u8>,
    registered: u32,
    crash: Option<Crash>,
    /// Until when nothing is taken.
    rest: Option<Instant>,
}

struct Crash {
    process: i32,
    frame: Vec<u8>,
}

impl Registry {
    /// Opens the socket; before the program starts, so that it can't take the name.
    pub(super) fn open() -> Result<Self, StepError> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = step("make the registry's socket", socket_with(family, kind, flags, None))?;
        step("ask for the ids of senders", set_socket_passcred(&socket, true))?;
        let name = ADDRESS.strip_prefix(&[0]).unwrap_or(ADDRESS);
        let address = SocketAddrUnix::new_abstract_name(name);
        let address = step("name the registry's socket", address)?;
        step("open the registry", bind(&socket, &address))?;
        Ok(Registry { socket, buffer: Vec::new(), registered: 0, crash: None, rest: None })
    }

    /// The socket to wait for, or for how long to wait for nothing.
    pub(super) fn wanted(&self) -> Result<&OwnedFd, Duration> {
        match self.rest.map(|rest| rest.saturating_duration_since(Instant::now())) {
            Some(left) if !left.is_zero() => Err(left),
            _ => Ok(&self.socket),
        }
    }

    /// Takes what has come, but no more than a batch.
    pub(super) fn receive(&mut self) {
        for _ in 0..BATCH {
            if !self.receive_one() {
                return;
            }
        }
        self.rest = Some(Instant::now() + REST);
    }

    /// Takes one datagram; false when there is none.
    fn receive_one(&mut self) -> bool {
        self.buffer.resize(MAX_FRAME, 0);
        // No room for descriptors: the kernel closes those that somebody sends.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let Ok(received) = recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::DONTWAIT) else {
            return false;
        };
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid.as_raw_nonzero().get()),
            _ => None,
        });
        let whole = !received.flags.contains(ReturnFlags::TRUNC);
        let bytes = self.buffer.get(..received.bytes).filter(|_| whole).unwrap_or_default();
        match (Frame::read(bytes), sender) {
            (Some(Frame::Started { .. }), Some(_)) => self.registered = self.registered.saturating_add(1),
            // A process that dies of a second fault while it deals with the first is told of by the first.
            (Some(Frame::Crashed(_)), Some(process))
                if self.crash.as_ref().is_none_or(|crash| crash.process != process) =>
            {
                self.crash = Some(Crash { process, frame: bytes.to_vec() });
            }
            _ => (),
        }
        true
    }

    /// When every process has ended: how many had registered, and the last crash.
    pub(super) fn drain(&mut self) -> (u32, Option<Vec<u8>>) {
        while self.receive_one() {}
        (self.registered, self.crash.take().map(|crash| crash.frame))
    }
}
