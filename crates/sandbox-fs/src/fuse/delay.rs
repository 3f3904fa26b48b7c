//! Requests that wait for their turn because the throttle says so: a READ before it is performed, the answer to a
//! WRITE that was performed already. One thread serves them all; those that read requests never wait.
//!
//! The queue is bounded by what the kernel has under way: [`super::dispatch`]'s bound on requests in the background,
//! and one for each thread of the subjob that waits itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::reply::Answer;
use crate::operations::Ino;

/// What is to be done when the time has come.
#[derive(Debug)]
pub(super) enum Delayed {
    Read { ino: Ino, offset: u64, size: usize },
    Answer(Answer<'static>),
}

/// One of them, with where its answer goes.
#[derive(Debug)]
pub(super) struct Waiting {
    pub unique: u64,
    /// Index of the device that the request came from.
    pub device: usize,
    pub delayed: Delayed,
}

impl Waiting {
    fn is_read(&self) -> bool {
        matches!(self.delayed, Delayed::Read { .. })
    }
}

/// What became of a request that is to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    Waits,
    /// It was interrupted already.
    Interrupted,
}

/// Numbers of interrupted requests that are remembered; many more than there are threads between which they can pass
/// each other.
const INTERRUPTED: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Delays {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By due time, and unique number in case of a tie.
    queue: BTreeMap<(Instant, u64), Waiting>,
    /// Requests that were interrupted while another thread was about to put them here, or was done with them. No
    /// number comes twice, so old ones do no harm.
    interrupted: VecDeque<u64>,
    closed: bool,
}

impl Delays {
    /// Takes a request in, unless it is a READ that was interrupted before it came here.
    pub fn add(&self, due: Instant, waiting: Waiting) -> Added {
        let mut state = self.lock();
        if waiting.is_read() && state.interrupted.contains(&waiting.unique) {
            return Added::Interrupted;
        }
        state.queue.insert((due, waiting.unique), waiting);
        self.changed.notify_one();
        Added::Waits
    }

    /// Takes back a READ that was not performed yet, now or when it comes. What was performed stays: its answer is the
    /// truth.
    pub fn interrupt(&self, unique: u64) -> Option<Waiting> {
        let mut state = self.lock();
        let is_it = |waiting: &Waiting| waiting.unique == unique;
        let Some((&key, waiting)) = state.queue.iter().find(|(_, waiting)| is_it(waiting)) else {
            if state.interrupted.len() == INTERRUPTED {
                state.interrupted.pop_front();
            }
            state.interrupted.push_back(unique);
            return None;
        };
        if waiting.is_read() { state.queue.remove(&key) } else { None }
    }

    /// The next whose time has come, as soon as it has; nothing when the queue is closed.
    pub fn next(&self) -> Option<Waiting> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let Some(entry) = state.queue.first_entry() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = entry.key().0.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(entry.remove());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Nobody waits for an answer any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(unique: u64) -> Waiting {
        Waiting { unique, device: 0, delayed: Delayed::Read { ino: 1, offset: 0, size: 1 } }
    }

    #[test]
    fn the_earliest_comes_first_and_not_early() {
        let delays = Delays::default();
        let now = Instant::now();
        for (unique, milliseconds) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
            delays.add(now + Duration::from_millis(milliseconds), read(unique));
        }
        let order = [(2, 10), (4, 10), (3, 20), (1, 30)];
        for (unique, milliseconds) in order {
            assert_eq!(delays.next().unwrap().unique, unique);
            assert!(now.elapsed() >= Duration::from_millis(milliseconds));
        }
        delays.close();
        assert!(delays.next().is_none());
    }

    #[test]
    fn an_interrupted_read_is_taken_back_and_an_answer_is_not() {
        let delays = Delays::default();
        let due = Instant::now() + Duration::from_secs(3600);
        delays.add(due, read(1));
        let delayed = Delayed::Answer(Answer::DONE);
        delays.add(due, Waiting { unique: 2, device: 0, delayed });
        assert_eq!(delays.interrupt(1).map(|waiting| waiting.unique), Some(1));
        assert!(delays.interrupt(2).is_none());
        // The interruption overtakes the READ.
        assert!(delays.interrupt(3).is_none());
        assert_eq!(delays.add(due, read(3)), Added::Interrupted);
    }
}
