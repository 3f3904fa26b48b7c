//! The broker: accepts the program's connections, makes the real ones, and relays. One thread, one loop, nothing in
//! it waits but the loop itself.
//!
//! It reads no byte of what it relays, and nothing else that the subjob could choose: its whole input is that a
//! connection came to one of the job's own endpoints.

use std::io::{self, Read};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use model::network::Host;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};

use super::bucket::Bucket;
use super::connection::{self, Both, Connection, Life, Side, Sides, Stage};
use super::reach::may_connect;
use super::resolver::{Answer, Names};
use super::start::Order;
use super::{NetworkSetup, inside};
use crate::exit::{NetworkUse, Unreached};
use crate::message;

/// Most connections of a subjob at one time. More wait in the listeners' queues, and then outside of them.
pub(super) const MAX_CONNECTIONS: usize = 128;

/// How long a connection may take to be made; the kernel's own limit is about two minutes.
const CONNECT_TIME: Duration = Duration::from_secs(60);

/// How long the addresses of a name may take to be found.
const RESOLVE_TIME: Duration = Duration::from_secs(20);

/// How long what a program has sent before its end may still be on its way.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Most different failures that are told apart in the report.
const MAX_UNREACHED: usize = 32;

pub(super) struct Broker {
    setup: NetworkSetup,
    /// To init and, while the sandbox is built, to the VM Portal.
    link: UnixStream,
    names: Names,
    /// One for each route, until the program has ended.
    listeners: Vec<OwnedFd>,
    connections: Vec<Connection>,
    buckets: Option<Both<Bucket>>,
    used: NetworkUse,
    begun: Instant,
    /// When to give up what is still on its way, once the program has ended.
    give_up: Option<Duration>,
}

/// What the loop may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Link,
    Names,
    Listener(usize),
    Connection(usize, Side),
}

/// What can be done.
#[derive(Debug)]
struct Ready {
    link: bool,
    names: bool,
    listeners: Vec<usize>,
    /// The ready sides of each connection.
    connections: Vec<Sides>,
    /// Bytes that may be taken each way.
    allowance: Both<u64>,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Turn,
    Report,
}

impl Broker {
    /// Takes the listeners from the VM Portal, one for each route.
    ///
    /// # Errors
    /// When the VM Portal is gone.
    pub(super) fn new(setup: NetworkSetup, link: UnixStream, names: Names) -> io::Result<Self> {
        let listeners =
            setup.routes.iter().map(|_| message::receive_file(&link)).collect::<Result<_, _>>()?;
        let bucket = |rate| Bucket::new(rate, Duration::ZERO);
        let buckets = setup.rate.map(|rate| Both { out: bucket(rate.0), back: bucket(rate.0) });
        Ok(Broker {
            setup,
            link,
            names,
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
            ready.listeners.iter().for_each(|route| self.accept(*route));
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

    /// Waits until something can be done.
    fn wait(&mut self) -> io::Result<Ready> {
        let now = self.now();
        let allowance = self.allowance(now);
        let mut sources = vec![Source::Link];
        let mut wanted = vec![PollFd::new(&self.link, PollFlags::IN)];
        if let Some(socket) = self.names.socket() {
            sources.push(Source::Names);
            wanted.push(PollFd::new(socket, PollFlags::IN));
        }
        if self.connections.len() < MAX_CONNECTIONS {
            sources.extend((0..self.listeners.len()).map(Source::Listener));
            wanted.extend(self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        }
        for (index, connection) in self.connections.iter().enumerate() {
            for (side, descriptor, flags) in connection.wants(allowance) {
                sources.push(Source::Connection(index, side));
                wanted.push(PollFd::from_borrowed_fd(descriptor, flags));
            }
        }
        let timeout = self.timeout(now, allowance).map(|time| Timespec::try_from(time).expect("minutes fit"));
        match poll(&mut wanted, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(e) => return Err(e.into()),
        }
        let connections = vec![Sides::default(); self.connections.len()];
        let mut ready = Ready { link: false, names: false, listeners: Vec::new(), connections, allowance };
        for (source, wanted) in sources.into_iter().zip(&wanted) {
            match source {
                _ if wanted.revents().is_empty() => (),
                Source::Link => ready.link = true,
                Source::Names => ready.names = true,
                Source::Listener(route) => ready.listeners.push(route),
                Source::Connection(index, Side::Inside) => ready.connections[index].inside = true,
                Source::Connection(index, Side::Outside) => ready.connections[index].outside = true,
            }
        }
        Ok(ready)
    }

    /// Bytes that may be taken now.
    fn allowance(&mut self, now: Duration) -> Both<u64> {
        match &mut self.buckets {
            Some(buckets) => Both { out: buckets.out.available(now), back: buckets.back.available(now) },
            None => Both { out: u64::MAX, back: u64::MAX },
        }
    }

    /// Time until something is to be done that no descriptor tells.
    fn timeout(&self, now: Duration, allowance: Both<u64>) -> Option<Duration> {
        let deadlines =
            self.connections.iter().filter_map(|connection| connection.deadline).chain(self.give_up);
        let deadline = deadlines.min().map(|at| at.saturating_sub(now));
        let buckets = self.buckets.as_ref().filter(|_| !self.connections.is_empty());
        let out = buckets.filter(|_| allowance.out == 0).map(|buckets| buckets.out.wait());
        let back = buckets.filter(|_| allowance.back == 0).map(|buckets| buckets.back.wait());
        [deadline, out, back].into_iter().flatten().min()
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

    fn accept(&mut self, route: usize) {
        while self.connections.len() < MAX_CONNECTIONS {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            // An error is that there is none, or none any more.
            let Ok(inside) = accept_with(&self.listeners[route], flags) else { return };
            let now = self.now();
            let mut connection =
                Connection::new(route, inside, Stage::Resolving, now.saturating_add(RESOLVE_TIME));
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
                    Err(why) => self.fail(&connection, why.clone()),
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
        let mut why = "it has no address".to_owned();
        let mut left = addresses.into_iter();
        while let Some(address) = left.next() {
            let NetworkSetup { routes, rate, nearby } = &self.setup;
            if !may_connect(address, port, connection::is_own, routes, *nearby) {
                why = format!("it leads to {address}, which is this machine or its own link");
                continue;
            }
            let buffer = rate.map(inside::buffer_size);
            match connection::begin(SocketAddr::new(address, port), buffer) {
                Ok(outside) => {
                    connection.stage = Stage::Connecting { outside, addresses: left.collect() };
                    connection.deadline = Some(self.now() + CONNECT_TIME);
                    return Life::Goes;
                }
                Err(e) => why = text(e),
            }
        }
        self.fail(connection, why)
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
                    self.fail(&connection, text(Errno::TIMEDOUT))
                }
                Stage::Connecting { .. } if ready.outside => self.finish_connect(&mut connection),
                Stage::Relaying(_) if ready.any() => self.relay(&mut connection, *ready, &mut allowance),
                Stage::Resolving | Stage::Connecting { .. } | Stage::Relaying(_) => Life::Goes,
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
            Ok(()) => match connection.relay(outside) {
                Ok(()) => Life::Goes,
                Err(e) => self.fail(connection, text(e)),
            },
            Err(e) if addresses.is_empty() => self.fail(connection, text(e)),
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

    /// Notes why an endpoint was not reached, and lets the program see that it wasn't.
    fn fail(&mut self, connection: &Connection, why: String) -> Life {
        connection.reset();
        let endpoint = self.setup.routes[connection.route].endpoint.to_string();
        let list = &mut self.used.unreached;
        match list.iter().position(|known| known.endpoint == endpoint && known.why == why) {
            Some(known) => list[known].times = list[known].times.saturating_add(1),
            None if list.len() < MAX_UNREACHED => list.push(Unreached { endpoint, why, times: 1 }),
            None => (),
        }
        Life::Over
    }
}

fn text(error: Errno) -> String {
    io::Error::from(error).to_string()
}
