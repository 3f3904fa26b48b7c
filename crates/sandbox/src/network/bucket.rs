//! A token bucket: how many bytes may pass now. Pure: the time is an argument, counted from any one moment.

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// How much may be saved up while nothing passes, as a part of what passes in a second. Enough that a relay that
/// gets its turn late loses nothing; little enough that the first second is not faster than the others.
const SAVED: u64 = 10;

/// As small a part of a second is worth a turn.
const TURN: u64 = 50;

/// Lets `rate` bytes pass in a second. It begins empty.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// Bytes per second, not 0.
    rate: u64,
    /// Billionths of a byte.
    saved: u128,
    filled: Duration,
}

impl Bucket {
    pub(super) fn new(rate: u64, now: Duration) -> Self {
        Bucket { rate: rate.max(1), saved: 0, filled: now }
    }

    /// Bytes that may pass now; none while there are too few to be worth a turn.
    pub(super) fn available(&mut self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        // Two bytes at the least, so that a turn that comes late loses no part of one.
        let most = u128::from((self.rate / SAVED).max(2)) * NANOS;
        self.saved = (self.saved + elapsed.as_nanos() * u128::from(self.rate)).min(most);
        match u64::try_from(self.saved / NANOS).expect("it is a part of the rate") {
            few if few < self.turn() => 0,
            enough => enough,
        }
    }

    /// Notes that bytes have passed; at most as many as were available.
    pub(super) fn take(&mut self, bytes: u64) {
        self.saved = self.saved.saturating_sub(u128::from(bytes) * NANOS);
    }

    /// Time from the last look until some are available.
    pub(super) fn wait(&self) -> Duration {
        let missing = (u128::from(self.turn()) * NANOS).saturating_sub(self.saved);
        let nanos = missing.div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanos).expect("a turn comes within a second"))
    }

    /// Bytes that are worth a turn.
    fn turn(&self) -> u64 {
        (self.rate / TURN).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all it can for `time`, looking whenever the bucket says so but `late` afterwards.
    fn pass(rate: u64, time: Duration, late: Duration) -> u64 {
        let mut bucket = Bucket::new(rate, Duration::ZERO);
        let (mut now, mut passed) = (Duration::ZERO, 0);
        while now <= time {
            let bytes = bucket.available(now);
            bucket.take(bytes);
            passed += bytes;
            now += bucket.wait() + late;
        }
        passed
    }

    #[test]
    fn over_three_seconds_the_rate_is_kept() {
        for rate in [1, 7, 1_000, 65_536, 1 << 20, 125_000_000, 10_000_000_000, u64::MAX / 1_000] {
            for late in [0, 100, 5_000, 60_000].map(Duration::from_micros) {
                let seconds = if rate < 1_000 { 300 } else { 3 };
                let (passed, due) = (
                    u128::from(pass(rate, Duration::from_secs(seconds), late)),
                    u128::from(rate) * u128::from(seconds),
                );
                assert!(passed <= due, "{rate} {late:?}: {passed} of {due}");
                assert!(passed * 100 >= due * 97, "{rate} {late:?}: {passed} of {due}");
            }
        }
    }

    #[test]
    fn what_is_saved_has_an_end() {
        let mut bucket = Bucket::new(1_000, Duration::ZERO);
        assert_eq!(bucket.available(Duration::from_secs(3_600)), 100);
        bucket.take(100);
        assert_eq!(bucket.available(Duration::from_secs(3_600)), 0);
        assert_eq!(bucket.available(Duration::from_secs(3_601)), 100);
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(1_000, Duration::from_secs(5));
        assert_eq!(bucket.available(Duration::from_secs(5)), 0);
        assert_eq!(bucket.available(Duration::from_secs(1)), 0);
        assert_eq!(bucket.available(Duration::from_millis(5_050)), 50);
    }

    #[test]
    fn it_wakes_when_there_is_something_to_do() {
        let mut bucket = Bucket::new(1_000_000, Duration::ZERO);
        assert_eq!(bucket.wait(), Duration::from_millis(20));
        assert_eq!(bucket.available(Duration::from_millis(19)), 0);
        assert_eq!(bucket.wait(), Duration::from_millis(1));
        assert_eq!(bucket.available(Duration::from_millis(20)), 20_000);
        assert_eq!(bucket.wait(), Duration::ZERO);
    }
}
