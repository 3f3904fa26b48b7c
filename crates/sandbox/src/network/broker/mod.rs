//! The broker: hears that the program wants to connect, makes the real connection, lets the program in, and relays.
//! One thread, one loop, nothing in it waits but the loop itself.
//!
//! It reads no byte of what it relays, and of the program's kernel only who knocks where (`knock`).

mod wait;

use std::io::{self, Read};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use model::network::Host;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, acceptfrom_with, recv, send, sockopt};

use self::wait::Ready;
use crate::exit::{NetworkUse, Unreached};
use crate::message;
use crate::network::bucket::Bucket;
use crate::network::connection::{self, Both, Connection, Life, Sides, Stage};
use crate::network::knock::{Knock, MAX_FRAME, Refusal};
use crate::network::reach::may_connect;
use crate::network::resolver::{Answer, Names};
use crate::network::start::Order;
use crate::network::{NetworkSetup, inside};

/// Most connections of a subjob at one time. The knocks of more wait in the tap, and then in the program's kernel.
pub(super) const MAX_CONNECTIONS: usize = 128;

/// How long a connection may take to be made; the kernel's own limit is about two minutes.
const CONNECT_TIME: Duration = Duration::from_secs(60);

/// How long the addresses of a name may take to be found.
const RESOLVE_TIME: Duration = Duration::from_secs(20);

/// How long a program that is let in may take to come, which its kernel does by itself and at once. One that has given
/// up meanwhile doesn't.
const ENTRY_TIME: Duration = Duration::from_secs(5);

/// Most knocks in a turn, those of no concern included.
const MAX_KNOCKS: usize = 64;

/// How long what a program has sent before its end may still be on its way.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Most different failures that are told apart in the report.
const MAX_UNREACHED: usize = 32;

pub(super) struct Broker {
    setup: NetworkSetup,
    /// To init and, while the sandbox is built, to the VM Portal.
    link: UnixStream,
    names: Names,
    /// Where the knocks come in and the answers go out, until the program has ended.
    tap: Option<OwnedFd>,
    /// One for each route, until the program has ended.
    listeners: Vec<OwnedFd>,
    connections: Vec<Connection>,
    buckets: Option<Both<Bucket>>,
    used: NetworkUse,
    begun: Instant,
    /// When to give up what is still on its way, once the program has ended.
    give_up: Option<Duration>,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Turn,
    Report,
}

impl Broker {
    /// Takes the tap and the listeners from the VM Portal, one of these for each route.
    ///
    /// # Errors
    /// When the VM Portal is gone.
    pub(super) fn new(setup: NetworkSetup, link: UnixStream, names: Names) -> io::Result<Self> {
        let tap = message::receive_file(&link)?;
        let listeners =
            setup.routes.iter().map(|_| message::receive_file(&link)).collect::<Result<_, _>>()?;
        let bucket = |rate| Bucket::new(rate, Duration::ZERO);
        let buckets = setup.rate.map(|rate| Both { out: bucket(rate.0), back: bucket(rate.0) });
        Ok(Broker {
            setup,
            link,
            names,
            tap: Some(tap),
            listeners,
            connections: Vec::new(),
            buckets,
            used: NetworkUse::default(),
            begun: Instant::now(),
            give_up: None,
        })
    }

    /// Serves until the program has ended and what it sent has arrived, and reports to init.
    ///
    /// # Errors
    /// When init is gone, or the loop can't wait.
    pub(super) fn serve(mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            // First, because what follows may change which connections there are.
            self.move_on(&ready);
            if ready.names {
                self.hear();
            }
            // Whoever has been let in comes first: it may have the place that another one knocks for.
            ready.listeners.iter().for_each(|route| self.accept(*route));
            if ready.tap {
                self.hear_knocks();
            }
            if ready.link && self.obey()? == Next::Report {
                return self.report();
            }
            if self.give_up.is_some_and(|at| self.connections.is_empty() || self.now() >= at) {
                return self.report();
            }
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Does what init says. Its end is ours.
    fn obey(&mut self) -> io::Result<Next> {
        let mut order = [0];
        self.link.read_exact(&mut order)?;
        match Order::from_byte(order[0]) {
            Some(Order::Finish) => {
                // A program may connect, send and end before we have had a turn.
                (0..self.listeners.len()).for_each(|route| self.accept(route));
                self.listeners.clear();
                self.tap = None;
                self.connections.retain(|connection| matches!(connection.stage, Stage::Relaying(_)));
                self.give_up = Some(self.now() + DRAIN_TIME);
                Ok(Next::Turn)
            }
            Some(Order::Stop) | None => Ok(Next::Report),
        }
    }

    /// Resets what is still open, as a kernel does with the sockets of a program that it kills.
    fn report(mut self) -> io::Result<()> {
        for connection in mem::take(&mut self.connections) {
            connection.reset();
        }
        message::write(&mut self.link, &self.used)
    }

    /// Begins what the program's knocks ask for.
    fn hear_knocks(&mut self) {
        let mut frame = [0; MAX_FRAME];
        for _ in 0..MAX_KNOCKS {
            let Some(tap) = self.tap.as_ref().filter(|_| self.connections.len() < MAX_CONNECTIONS) else {
                return;
            };
            // An error is that there is none, or that the interface is gone with all else.
            let Ok((length, _)) = recv(tap, &mut frame, RecvFlags::empty()) else { return };
            if let Some(knock) = Knock::parse(&frame[..length]) {
                self.hear_knock(knock);
            }
        }
    }

    fn hear_knock(&mut self, knock: Knock) {
        // A program's parts talk to one another too.
        let Some(route) = self.setup.routes.iter().position(|route| route.inside == knock.to) else { return };
        if let Some(known) = self.connections.iter_mut().find(|known| known.knock.is_of(&knock)) {
            known.knock = knock;
            if let (Stage::LetIn { .. }, Some(tap)) = (&known.stage, &self.tap) {
                answer(tap, &known.knock.let_in());
            }
            return;
        }
        let now = self.now();
        let mut connection = Connection::new(route, knock, now.saturating_add(RESOLVE_TIME));
        let addresses = match self.setup.routes[route].endpoint.host {
            Host::Address(address) => Some(vec![address]),
            Host::Name(_) => self.names.find(route, now),
        };
        let life = match addresses {
            Some(addresses) => self.connect(&mut connection, addresses),
            None => Life::Goes,
        };
        if life == Life::Goes {
            self.connections.push(connection);
        }
    }

    /// Takes in those who have been let in.
    fn accept(&mut self, route: usize) {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            // An error is that there is none, or none any more.
            let Ok((inside, from)) = acceptfrom_with(&self.listeners[route], flags) else { return };
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            let is_its = |connection: &Connection| {
                connection.route == route
                    && from.is_some_and(|from| connection.knock.comes_from(from))
                    && matches!(connection.stage, Stage::LetIn { .. })
            };
            match self.connections.iter().position(is_its) {
                Some(index) => self.begin_relay(index, inside),
                // It came too late.
                None => connection::reset_when_closed(&inside),
            }
        }
    }

    fn begin_relay(&mut self, index: usize, inside: OwnedFd) {
        let connection = &mut self.connections[index];
        match mem::replace(&mut connection.stage, Stage::Resolving) {
            Stage::LetIn { outside } => {
                if let Err(e) = connection.relay(inside, outside) {
                    let connection = self.connections.swap_remove(index);
                    self.fail(&connection, &e.into());
                }
            }
            stage => connection.stage = stage,
        }
    }

    /// Takes the resolver's answers, for all who wait for them.
    fn hear(&mut self) {
        let now = self.now();
        for Answer { route, found } in self.names.hear(now) {
            let route = usize::from(route);
            for mut connection in mem::take(&mut self.connections) {
                let waits = connection.route == route && matches!(connection.stage, Stage::Resolving);
                let life = match &found {
                    _ if !waits => Life::Goes,
                    Ok(addresses) => self.connect(&mut connection, addresses.clone()),
                    Err(why) => {
                        self.fail(&connection, &Failure { why: why.clone(), refusal: Refusal::NoHost })
                    }
                };
                if life == Life::Goes {
                    self.connections.push(connection);
                }
            }
        }
    }

    /// Begins to connect to the first of the addresses with which that can be begun.
    fn connect(&mut self, connection: &mut Connection, addresses: Vec<IpAddr>) -> Life {
        let port = self.setup.routes[connection.route].endpoint.port;
        let mut failure = Failure { why: "it has no address".to_owned(), refusal: Refusal::NoHost };
        let mut left = addresses.into_iter();
        while let Some(address) = left.next() {
            let NetworkSetup { routes, rate, nearby } = &self.setup;
            if !may_connect(address, port, connection::is_own, routes, *nearby) {
                let why = format!("it leads to {address}, which is this machine or its own link");
                failure = Failure { why, refusal: Refusal::Refused };
                continue;
            }
            let buffer = rate.map(inside::buffer_size);
            match connection::begin(SocketAddr::new(address, port), buffer) {
                Ok(outside) => {
                    connection.stage = Stage::Connecting { outside, addresses: left.collect() };
                    connection.deadline = Some(self.now() + CONNECT_TIME);
                    return Life::Goes;
                }
                Err(e) => failure = e.into(),
            }
        }
        self.fail(connection, &failure)
    }

    /// Lets every connection do what it can: those that are ready, and those whose time is over.
    fn move_on(&mut self, ready: &Ready) {
        let now = self.now();
        let mut allowance = ready.allowance;
        let mut connections = mem::take(&mut self.connections);
        // Whoever is served first may use up what may pass: each in turn.
        let turn = usize::from(self.buckets.is_some() && connections.len() > 1);
        for (mut connection, ready) in connections.drain(..).zip(&ready.connections) {
            let is_late = connection.deadline.is_some_and(|at| now >= at);
            let life = match &mut connection.stage {
                Stage::Resolving | Stage::Connecting { .. } if is_late => {
                    self.fail(&connection, &Errno::TIMEDOUT.into())
                }
                Stage::LetIn { .. } if is_late => {
                    connection.reset();
                    Life::Over
                }
                Stage::Connecting { .. } if ready.outside => self.finish_connect(&mut connection),
                Stage::Relaying(_) if ready.any() => self.relay(&mut connection, *ready, &mut allowance),
                Stage::Resolving | Stage::Connecting { .. } | Stage::LetIn { .. } | Stage::Relaying(_) => {
                    Life::Goes
                }
            };
            if life == Life::Goes {
                self.connections.push(connection);
            }
        }
        if !self.connections.is_empty() {
            self.connections.rotate_left(turn);
        }
    }

    fn finish_connect(&mut self, connection: &mut Connection) -> Life {
        let Stage::Connecting { outside, addresses } = mem::replace(&mut connection.stage, Stage::Resolving)
        else {
            return Life::Goes;
        };
        match sockopt::socket_error(&outside).and_then(|state| state) {
            Ok(()) => {
                connection.stage = Stage::LetIn { outside };
                connection.deadline = Some(self.now() + ENTRY_TIME);
                self.tap.iter().for_each(|tap| answer(tap, &connection.knock.let_in()));
                Life::Goes
            }
            Err(e) if addresses.is_empty() => self.fail(connection, &e.into()),
            Err(_) => self.connect(connection, addresses),
        }
    }

    fn relay(&mut self, connection: &mut Connection, ready: Sides, allowance: &mut Both<u64>) -> Life {
        let (moved, life) = connection.advance(ready, *allowance);
        self.used.sent += moved.out.passed;
        self.used.received += moved.back.passed;
        if let Some(buckets) = &mut self.buckets {
            buckets.out.take(moved.out.taken);
            buckets.back.take(moved.back.taken);
            allowance.out -= moved.out.taken;
            allowance.back -= moved.back.taken;
        }
        life
    }

    /// Notes why an endpoint was not reached, and lets the program's connect fail.
    fn fail(&mut self, connection: &Connection, failure: &Failure) -> Life {
        connection.reset();
        self.tap.iter().for_each(|tap| answer(tap, &connection.knock.refuse(failure.refusal)));
        let endpoint = self.setup.routes[connection.route].endpoint.to_string();
        let list = &mut self.used.unreached;
        match list.iter().position(|known| known.endpoint == endpoint && known.why == failure.why) {
            Some(known) => list[known].times = list[known].times.saturating_add(1),
            None if list.len() < MAX_UNREACHED => {
                list.push(Unreached { endpoint, why: failure.why.clone(), times: 1 });
            }
            None => (),
        }
        Life::Over
    }
}

/// Why an endpoint was not reached: for people, and for the program's kernel.
#[derive(Debug)]
struct Failure {
    why: String,
    refusal: Refusal,
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Failure { why: io::Error::from(error).to_string(), refusal: Refusal::of(error) }
    }
}

/// Answers a knock. Where it fails, the program's kernel knocks again.
fn answer(tap: &OwnedFd, frame: &[u8]) {
    let _ = send(tap, frame, SendFlags::empty());
}
