//! What the broker waits for in a turn of its loop.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Broker, MAX_CONNECTIONS};
use crate::network::connection::{Both, Side, Sides};

/// What the loop may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Link,
    Names,
    Tap,
    Listener(usize),
    Connection(usize, Side),
}

/// What can be done.
#[derive(Debug)]
pub(super) struct Ready {
    pub link: bool,
    pub names: bool,
    pub tap: bool,
    pub listeners: Vec<usize>,
    /// The ready sides of each connection.
    pub connections: Vec<Sides>,
    /// Bytes that may be taken each way.
    pub allowance: Both<u64>,
}

impl Broker {
    /// Waits until something can be done.
    pub(super) fn wait(&mut self) -> io::Result<Ready> {
        let now = self.now();
        let allowance = self.allowance(now);
        let mut sources = vec![Source::Link];
        let mut wanted = vec![PollFd::new(&self.link, PollFlags::IN)];
        if let Some(socket) = self.names.socket() {
            sources.push(Source::Names);
            wanted.push(PollFd::new(socket, PollFlags::IN));
        }
        if let Some(tap) = self.tap.as_ref().filter(|_| self.connections.len() < MAX_CONNECTIONS) {
            sources.push(Source::Tap);
            wanted.push(PollFd::new(tap, PollFlags::IN));
        }
        sources.extend((0..self.listeners.len()).map(Source::Listener));
        wanted.extend(self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
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
        let mut ready =
            Ready { link: false, names: false, tap: false, listeners: Vec::new(), connections, allowance };
        for (source, wanted) in sources.into_iter().zip(&wanted) {
            match source {
                _ if wanted.revents().is_empty() => (),
                Source::Link => ready.link = true,
                Source::Names => ready.names = true,
                Source::Tap => ready.tap = true,
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
}
