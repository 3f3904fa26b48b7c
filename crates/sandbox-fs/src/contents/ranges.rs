//! A set of numbers, kept as ranges.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ranges {
    /// Start → end of ranges that neither overlap nor touch.
    parts: BTreeMap<u64, u64>,
    /// Numbers in all of them.
    len: u64,
}

impl Ranges {
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.parts.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// Adds a range; returns how many numbers of it were not there.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let added = range.end - range.start - self.count(&range);
        let (mut start, mut end) = (range.start, range.end);
        while let Some((from, to)) = self.touching(start, end) {
            self.parts.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.parts.insert(start, end);
        self.len += added;
        added
    }

    /// Takes a range out; returns how many numbers of it were there.
    pub(crate) fn remove(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let mut removed = 0;
        while let Some((from, to)) = self.overlapping(&range) {
            self.parts.remove(&from);
            if from < range.start {
                self.parts.insert(from, range.start);
            }
            if to > range.end {
                self.parts.insert(range.end, to);
            }
            removed += to.min(range.end) - from.max(range.start);
        }
        self.len -= removed;
        removed
    }

    /// Numbers in the set.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.parts.iter().map(|(start, end)| *start..*end)
    }

    /// How many numbers of a range are there.
    pub(crate) fn count(&self, range: &Range<u64>) -> u64 {
        if self.parts.is_empty() || range.is_empty() {
            return 0;
        }
        let reaches_in = self.parts.range(..range.start).next_back();
        let inside = self.parts.range(range.start..range.end);
        let common = |(from, to): (&u64, &u64)| (*to).min(range.end).saturating_sub((*from).max(range.start));
        reaches_in.into_iter().chain(inside).map(common).sum()
    }

    fn overlapping(&self, range: &Range<u64>) -> Option<(u64, u64)> {
        let last = self.parts.range(..range.end).next_back().filter(|(_, to)| **to > range.start);
        last.map(|(from, to)| (*from, *to))
    }

    fn touching(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let last = self.parts.range(..=end).next_back().filter(|(_, to)| **to >= start);
        last.map(|(from, to)| (*from, *to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ranges_is_a_set() {
        let mut ranges = Ranges::default();
        let mut model = [false; 64];
        let mut seed = 7u64;
        for _ in 0..4_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let start = (seed >> 33) % 64;
            let end = (start + (seed >> 45) % 12).min(64);
            let part = &mut model[start as usize..end as usize];
            let present = part.iter().filter(|is_there| **is_there).count() as u64;
            assert_eq!(ranges.count(&(start..end)), present);
            if seed >> 60 < 9 {
                assert_eq!(ranges.insert(start..end), end - start - present);
                part.fill(true);
            } else {
                assert_eq!(ranges.remove(start..end), present);
                part.fill(false);
            }
            assert_eq!(ranges.len(), model.iter().filter(|is_there| **is_there).count() as u64);
            for (number, expect) in model.iter().enumerate() {
                assert_eq!(ranges.contains(number as u64), *expect);
            }
            let apart = ranges
                .parts
                .iter()
                .zip(ranges.parts.iter().skip(1))
                .all(|((_, end), (start, _))| end < start);
            assert!(apart, "{ranges:?}");
        }
    }
}
