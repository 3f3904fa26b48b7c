//! The rate of file input and output: by how much a subjob moves, when it must stand still.
//!
//! No interface of the kernel bounds what a group of processes reads and writes through the page cache, so the
//! watching thread counts and halts: a token bucket for each direction, filled at the set rate. The subjob runs in
//! slices so short that one moves little more than the bucket holds, and stands still until a debt is paid. It is
//! slowed on average, exactly, and never fails.
//!
//! Pure: what was counted and what time it is come from outside. A file system of our own will know each call, and
//! can take this over.

use std::time::{Duration, Instant};

/// What a bucket holds at most, as time at the set rate: what an idle subjob saves up.
const BURST: f64 = 0.2;

/// What one slice should move, as time at the set rate.
const SLICE: f64 = 0.05;

/// Bounds of a slice: below, halting costs more than it bounds; above, nobody can be said to be watching.
const SLICES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Slices are no longer than this many times what a look costs, so that a program that wakes up is seen soon, and
/// looking takes one part in so many of a processor.
const LOOKS_COST: u32 = 100;

/// Debts smaller than this, as time at the set rate, are left to the next look.
const LEAST_HALT: f64 = 0.005;

/// Bytes that were read, and written, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) read: u64,
    pub(super) written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Run,
    Halt,
}

#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes per second, each way.
    rate: f64,
    /// Bytes that may be read, and written; negative when there is a debt.
    tokens: [f64; 2],
    seen: Moved,
    last: Instant,
    /// Bytes per second the faster way, when it ran lately.
    speed: f64,
    step: Step,
    next: Instant,
}

impl Throttle {
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        // A program that begins is taken to be fast: the first slices are the shortest.
        let rate = rate as f64;
        let speed = rate * SLICE / SLICES.0.as_secs_f64();
        Throttle {
            rate,
            tokens: [0.0; 2],
            seen: Moved::default(),
            last: now,
            speed,
            step: Step::Run,
            next: now,
        }
    }

    /// When to look again.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// What the subjob is to do until [`Throttle::next`], after it has moved `moved` in all, which took `cost` to count.
    pub(super) fn look(&mut self, now: Instant, moved: Moved, cost: Duration) -> Step {
        let elapsed = now.saturating_duration_since(self.last).as_secs_f64();
        // Counts of processes that end may be lost.
        let used = [
            moved.read.saturating_sub(self.seen.read) as f64,
            moved.written.saturating_sub(self.seen.written) as f64,
        ];
        (self.last, self.seen) = (now, moved);
        for (tokens, used) in self.tokens.iter_mut().zip(used) {
            *tokens = (*tokens + self.rate * elapsed).min(self.rate * BURST) - used;
        }
        if self.step == Step::Run && elapsed > 0.0 {
            self.speed = (used[0].max(used[1]) / elapsed).max(self.speed / 2.0);
        }
        let left = self.tokens[0].min(self.tokens[1]);
        let debt = -left / self.rate;
        let wait = if debt >= LEAST_HALT {
            self.step = Step::Halt;
            Duration::from_secs_f64(debt)
        } else {
            self.step = Step::Run;
            let slice = (left.max(0.0) + self.rate * SLICE) / self.speed.max(1.0);
            let longest = (cost * LOOKS_COST).clamp(SLICES.0, SLICES.1);
            Duration::from_secs_f64(slice.min(1.0)).clamp(SLICES.0, longest)
        };
        self.next = now + wait;
        self.step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: f64 = 1e6;

    /// What counting a small tree takes.
    const COST: Duration = Duration::from_micros(50);

    /// Runs a program that moves `speed` bytes a second when it runs, for `seconds`; gives what it had moved by each
    /// look and when.
    fn simulate(rate: f64, speed: impl Fn(f64) -> f64, seconds: f64) -> Vec<(f64, f64)> {
        let begun = Instant::now();
        let mut throttle = Throttle::new(rate as u64, begun);
        let (mut now, mut moved) = (begun, 0.0);
        let mut history = Vec::new();
        while (now - begun).as_secs_f64() < seconds {
            let step = throttle.look(now, Moved { read: moved as u64, written: 0 }, COST);
            history.push(((now - begun).as_secs_f64(), moved));
            // A timer is a little late.
            let next = throttle.next() + Duration::from_micros(150);
            if step == Step::Run {
                moved += speed((now - begun).as_secs_f64()) * (next - now).as_secs_f64();
            }
            now = next;
        }
        history
    }

    /// The most and the least that was moved in any two seconds, as a part of what the rate allows.
    fn extremes(history: &[(f64, f64)], rate: f64) -> (f64, f64) {
        let window = |(from, (begun, before)): (usize, &(f64, f64))| {
            let (ended, after) = history[from..].iter().find(|(at, _)| at - begun >= 2.0)?;
            Some((after - before) / (rate * (ended - begun)))
        };
        let parts = history.iter().enumerate().filter_map(window);
        parts.fold((0.0f64, f64::MAX), |(most, least), part| (most.max(part), least.min(part)))
    }

    #[test]
    fn a_fast_program_gets_its_rate_in_any_two_seconds() {
        for (rate, speed) in [(20.0, 2_000.0), (8.0, 500.0), (100.0, 3_000.0), (20.0, 25.0), (20.0, 21.0)] {
            let (most, least) = extremes(&simulate(rate * MB, |_| speed * MB, 12.0), rate * MB);
            assert!(most < 1.1 && least > 0.9, "{rate} MB/s at {speed} MB/s: {least} to {most}");
        }
    }

    #[test]
    fn a_slow_program_is_not_halted() {
        let history = simulate(20.0 * MB, |_| 15.0 * MB, 10.0);
        let (ended, moved) = history[history.len() - 1];
        assert!((moved / ended / MB - 15.0).abs() < 0.01, "{moved} in {ended} s");
        // Nor looked at more often than one part in a hundred of a processor allows.
        assert!(history.len() < 2_100, "{} looks", history.len());
    }

    #[test]
    fn a_burst_after_a_calm_is_seen_within_milliseconds() {
        let speed = |at: f64| if at < 1.0 { 0.0 } else { 2_000.0 * MB };
        let history = simulate(20.0 * MB, speed, 1.05);
        let (_, moved) = history[history.len() - 1];
        assert!(moved < 12.0 * MB, "{moved}");
    }

    #[test]
    fn a_program_that_wakes_up_pays_for_what_it_moved_at_once() {
        let speed = |at: f64| if at < 3.0 { 0.0 } else { 1_000.0 * MB };
        let history = simulate(20.0 * MB, speed, 33.0);
        let (_, moved) = history[history.len() - 1];
        let allowed = 20.0 * MB * (30.0 + BURST);
        assert!(moved < allowed * 1.05 && moved > allowed * 0.95, "{moved} of {allowed}");
    }
}
