//! A set of slots, kept as runs of neighbors, so that a large write finds room in one piece.

use std::collections::{BTreeMap, BTreeSet};

/// `length` slots from number `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Run {
    pub(super) fn end(self) -> u64 {
        self.start + self.length
    }
}

/// Runs of 2^n to 2^(n+1)-1 slots are class n.
const CLASSES: usize = 64;

/// Runs of a class that are looked at for one that is long enough.
const TRIES: usize = 8;

/// Slots in runs, no two of which touch.
pub(super) struct Runs {
    /// Length by start.
    by_start: BTreeMap<u64, u64>,
    /// Starts, by the class of the length.
    by_class: Vec<BTreeSet<u64>>,
    slots: u64,
}

impl Runs {
    pub(super) fn new() -> Runs {
        Runs { by_start: BTreeMap::new(), by_class: vec![BTreeSet::new(); CLASSES], slots: 0 }
    }

    /// How many slots there are in all.
    pub(super) fn slots(&self) -> u64 {
        self.slots
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Run> {
        self.by_start.iter().map(|(&start, &length)| Run { start, length })
    }

    /// Adds slots, none of which is in the set.
    pub(super) fn insert(&mut self, run: Run) {
        let before =
            self.by_start.range(..run.start).next_back().map(|(&start, &length)| Run { start, length });
        let after = self.by_start.range(run.start..).next().map(|(&start, &length)| Run { start, length });
        debug_assert!(
            before.is_none_or(|before| before.end() <= run.start)
                && after.is_none_or(|after| run.end() <= after.start),
            "a slot is freed once"
        );
        let mut whole = run;
        if let Some(before) = before.filter(|before| before.end() == run.start) {
            self.remove(before);
            whole = Run { start: before.start, length: before.length + whole.length };
        }
        if let Some(after) = after.filter(|after| after.start == run.end()) {
            self.remove(after);
            whole.length += after.length;
        }
        self.put(whole);
    }

    /// The first `length` slots of a run that has as many, if there is one.
    pub(super) fn take(&mut self, length: u64) -> Option<Run> {
        // In its own class a run may be too short; every one of the classes above is long enough.
        let own =
            self.by_class[class_of(length)].iter().take(TRIES).find(|start| self.by_start[start] >= length);
        let above = || self.by_class[class_of(length) + 1..].iter().find_map(BTreeSet::first);
        let start = own.or_else(above).copied()?;
        Some(self.take_front(start, length))
    }

    /// At most `length` slots of a run that is one of the longest.
    pub(super) fn take_piece(&mut self, length: u64) -> Option<Run> {
        let start = self.by_class.iter().rev().find_map(BTreeSet::first).copied()?;
        Some(self.take_front(start, length))
    }

    /// Takes out all runs of at least `length` slots, a power of two.
    pub(super) fn take_long(&mut self, length: u64) -> Vec<Run> {
        let starts: Vec<u64> = self.by_class[class_of(length)..].iter().flatten().copied().collect();
        starts.into_iter().map(|start| self.take_front(start, u64::MAX)).collect()
    }

    fn take_front(&mut self, start: u64, at_most: u64) -> Run {
        let run = Run { start, length: self.by_start[&start] };
        self.remove(run);
        let taken = Run { start, length: run.length.min(at_most) };
        if taken.length < run.length {
            self.put(Run { start: taken.end(), length: run.length - taken.length });
        }
        taken
    }

    fn put(&mut self, run: Run) {
        self.by_start.insert(run.start, run.length);
        self.by_class[class_of(run.length)].insert(run.start);
        self.slots += run.length;
    }

    fn remove(&mut self, run: Run) {
        self.by_start.remove(&run.start);
        self.by_class[class_of(run.length)].remove(&run.start);
        self.slots -= run.length;
    }
}

/// `length` is not 0.
fn class_of(length: u64) -> usize {
    length.ilog2() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, length: u64) -> Run {
        Run { start, length }
    }

    fn all(runs: &Runs) -> Vec<(u64, u64)> {
        runs.iter().map(|run| (run.start, run.length)).collect()
    }

    #[test]
    fn neighbors_become_one() {
        let mut runs = Runs::new();
        for (start, length) in [(10, 5), (20, 5), (15, 2), (18, 2), (17, 1), (1, 1)] {
            runs.insert(run(start, length));
        }
        assert_eq!(all(&runs), [(1, 1), (10, 15)]);
        assert_eq!(runs.slots(), 16);
    }

    #[test]
    fn a_run_that_is_long_enough_is_found() {
        let mut runs = Runs::new();
        for (start, length) in [(1, 3), (10, 8), (30, 40)] {
            runs.insert(run(start, length));
        }
        assert_eq!(runs.take(4), Some(run(10, 4)));
        assert_eq!(runs.take(4), Some(run(14, 4)));
        assert_eq!(runs.take(41), None);
        assert_eq!(runs.take(20), Some(run(30, 20)));
        assert_eq!(runs.take(1), Some(run(1, 1)));
        assert_eq!(all(&runs), [(2, 2), (50, 20)]);
    }

    #[test]
    fn pieces_are_the_longest() {
        let mut runs = Runs::new();
        for (start, length) in [(1, 3), (10, 8)] {
            runs.insert(run(start, length));
        }
        assert_eq!(runs.take_piece(100), Some(run(10, 8)));
        assert_eq!(runs.take_piece(2), Some(run(1, 2)));
        assert_eq!(runs.take_piece(2), Some(run(3, 1)));
        assert_eq!((runs.take_piece(2), runs.slots()), (None, 0));
    }

    #[test]
    fn long_runs_are_taken_and_short_ones_stay() {
        let mut runs = Runs::new();
        for (start, length) in [(1, 3), (10, 16), (40, 15), (60, 100)] {
            runs.insert(run(start, length));
        }
        assert_eq!(runs.take_long(16), [run(10, 16), run(60, 100)]);
        assert_eq!(all(&runs), [(1, 3), (40, 15)]);
    }
}
