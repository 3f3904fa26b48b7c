//! Which slots of the data file are taken, which are free, and which a checkpoint still needs. Decisions alone: no file
//! is touched here.
//!
//! ```text
//!            place                 free, not frozen
//!   free ───────────► taken ─────────────────────────► free
//!                       │  checkpoint                    ▲
//!                       ▼                                │ no kept checkpoint has it
//!                     frozen ─── free, or written ──► waiting
//!                                somewhere else
//! ```
//! A frozen slot holds a block that a kept checkpoint refers to: it is not written over and not given back to the disk.

use std::collections::{BTreeSet, VecDeque};

use super::block::{BlockRef, Slot};
use super::runs::{Run, Runs};

/// Blocks that are given places at once.
pub(super) const BATCH: usize = 256;

/// Free slots whose disk space we keep for the next writes; beyond it goes back to the disk.
const KEPT: u64 = 16 << 20 >> 12;

/// Shorter runs are not given back: that costs more than it frees. They are the first to be used again.
const WORTH_PUNCHING: u64 = 16;

/// Numbers checkpoints from 1.
pub(super) type Generation = u64;

/// The slots of a store. Each is taken, or free (in `backed` or `holes`), or waiting.
pub(super) struct Slots {
    /// Slots 1 to `count` exist.
    count: u64,
    /// Free, and the disk still has their old contents.
    backed: Runs,
    /// Free, and holes in the data file.
    holes: Runs,
    /// One bit for each slot, set while a kept checkpoint may refer to it.
    frozen: Bits,
    /// Freed, and not free as long as the checkpoint of that generation, or an older one, is kept. In order.
    waiting: VecDeque<(Generation, Run)>,
    /// That of the last checkpoint that was begun.
    generation: Generation,
    /// Where writing over a block failed: nobody knows what is there.
    damaged: BTreeSet<u64>,
}

impl Slots {
    /// `count` slots, all of them taken and frozen, for want of better knowledge.
    pub(super) fn new(count: u64, generation: Generation) -> Slots {
        let mut frozen = Bits::default();
        frozen.set(Run { start: 0, length: count + 1 });
        let (backed, holes) = (Runs::new(), Runs::new());
        Slots { count, backed, holes, frozen, waiting: VecDeque::new(), generation, damaged: BTreeSet::new() }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Slots that are not free.
    pub(super) fn taken(&self) -> u64 {
        self.count - self.backed.slots() - self.holes.slots()
    }

    /// Says where each of at most [`BATCH`] blocks is to be written: over its old place, unless a checkpoint needs
    /// that, or in a new place, next to that of the block before it if there is room.
    pub(super) fn place(&mut self, old: &[Option<BlockRef>], places: &mut [u64; BATCH]) {
        let stays = |slots: &Slots, old: &Option<BlockRef>| {
            old.map(|old| old.slot.number()).filter(|&slot| !slots.frozen.has(slot))
        };
        let mut index = 0;
        while index < old.len() {
            if let Some(slot) = stays(self, &old[index]) {
                places[index] = slot;
                index += 1;
                continue;
            }
            let new = old[index..].iter().take_while(|old| stays(self, old).is_none()).count();
            let run = self.take(new as u64);
            for slot in run.start..run.end() {
                places[index] = slot;
                index += 1;
            }
        }
    }

    /// At least one and at most `wanted` neighboring slots.
    fn take(&mut self, wanted: u64) -> Run {
        if let Some(run) = self.backed.take(wanted).or_else(|| self.holes.take(wanted)) {
            return run;
        }
        // Pieces, rather than let the file have more space on the disk than blocks, or be mostly holes.
        let scattered = if self.backed.slots() >= KEPT.max(wanted) {
            self.backed.take_piece(wanted)
        } else if self.holes.slots() > KEPT.max(self.count / 2) {
            self.holes.take_piece(wanted)
        } else {
            None
        };
        scattered.unwrap_or_else(|| {
            let run = Run { start: self.count + 1, length: wanted };
            self.count += wanted;
            run
        })
    }

    /// Gives back places that [`Slots::place`] gave and that were not written.
    pub(super) fn give_back(&mut self, slot: u64) {
        let run = Run { start: slot, length: 1 };
        self.frozen.clear(run);
        self.backed.insert(run);
    }

    /// Nothing refers to these slots any more, other than a checkpoint.
    pub(super) fn free(&mut self, run: Run) {
        let mut start = run.start;
        while start < run.end() {
            let frozen = self.frozen.has(start);
            let same = (start..run.end()).take_while(|&slot| self.frozen.has(slot) == frozen).count();
            let part = Run { start, length: same as u64 };
            if frozen {
                self.waiting.push_back((self.generation, part));
            } else {
                self.backed.insert(part);
            }
            start = part.end();
        }
        if !self.damaged.is_empty() {
            self.damaged.retain(|slot| !(run.start..run.end()).contains(slot));
        }
    }

    /// From now on nothing that is taken is written over: a checkpoint is about to refer to it. Its generation is the
    /// next one.
    pub(super) fn freeze(&mut self) -> Freeze {
        let before = self.frozen.clone();
        self.generation += 1;
        self.frozen.set(Run { start: 0, length: self.count + 1 });
        for run in self.backed.iter().chain(self.holes.iter()) {
            self.frozen.clear(run);
        }
        Freeze { generation: self.generation, before }
    }

    /// The checkpoint came to nothing, and nothing was placed or freed since: all is as it was before.
    pub(super) fn thaw(&mut self, freeze: Freeze) {
        self.frozen = freeze.before;
        self.generation = freeze.generation - 1;
    }

    /// No checkpoint older than that of generation `oldest` is kept: what only those refer to becomes free.
    pub(super) fn forget_before(&mut self, oldest: Generation) {
        while let Some(&(_, run)) = self.waiting.front().filter(|(generation, _)| *generation < oldest) {
            self.waiting.pop_front();
            self.frozen.clear(run);
            self.backed.insert(run);
        }
    }

    /// Only these slots are taken, of all there are; they stay frozen. The others' contents are of no use.
    ///
    /// # Errors
    /// What is wrong, if they can't be what a checkpoint refers to; nothing is changed then.
    pub(super) fn keep(&mut self, kept: impl Iterator<Item = Slot>) -> Result<(), &'static str> {
        let mut taken = Bits::default();
        taken.set(Run { start: 0, length: 1 });
        for slot in kept {
            let slot = slot.number();
            if slot > self.count {
                return Err("a block lies beyond the end");
            }
            if taken.has(slot) {
                return Err("two blocks lie in one place");
            }
            taken.set(Run { start: slot, length: 1 });
        }
        let mut start = 1;
        while start <= self.count {
            let free = !taken.has(start);
            let same = (start..=self.count).take_while(|&slot| taken.has(slot) != free).count() as u64;
            let run = Run { start, length: same };
            if free {
                self.frozen.clear(run);
                self.backed.insert(run);
            }
            start = run.end();
        }
        Ok(())
    }

    /// Takes out all that the disk can have back, worth the work or not; then as [`Slots::take_for_punching`].
    pub(super) fn take_all_for_punching(&mut self) -> Vec<Run> {
        self.backed.take_long(1)
    }

    /// Takes out what is to be given back to the disk, if it is worth the work; the caller punches the holes and tells
    /// [`Slots::punched`] or [`Slots::not_punched`].
    pub(super) fn take_for_punching(&mut self) -> Vec<Run> {
        if self.backed.slots() <= KEPT { Vec::new() } else { self.backed.take_long(WORTH_PUNCHING) }
    }

    pub(super) fn punched(&mut self, run: Run) {
        self.frozen.clear(run);
        self.holes.insert(run);
    }

    pub(super) fn not_punched(&mut self, run: Run) {
        self.frozen.clear(run);
        self.backed.insert(run);
    }

    pub(super) fn damage(&mut self, slot: u64) {
        self.damaged.insert(slot);
    }

    pub(super) fn repair(&mut self, slots: &[u64]) {
        if !self.damaged.is_empty() {
            self.damaged.retain(|slot| !slots.contains(slot));
        }
    }

    pub(super) fn is_damaged(&self, slot: u64) -> bool {
        self.damaged.contains(&slot)
    }
}

/// What was frozen before a checkpoint was begun.
pub(super) struct Freeze {
    pub(super) generation: Generation,
    before: Bits,
}

/// A growing row of bits, all of them unset at first.
#[derive(Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, bit: u64) -> bool {
        let (word, mask) = place_of(bit);
        self.0.get(word).is_some_and(|word| word & mask != 0)
    }

    fn set(&mut self, run: Run) {
        let words = place_of(run.end()).0 + 1;
        if self.0.len() < words {
            self.0.resize(words, 0);
        }
        each_word(run, |word, mask| self.0[word] |= mask);
    }

    fn clear(&mut self, run: Run) {
        let words = &mut self.0;
        each_word(run, |word, mask| {
            if let Some(word) = words.get_mut(word) {
                *word &= !mask;
            }
        });
    }
}

/// The words and the bits in them that a run has.
fn each_word(run: Run, mut visit: impl FnMut(usize, u64)) {
    let mut start = run.start;
    while start < run.end() {
        let end = run.end().min((start / 64 + 1) * 64);
        let mask = (u64::MAX >> (64 - (end - start))) << (start % 64);
        visit(place_of(start).0, mask);
        start = end;
    }
}

fn place_of(bit: u64) -> (usize, u64) {
    let word = usize::try_from(bit / 64).expect("a usize has 64 bits");
    (word, 1 << (bit % 64))
}
