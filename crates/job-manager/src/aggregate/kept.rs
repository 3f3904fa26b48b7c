//! Records that wait for the last subjob because the result is sorted.
//!
//! All text lies in one arena and a record is a few numbers, so that a million lines cost little more than their
//! bytes. Sort keys are read once, when a record comes in. Of a result with `top` only about twice as many records
//! as it shows are ever kept.

use std::cmp::Ordering;
use std::ops::Range;

use model::plan::SortKey;

use super::{MAX_KEPT, Stop};

/// Records over `top` that are kept at least before the surplus is thrown out, so that a small `top` doesn't sort
/// at each record.
const SURPLUS: usize = 1_024;

/// Records in the order they came, and how they will be sorted.
#[derive(Debug)]
pub(super) struct Kept {
    arena: Arena,
    records: Vec<Record>,
    top: usize,
    /// The first `top` records are sorted and the best of all seen by then: what isn't better than the last of
    /// them is out.
    pruned: bool,
    /// Bytes of text and bookkeeping.
    limit: u64,
}

#[derive(Debug)]
struct Arena {
    text: Vec<u8>,
    /// The second and later keys of each record, which are seldom looked at.
    later: Vec<Key>,
    order: Vec<SortKey>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// The first key lies here so that most comparisons stay in this array.
    key: Key,
    /// Position of the other keys in `Arena::later`.
    later: u32,
    start: u32,
    /// Bytes of the record, and how many of them belong into the result.
    length: u32,
    printed: u32,
}

/// What a record is sorted by. Ranges are relative to the record's start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    /// Never NaN.
    Number(f64),
    /// The first bytes, as a number that sorts like them, settle most comparisons without a look at the text.
    Text {
        prefix: u64,
        start: u32,
        end: u32,
    },
    /// The kinds below have no place among the others' values and come last, in either direction.
    NotANumber,
    Unreadable,
    Missing,
}

impl Kept {
    /// `order` must have a key at least; `top` is how many records the result may have.
    pub(super) fn new(order: &[SortKey], top: Option<u64>) -> Self {
        let top = top.map_or(usize::MAX, |top| usize::try_from(top).unwrap_or(usize::MAX));
        let arena = Arena { text: Vec::new(), later: Vec::new(), order: order.to_vec() };
        Kept { arena, records: Vec::new(), top, pruned: false, limit: MAX_KEPT.0 }
    }

    /// Keeps a record, unless it is known already not to be among the top. The first `printed` bytes of it are for
    /// the result, those after serve only as keys; `field` finds the text of a key in it.
    pub(super) fn push(
        &mut self,
        record: &[u8],
        printed: usize,
        field: impl Fn(&SortKey) -> Option<Range<usize>>,
    ) -> Result<(), Stop> {
        if self.top == 0 {
            return Ok(());
        }
        if self.records.len() >= self.top.saturating_add(self.top.max(SURPLUS)) {
            self.prune();
        }
        if self.size_with(record.len()) > self.limit {
            self.prune();
            // With less than half free again, there would be a prune at every few records.
            if self.size_with(record.len()) > self.limit / 2 {
                return Err(Stop::TooLarge);
            }
        }
        let (start, later) = (self.arena.text.len(), self.arena.later.len());
        let mut keys = self.arena.order.iter().map(|sort| Key::read(record, sort.numeric, field(sort)));
        let key = keys.next().unwrap_or(Key::Missing);
        self.arena.later.extend(keys);
        self.arena.text.extend_from_slice(record);
        // None of these is cut: all of them together stay under the limit, which has 32 bits.
        let record = Record {
            key,
            later: later as u32,
            start: start as u32,
            length: record.len() as u32,
            printed: printed as u32,
        };
        if self.pruned && self.arena.compare(&record, &self.records[self.top - 1]) != Ordering::Less {
            self.arena.text.truncate(start);
            self.arena.later.truncate(later);
        } else {
            self.records.push(record);
        }
        Ok(())
    }

    /// The records of the result, best first.
    pub(super) fn for_each<E>(mut self, mut use_record: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.sort();
        self.records
            .iter()
            .try_for_each(|record| use_record(&self.arena.text_of(record)[..record.printed as usize]))
    }

    /// Bytes taken when one more record of this length is in.
    fn size_with(&self, length: usize) -> u64 {
        let records = (self.records.len() + 1) * size_of::<Record>();
        let later = (self.arena.later.len() + self.arena.later_keys()) * size_of::<Key>();
        (self.arena.text.len() + length + records + later) as u64
    }

    /// Stable, so ties stay in the order of subjobs and lines.
    fn sort(&mut self) {
        self.records.sort_by(|a, b| self.arena.compare(a, b));
        self.records.truncate(self.top);
    }

    /// Throws out what can't be among the top anymore, text included.
    fn prune(&mut self) {
        if self.records.len() <= self.top {
            return;
        }
        self.sort();
        self.pruned = true;
        let later_keys = self.arena.later_keys();
        let mut text = Vec::with_capacity(self.records.iter().map(|record| record.length as usize).sum());
        let mut later = Vec::with_capacity(self.records.len() * later_keys);
        for record in &mut self.records {
            let (start, first) = (text.len() as u32, later.len() as u32);
            text.extend_from_slice(self.arena.text_of(record));
            later.extend_from_slice(&self.arena.later[record.later as usize..][..later_keys]);
            (record.start, record.later) = (start, first);
        }
        (self.arena.text, self.arena.later) = (text, later);
    }
}

impl Arena {
    /// How many keys a record has in `later`.
    fn later_keys(&self) -> usize {
        self.order.len().saturating_sub(1)
    }

    fn text_of(&self, record: &Record) -> &[u8] {
        &self.text[record.start as usize..][..record.length as usize]
    }

    fn compare(&self, a: &Record, b: &Record) -> Ordering {
        for (place, sort) in self.order.iter().enumerate() {
            let order = match (self.key(a, place), self.key(b, place)) {
                (Key::Number(a), Key::Number(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
                (Key::Text { prefix, start, end }, Key::Text { prefix: other, start: from, end: to }) => {
                    prefix.cmp(&other).then_with(|| {
                        let (a, b) = (self.text_of(a), self.text_of(b));
                        a[start as usize..end as usize].cmp(&b[from as usize..to as usize])
                    })
                }
                // Only an order among values turns around when the key is descending.
                (a, b) if a.rank() != b.rank() => return a.rank().cmp(&b.rank()),
                _ => Ordering::Equal,
            };
            if order.is_ne() {
                return if sort.descending { order.reverse() } else { order };
            }
        }
        Ordering::Equal
    }

    fn key(&self, record: &Record, place: usize) -> Key {
        match place {
            0 => record.key,
            _ => self.later[record.later as usize + place - 1],
        }
    }
}

impl Key {
    fn read(record: &[u8], numeric: bool, field: Option<Range<usize>>) -> Key {
        let Some(range) = field else { return Key::Missing };
        if !numeric {
            let (start, end) = (range.start as u32, range.end as u32);
            return Key::Text { prefix: prefix(&record[range]), start, end };
        }
        let number = std::str::from_utf8(record[range].trim_ascii()).ok().and_then(|text| text.parse().ok());
        match number {
            None => Key::Unreadable,
            Some(number) if f64::is_nan(number) => Key::NotANumber,
            Some(number) => Key::Number(number),
        }
    }

    fn rank(self) -> u8 {
        match self {
            Key::Number(_) | Key::Text { .. } => 0,
            Key::NotANumber => 1,
            Key::Unreadable => 2,
            Key::Missing => 3,
        }
    }
}

/// Equal for texts of which one is the other and zero bytes: a difference decides, equality doesn't.
fn prefix(text: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = text.len().min(bytes.len());
    bytes[..length].copy_from_slice(&text[..length]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::lines;
    use crate::fixtures::Xorshift;

    fn sort_key(field: u32, numeric: bool, descending: bool) -> SortKey {
        SortKey { field: Some(field), numeric, descending }
    }

    fn push(kept: &mut Kept, line: &str) -> Result<(), Stop> {
        kept.push(line.as_bytes(), line.len(), |key| lines::field(line.as_bytes(), key.field.unwrap()))
    }

    fn sorted(kept: Kept) -> Vec<String> {
        let mut found = Vec::new();
        kept.for_each(|line| {
            found.push(String::from_utf8(line.to_vec()).unwrap());
            Ok::<(), ()>(())
        })
        .unwrap();
        found
    }

    #[test]
    fn what_has_no_value_comes_last_in_both_directions() {
        let check = |descending: bool, expect: &[&str]| {
            let mut kept = Kept::new(&[sort_key(2, true, descending)], None);
            for line in [
                "a", "b nan", "c 1e-30", "d -inf", "e x", "f 10", "g 9.5", "h inf", "i -0", "j 0", "k",
                "l +2",
            ] {
                push(&mut kept, line).unwrap();
            }
            assert_eq!(sorted(kept), expect);
        };
        check(
            false,
            &["d -inf", "i -0", "j 0", "c 1e-30", "l +2", "g 9.5", "f 10", "h inf", "b nan", "e x", "a", "k"],
        );
        check(
            true,
            &["h inf", "f 10", "g 9.5", "l +2", "c 1e-30", "i -0", "j 0", "d -inf", "b nan", "e x", "a", "k"],
        );
    }

    #[test]
    fn text_is_compared_by_bytes_and_ties_go_to_the_next_key() {
        let mut kept =
            Kept::new(&[sort_key(1, false, true), sort_key(2, true, false), sort_key(3, false, false)], None);
        for line in ["a 2 x", "Z 1 y", "a 1 z", "é 9", "a 1 y", "a 1 y again", "ab 0"] {
            push(&mut kept, line).unwrap();
        }
        assert_eq!(sorted(kept), ["é 9", "ab 0", "a 1 y", "a 1 y again", "a 1 z", "a 2 x", "Z 1 y"]);
    }

    #[test]
    fn the_top_is_the_start_of_the_whole_order() {
        let mut random = Xorshift::new(7);
        for top in [0, 1, 2, 10, 1_500, 4_000, 10_000, u64::MAX] {
            let order = [sort_key(1, true, random.below(2) == 1), sort_key(2, false, random.below(2) == 1)];
            let (mut all, mut best) = (Kept::new(&order, None), Kept::new(&order, Some(top)));
            for line in 0..10_000 {
                // Few values, so that ties reach the last resort, the order of arrival.
                let line = format!("{} {} {line}", random.below(9), random.below(20));
                push(&mut all, &line).unwrap();
                push(&mut best, &line).unwrap();
                assert!(best.records.len() as u64 <= top.saturating_add(top.max(SURPLUS as u64)));
            }
            let mut expect = sorted(all);
            expect.truncate(usize::try_from(top).unwrap());
            assert_eq!(sorted(best), expect, "{top}");
        }
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let order = [sort_key(1, true, false), sort_key(2, false, false)];
        let cost = 10 + size_of::<Record>() + size_of::<Key>();
        // A top doesn't help when it takes more than half of the limit itself.
        for top in [None, Some(60)] {
            let mut kept = Kept { limit: 100 * cost as u64, ..Kept::new(&order, top) };
            let refused = (0..200).find(|_| matches!(push(&mut kept, "123456 abc"), Err(Stop::TooLarge)));
            assert_eq!(refused, Some(100));
        }

        // With a top that fits there is always room for one more.
        let mut kept = Kept { limit: 100 * cost as u64, ..Kept::new(&order, Some(40)) };
        for number in 0..10_000 {
            push(&mut kept, &format!("{:06} abc", (number * 7_919) % 10_000)).unwrap();
        }
        let expect: Vec<String> = (0..40).map(|number| format!("{number:06} abc")).collect();
        assert_eq!(sorted(kept), expect);
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!((size_of::<Record>(), size_of::<Key>()), (40, 24));
    }
}
