//! Starting the helpers, and init's side of what is said to them.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use model::network::Host;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::NetworkSetup;
use super::broker::{Broker, DRAIN_TIME};
use super::confine;
use super::resolver::{self, Names};
use crate::exit::NetworkUse;
use crate::identity::Identity;
use crate::message;
use crate::sys::{self, Fork};

/// How long the broker may take for its last report once it must not wait for the network any more: on a busy desktop
/// it waits for its turn.
const REPORT_TIME: Duration = Duration::from_secs(2);

/// What init tells the broker, a byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    /// The program has ended: deliver what it sent, then report.
    Finish = b'f',
    /// Report at once.
    Stop = b's',
}

impl Order {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Order::Finish, Order::Stop].into_iter().find(|order| *order as u8 == byte)
    }
}

/// Which process we are after [`split`].
#[derive(Debug)]
pub(crate) enum Role {
    Init(Link),
    Helper(Helper),
}

/// To the broker: for init, and for the VM Portal while it builds the sandbox.
#[derive(Debug)]
pub(crate) struct Link {
    socket: UnixStream,
}

/// A process that has nothing to do with the sandbox but what is in here.
#[derive(Debug)]
pub(crate) struct Helper {
    duty: Duty,
    setup: NetworkSetup,
    identity: Identity,
}

#[derive(Debug)]
enum Duty {
    Resolve { broker: UnixStream },
    Broker { link: UnixStream, resolver: Option<UnixStream> },
}

/// Forks the broker, and a resolver if there are names. They are in the namespaces of the caller, which must be the
/// host's, and hold every descriptor that it has: it should have few.
///
/// # Errors
/// What the kernel says.
pub(crate) fn split(setup: &NetworkSetup, identity: Identity) -> io::Result<Role> {
    let helper = |duty| Role::Helper(Helper { duty, setup: setup.clone(), identity });
    let mut resolver = None;
    if setup.routes.iter().any(|route| matches!(route.endpoint.host, Host::Name(_))) {
        let (ours, theirs) = UnixStream::pair()?;
        if let Fork::Child = sys::fork()? {
            return Ok(helper(Duty::Resolve { broker: theirs }));
        }
        resolver = Some(ours);
    }
    let (ours, theirs) = UnixStream::pair()?;
    match sys::fork()? {
        Fork::Child => Ok(helper(Duty::Broker { link: theirs, resolver })),
        Fork::Parent { .. } => Ok(Role::Init(Link { socket: ours })),
    }
}

impl Helper {
    /// Does what it is for. The caller's descriptors must be closed by now.
    pub(crate) fn run(self) -> ! {
        let status = match self.serve() {
            Ok(()) => 0,
            // Nobody listens: init sees the end of the socket, the program that connections end.
            Err(_) => 1,
        };
        sys::exit_now(status)
    }

    fn serve(self) -> io::Result<()> {
        confine::give_up_privileges(self.identity)?;
        match self.duty {
            Duty::Resolve { broker } => resolver::serve(broker, &self.setup.routes),
            Duty::Broker { link, resolver } => {
                confine::close_in()?;
                Broker::new(self.setup, link, Names::new(resolver))?.serve()
            }
        }
    }
}

impl Link {
    /// Hands the broker the listener of the next route.
    ///
    /// # Errors
    /// When the broker is gone.
    pub(super) fn send(&self, listener: impl AsFd) -> io::Result<()> {
        message::send_file(&self.socket, listener)
    }

    /// Has the broker deliver what is on its way, for as long as it takes and `channel` is open, and asks what was
    /// used. Nothing when the broker has died.
    pub(crate) fn finish(mut self, channel: &UnixStream) -> Option<NetworkUse> {
        self.order(Order::Finish).ok()?;
        wait_for_either(&self.socket, channel).ok()?;
        // It fails when the report has been sent already.
        let _ = self.order(Order::Stop);
        self.socket.set_read_timeout(Some(REPORT_TIME)).ok()?;
        message::read(&mut self.socket).ok()
    }

    fn order(&mut self, order: Order) -> io::Result<()> {
        self.socket.write_all(&[order as u8])
    }
}

/// Until the broker has reported or should have, or the client has cut the lifeline.
fn wait_for_either(broker: &UnixStream, channel: &UnixStream) -> rustix::io::Result<()> {
    // Orders that came too late for the VM Portal may still lie in the channel; only its end counts.
    let mut wanted = [PollFd::new(broker, PollFlags::IN), PollFd::new(channel, PollFlags::RDHUP)];
    let most = Timespec::try_from(DRAIN_TIME + REPORT_TIME).expect("seconds fit");
    loop {
        match poll(&mut wanted, Some(&most)) {
            Err(Errno::INTR) => (),
            result => return result.map(|_| ()),
        }
    }
}
