//! The heartbeat between the Desktop Controller and the VM Portal (§4.2.1), which both ends keep: each sends a beat
//! every second and knows by the other's silence that it hangs.
//!
//! The lifeline tells at once when the other end has died. This is for one that lives and does nothing: stopped by a
//! signal, held by a debugger, stuck. A VM Portal that hears nothing ends everything, because nobody would pause the
//! subjob for the desktop's owner; a client that hears nothing kills and reports the VM Portal as lost. The clock is
//! the monotonic one, which stands still while the machine sleeps, so that waking up is no silence.

use std::time::{Duration, Instant};

/// Time between two beats.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// Silence after which the other end hangs. Long enough for a machine that is short of memory and pages.
const LIMIT: Duration = Duration::from_secs(5);

/// Silence that a VM Portal may keep before its first beat: it builds the sandbox, perhaps from a slow disk.
const START_LIMIT: Duration = Duration::from_secs(60);

/// One end's knowledge of the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    heard: Instant,
    /// Silence that is too long.
    limit: Duration,
    sent: Option<Instant>,
}

impl Heartbeat {
    pub(crate) fn new(now: Instant) -> Self {
        Heartbeat { heard: now, limit: LIMIT, sent: None }
    }

    /// For an end that has much to do before its first beat.
    pub(crate) fn of_one_that_starts(now: Instant) -> Self {
        Heartbeat { limit: START_LIMIT, ..Heartbeat::new(now) }
    }

    /// Takes note of a sign of life.
    pub(crate) fn hear(&mut self, now: Instant) {
        (self.heard, self.limit) = (now, LIMIT);
    }

    /// How long the silence is that [`Heartbeat::is_lost`] does not bear.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// How much longer the silence may last. Who waits wakes up then, so that a hang is noticed when it is one, and
    /// not a turn later.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.limit.saturating_sub(now.saturating_duration_since(self.heard))
    }

    /// Whether the other end hangs. Ask after everything has been read that it sent: we may have been the one who
    /// stood still.
    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= self.limit
    }

    /// Whether it is time to send a beat, which is then taken as sent.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.sent.is_none_or(|sent| now.saturating_duration_since(sent) >= PERIOD);
        if due {
            self.sent = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_up_to_the_limit_is_no_loss() {
        let begun = Instant::now();
        let mut heart = Heartbeat::new(begun);
        let almost = LIMIT - Duration::from_millis(1);
        assert!(!heart.is_lost(begun + almost));
        assert!(heart.is_lost(begun + LIMIT));
        heart.hear(begun + LIMIT);
        assert!(!heart.is_lost(begun + LIMIT + almost));
    }

    #[test]
    fn who_waits_as_long_as_is_left_sees_the_loss() {
        let begun = Instant::now();
        let mut heart = Heartbeat::new(begun);
        for heard in [Duration::ZERO, PERIOD / 3, PERIOD, LIMIT] {
            heart.hear(begun + heard);
            let now = begun + heard + PERIOD / 2;
            assert!(!heart.is_lost(now));
            assert!(heart.is_lost(now + heart.left(now)), "{heard:?}");
            assert_eq!(heart.left(now + 2 * LIMIT), Duration::ZERO);
        }
    }

    #[test]
    fn one_that_starts_is_given_time_until_its_first_beat() {
        let begun = Instant::now();
        let mut heart = Heartbeat::of_one_that_starts(begun);
        assert!(!heart.is_lost(begun + 2 * LIMIT));
        assert!(heart.is_lost(begun + 2 * START_LIMIT));
        heart.hear(begun + LIMIT);
        assert!(heart.is_lost(begun + 3 * LIMIT));
    }

    #[test]
    fn beats_go_out_one_a_period() {
        let begun = Instant::now();
        let mut heart = Heartbeat::new(begun);
        let steps = (0..40u32).filter(|step| heart.take_due(begun + *step * PERIOD / 10));
        assert_eq!(steps.collect::<Vec<_>>(), [0, 10, 20, 30]);
    }
}
