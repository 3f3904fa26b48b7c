//! The VM Portal's end of the channel to the client (§4.2.1): orders come by it, reports go by it, and its end or its
//! silence is the client's.
//!
//! A client that hangs doesn't empty the channel either. So nothing here waits for it longer than its silence may last.

use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::step::{StepError, step};
use crate::heartbeat::Heartbeat;
use crate::message::{self, Order, Report};

/// How long a report may take that comes when the silence has lasted long enough already: there may be a last word to
/// say to one that was only slow.
const FAREWELL: Duration = Duration::from_millis(200);

/// Most orders taken at one time.
const BATCH: usize = 64;

pub(super) struct Lifeline<'a> {
    channel: &'a UnixStream,
    heartbeat: Heartbeat,
    /// Set when the client did not take a report to its end: it would take another for the rest of that one.
    is_mute: bool,
}

impl<'a> Lifeline<'a> {
    /// A lifeline to a client that is there now.
    pub(super) fn new(channel: &'a UnixStream) -> Self {
        Lifeline { channel, heartbeat: Heartbeat::new(Instant::now()), is_mute: false }
    }

    /// How much longer the client may be silent.
    pub(super) fn left(&self) -> Duration {
        self.heartbeat.left(Instant::now())
    }

    /// What the client has said, when the channel is readable; nothing when it is gone or wants the end.
    pub(super) fn hear(&mut self) -> Option<Vec<Order>> {
        let mut orders = [0; BATCH];
        match (&mut &*self.channel).read(&mut orders) {
            Ok(length @ 1..) => {
                self.heartbeat.hear(Instant::now());
                Some(orders[..length].iter().filter_map(|byte| Order::from_byte(*byte)).collect())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Some(Vec::new()),
            Ok(_) | Err(_) => None,
        }
    }

    /// How long the client has been silent, if that is so long that it hangs. What it has sent and we, who were busy,
    /// have not read yet is no silence.
    pub(super) fn silence(&self) -> Result<Option<Duration>, StepError> {
        if !self.heartbeat.is_lost(Instant::now()) {
            return Ok(None);
        }
        let mut channel = [PollFd::new(self.channel, PollFlags::IN)];
        let unread =
            step("look at the channel", rustix::event::poll(&mut channel, Some(&Timespec::default())))?;
        Ok((unread == 0).then(|| self.heartbeat.limit()))
    }

    /// Says that we are there, if it is time to.
    pub(super) fn beat(&mut self) {
        if self.heartbeat.take_due(Instant::now()) {
            self.report(&Report::Beat);
        }
    }

    /// Tells the client something. If it is gone, the channel says so at the next turn.
    pub(super) fn report(&mut self, what: &Report) {
        if self.is_mute {
            return;
        }
        let until = Instant::now() + self.left().max(FAREWELL);
        self.is_mute = message::write(&mut Patient { channel: self.channel, until }, what).is_err();
    }
}

/// Writes as long as there is time, however many times a writer begins again after a part.
struct Patient<'a> {
    channel: &'a UnixStream,
    until: Instant,
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.channel.set_write_timeout(Some(left))?;
        (&*self.channel).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Lifeline<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_nothing_holds_nobody_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut lifeline = Lifeline::new(&ours);
        let large = Report::Crash { frame: vec![7; 64 << 10] };
        let begun = Instant::now();
        while !lifeline.is_mute {
            lifeline.report(&large);
        }
        let limit = lifeline.heartbeat.limit();
        assert!(lifeline.silence().unwrap() == Some(limit) && begun.elapsed() >= limit);
        lifeline.report(&large);
        assert!(begun.elapsed() < limit + Duration::from_millis(500), "{:?}", begun.elapsed());

        // It was only slow, and has sent something that we have not read.
        theirs.write_all(&[Order::Beat as u8, Order::Stop as u8]).unwrap();
        assert_eq!(lifeline.silence().unwrap(), None);
        assert_eq!(lifeline.hear(), Some(vec![Order::Beat, Order::Stop]));
        assert!(lifeline.left() > limit / 2);
        drop(theirs);
        assert_eq!(lifeline.hear(), None);
    }
}
