//! How long a request waits so that data moves no faster than it may. It slows, and never fails.

use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::operations::Direction;

/// Bytes per second, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Unlimited if absent.
    pub read: Option<u64>,
    /// Unlimited if absent.
    pub write: Option<u64>,
}

/// What may be moved at once after a rest.
const BURST: Duration = Duration::from_millis(50);

/// A token bucket for each direction, as the time at which it is full again.
#[derive(Debug)]
pub(crate) struct Pacer {
    read: Option<Bucket>,
    write: Option<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Bytes per second; at least 1.
    rate: u64,
    full_at: Mutex<Instant>,
}

impl Pacer {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        let bucket = |rate: u64| Bucket { rate: rate.max(1), full_at: Mutex::new(now) };
        Pacer { read: rate.read.map(bucket), write: rate.write.map(bucket) }
    }

    /// Counts bytes as moved at the end of the wait that it returns.
    pub(crate) fn pace(&self, direction: Direction, bytes: usize, now: impl FnOnce() -> Instant) -> Duration {
        let bucket = match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        };
        bucket.as_ref().map_or(Duration::ZERO, |bucket| bucket.pace(bytes, now()))
    }
}

impl Bucket {
    fn pace(&self, bytes: usize, now: Instant) -> Duration {
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let mut full_at = self.full_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *full_at = (*full_at).max(now) + takes;
        full_at.saturating_duration_since(now + BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_data_moves_at_the_rate() {
        let begin = Instant::now();
        let pacer = Pacer::new(Rate { read: None, write: Some(1_000_000) }, begin);
        let mut now = begin;
        for _ in 0..100 {
            now += pacer.pace(Direction::Write, 100_000, || now);
        }
        assert_eq!(now - begin + BURST, Duration::from_secs(10));
        assert_eq!(pacer.pace(Direction::Read, usize::MAX, || now), Duration::ZERO);
    }

    #[test]
    fn a_rest_saves_no_more_than_a_burst() {
        let begin = Instant::now();
        let pacer = Pacer::new(Rate { read: Some(1_000), write: None }, begin);
        let later = begin + Duration::from_secs(3_600);
        assert_eq!(pacer.pace(Direction::Read, 50, || later), Duration::ZERO);
        assert_eq!(pacer.pace(Direction::Read, 1_000, || later), Duration::from_secs(1));
    }
}
