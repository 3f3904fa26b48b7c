//! Blocks on their way to the data file and back, and the space of those that are gone.

use super::Store;
use super::block::{BLOCK, BlockRef, Slot};
use super::disk::Short;
use super::error::{StoreError, io_error};
use super::keys::FileKey;
use super::runs::Run;
use super::slots::BATCH;
use crate::operations::Ino;
use crate::seal::{Broken, TAG};

impl Store {
    /// Seals `blocks`, whole blocks of a file from number `first` on, and writes them. `refs` has where the old ones
    /// are, and then the new ones. `blocks` is scratch space afterwards.
    ///
    /// # Errors
    /// The disk's. Each of `refs` is then still its old block or already its new one.
    pub fn write(
        &self,
        key: &FileKey,
        first: u64,
        blocks: &mut [u8],
        refs: &mut [Option<BlockRef>],
    ) -> Result<(), StoreError> {
        assert_eq!(blocks.len(), refs.len() * BLOCK, "each block has a reference");
        let mut first = first;
        for (blocks, refs) in blocks.chunks_mut(BATCH * BLOCK).zip(refs.chunks_mut(BATCH)) {
            self.write_batch(key, first, blocks, refs)?;
            first += refs.len() as u64;
        }
        Ok(())
    }

    fn write_batch(
        &self,
        key: &FileKey,
        first: u64,
        blocks: &mut [u8],
        refs: &mut [Option<BlockRef>],
    ) -> Result<(), StoreError> {
        let versions = self.versions(refs.len())?;
        let mut tags = [[0; TAG]; BATCH];
        for (index, block) in blocks.chunks_exact_mut(BLOCK).enumerate() {
            let context = context(key.file, first + index as u64);
            tags[index] = key.current().seal(self.version(versions, index).nonce(), &context, block);
        }

        let mut places = [0; BATCH];
        self.slots().place(refs, &mut places);
        let places = &places[..refs.len()];
        let mut replaced = Vec::new();
        let mut start = 0;
        while start < places.len() {
            let length = neighbors(&places[start..]);
            let run = start..start + length;
            let offset = Slot::new(places[start]).offset();
            let written = self.disk.write(&blocks[start * BLOCK..run.end * BLOCK], offset);
            let done = match &written {
                Ok(()) => run.end,
                Err(Short { written, .. }) => start + written / BLOCK,
            };
            for index in start..done {
                let slot = Slot::new(places[index]);
                let new = BlockRef { slot, version: self.version(versions, index), tag: tags[index] };
                replaced.extend(refs[index].replace(new).filter(|old| old.slot != slot));
            }
            if let Err(Short { source, .. }) = written {
                self.give_back(&refs[done..], &places[done..], run.end - done);
                self.free(replaced);
                return Err(StoreError::Io { operation: "write to the data file", source });
            }
            start = run.end;
        }
        self.slots().repair(places);
        self.free(replaced);
        Ok(())
    }

    /// After a write that failed: gives back the `places` that hold nothing now. Into the first `torn` of them the disk
    /// may have written.
    fn give_back(&self, refs: &[Option<BlockRef>], places: &[u64], torn: usize) {
        let mut slots = self.slots();
        for (index, (old, &place)) in refs.iter().zip(places).enumerate() {
            let in_place = old.is_some_and(|old| old.slot.number() == place);
            if !in_place {
                slots.give_back(place);
            } else if index < torn {
                slots.damage(place);
            }
        }
    }

    /// Reads blocks of a file, from number `first` on, and opens them. Where there is none, there are zeros.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if one of them is not what was written; the disk's. `out` is zeros then.
    pub fn read(
        &self,
        key: &FileKey,
        first: u64,
        refs: &[Option<BlockRef>],
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        assert_eq!(out.len(), refs.len() * BLOCK, "each block has a reference");
        let mut start = 0;
        while start < refs.len() {
            let length = neighboring_blocks(&refs[start..]);
            let range = start..start + length.max(1);
            let blocks = &mut out[range.start * BLOCK..range.end * BLOCK];
            if length == 0 {
                blocks.fill(0);
            } else if let Err(error) =
                self.read_run(key, first + start as u64, refs[range.clone()].iter().flatten(), blocks)
            {
                out.fill(0);
                return Err(error);
            }
            start = range.end;
        }
        Ok(())
    }

    /// Reads blocks that lie next to each other.
    fn read_run<'a>(
        &self,
        key: &FileKey,
        first: u64,
        refs: impl Iterator<Item = &'a BlockRef> + Clone,
        blocks: &mut [u8],
    ) -> Result<(), StoreError> {
        let Some(slot) = refs.clone().next().map(|block| block.slot) else { return Ok(()) };
        let length = self.disk.read(blocks, slot.offset()).map_err(io_error("read from the data file"))?;
        // What a file that was cut short doesn't have can't be what was written.
        blocks[length..].fill(0);
        for (index, (block, text)) in refs.zip(blocks.chunks_exact_mut(BLOCK)).enumerate() {
            let number = first + index as u64;
            let context = context(key.file, number);
            let opened = match key.of(block.version.session()) {
                Some(key) => key.open(block.version.nonce(), &context, &block.tag, text),
                None => Err(Broken),
            };
            opened.map_err(|Broken| self.broken(key.file, number, block))?;
        }
        Ok(())
    }

    fn broken(&self, file: Ino, block: u64, place: &BlockRef) -> StoreError {
        if self.slots().is_damaged(place.slot.number()) {
            StoreError::Lost { file, block }
        } else {
            StoreError::Tampered { file, block }
        }
    }

    /// Nothing refers to these blocks any more.
    pub fn free(&self, refs: impl IntoIterator<Item = BlockRef>) {
        let mut refs = refs.into_iter().map(|block| block.slot.number()).peekable();
        if refs.peek().is_none() {
            return;
        }
        let mut slots = self.slots();
        while let Some(start) = refs.next() {
            let mut run = Run { start, length: 1 };
            while refs.next_if_eq(&run.end()).is_some() {
                run.length += 1;
            }
            slots.free(run);
        }
        drop(slots);
        self.punch();
    }

    /// Gives free space back to the disk, when there is enough of it.
    pub(super) fn punch(&self) {
        let runs = self.slots().take_for_punching();
        self.punch_runs(runs);
    }

    /// Gives all free space back to the disk.
    pub(super) fn punch_all(&self) {
        let runs = self.slots().take_all_for_punching();
        self.punch_runs(runs);
    }

    fn punch_runs(&self, runs: Vec<Run>) {
        for run in runs {
            let punched = self.disk.punch(Slot::new(run.start).offset(), run.length * BLOCK as u64);
            let mut slots = self.slots();
            match punched {
                Ok(()) => slots.punched(run),
                // The space is used again later; nobody misses it sooner.
                Err(_) => slots.not_punched(run),
            }
        }
    }
}

/// What a block is bound to besides its key and its version.
fn context(file: Ino, block: u64) -> [u8; 16] {
    let mut context = [0; 16];
    context[..8].copy_from_slice(&file.to_le_bytes());
    context[8..].copy_from_slice(&block.to_le_bytes());
    context
}

/// How many of `places`, from the first on, lie next to each other.
fn neighbors(places: &[u64]) -> usize {
    1 + places.windows(2).take_while(|pair| pair[0] + 1 == pair[1]).count()
}

/// How many of `refs`, from the first on, are blocks that lie next to each other.
fn neighboring_blocks(refs: &[Option<BlockRef>]) -> usize {
    let Some(Some(first)) = refs.first() else { return 0 };
    let follows = |(index, block): &(usize, &Option<BlockRef>)| {
        block.is_some_and(|block| block.slot.number() == first.slot.number() + *index as u64)
    };
    refs.iter().take(BATCH).enumerate().take_while(follows).count()
}
