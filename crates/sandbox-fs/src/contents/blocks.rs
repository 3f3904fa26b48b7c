//! The blocks of one file, behind its lock: reading, writing, and what truncate and fallocate do to them.

use std::ops::Range;

use super::{BLOCK_BYTES, Backing, BlockMap, ContentsError, Lower, RUN, Ranges, split};
use crate::store::{BLOCK, BlockRef, FileKey, Store};

pub(super) struct Blocks {
    pub(super) size: u64,
    pub(super) key: FileKey,
    pub(super) map: BlockMap,
    /// Holes that space was reserved for.
    pub(super) reserved: Ranges,
    pub(super) lower: Option<Lower>,
}

impl Blocks {
    pub(super) fn fill(
        &self,
        store: &Store,
        mut offset: u64,
        mut out: &mut [u8],
    ) -> Result<(), ContentsError> {
        let mut places = [None; RUN];
        while !out.is_empty() {
            let (block, within) = split(offset);
            let length;
            if within == 0 && out.len() >= BLOCK {
                let wanted = (out.len() / BLOCK).min(RUN);
                let count = self.map.run(block, &mut places[..wanted]);
                length = count * BLOCK;
                self.read_run(store, block, &places[..count], &mut out[..length])?;
            } else {
                let whole = self.read_block(store, block)?;
                length = out.len().min(BLOCK - within);
                out[..length].copy_from_slice(&whole[within..within + length]);
            }
            offset += length as u64;
            out = &mut out[length..];
        }
        Ok(())
    }

    fn read_block(&self, store: &Store, block: u64) -> Result<[u8; BLOCK], ContentsError> {
        let mut whole = [0; BLOCK];
        self.read_run(store, block, &[self.map.get(block)], &mut whole)?;
        Ok(whole)
    }

    /// Reads consecutive whole blocks.
    fn read_run(
        &self,
        store: &Store,
        first: u64,
        places: &[Option<BlockRef>],
        out: &mut [u8],
    ) -> Result<(), ContentsError> {
        let Some(lower) = &self.lower else { return Ok(store.read(&self.key, first, places, out)?) };
        let is_below = |at: usize| places[at].is_none() && lower.has(first + at as u64);
        let mut at = 0;
        while at < places.len() {
            let kind = is_below(at);
            let next = (at + 1..places.len()).find(|next| is_below(*next) != kind).unwrap_or(places.len());
            let (block, part) = (first + at as u64, &mut out[at * BLOCK..next * BLOCK]);
            if kind {
                lower.read(block, part)?;
            } else {
                store.read(&self.key, block, &places[at..next], part)?;
            }
            at = next;
        }
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        backing: Backing<'_>,
        mut offset: u64,
        mut data: &mut [u8],
    ) -> Result<(), ContentsError> {
        while !data.is_empty() {
            let (block, within) = split(offset);
            let length;
            if within == 0 && data.len() >= BLOCK {
                let count = data.len() / BLOCK;
                length = count * BLOCK;
                self.write_run(backing, block, &mut data[..length])?;
            } else {
                length = data.len().min(BLOCK - within);
                self.write_part(backing, block, within, &data[..length])?;
            }
            offset += length as u64;
            data = &mut data[length..];
        }
        Ok(())
    }

    /// Writes into one block without losing the rest of it.
    fn write_part(
        &mut self,
        backing: Backing<'_>,
        block: u64,
        within: usize,
        data: &[u8],
    ) -> Result<(), ContentsError> {
        let covers_all = within == 0 && block * BLOCK_BYTES + data.len() as u64 >= self.size;
        let mut whole = if covers_all { [0; BLOCK] } else { self.read_block(backing.store, block)? };
        whole[within..within + data.len()].copy_from_slice(data);
        self.write_run(backing, block, &mut whole)
    }

    /// Writes consecutive whole blocks.
    fn write_run(&mut self, backing: Backing<'_>, first: u64, data: &mut [u8]) -> Result<(), ContentsError> {
        let mut places = [None; RUN];
        let mut block = first;
        for part in data.chunks_mut(RUN * BLOCK) {
            let mut part = part;
            while !part.is_empty() {
                let count = self.map.run(block, &mut places[..part.len() / BLOCK]);
                let (now, later) = part.split_at_mut(count * BLOCK);
                self.write_places(backing, block, &mut places[..count], now)?;
                block += count as u64;
                part = later;
            }
        }
        Ok(())
    }

    fn write_places(
        &mut self,
        backing: Backing<'_>,
        block: u64,
        places: &mut [Option<BlockRef>],
        data: &mut [u8],
    ) -> Result<(), ContentsError> {
        let range = block..block + places.len() as u64;
        let missing =
            |places: &[Option<BlockRef>]| places.iter().filter(|place| place.is_none()).count() as u64;
        let fresh = missing(places);
        // Reserved blocks have been counted; no block is both reserved and there.
        let reserved = self.reserved.count(&range);
        backing.account.take_bytes((fresh - reserved) * BLOCK_BYTES).map_err(ContentsError::Space)?;
        let written = backing.store.write(&self.key, block, data, places);
        self.reserved.remove(range.clone());
        self.map.set(block, places);
        match (&written, &mut self.lower) {
            (Ok(()), Some(lower)) => lower.hide(range),
            (Ok(()), None) => {}
            // Part of it may have been written; the rest takes nothing, and the lower layer is still seen there.
            (Err(_), lower) => {
                backing.account.give_bytes(missing(places) * BLOCK_BYTES);
                if let Some(lower) = lower {
                    let placed = (block..).zip(&*places).filter(|(_, place)| place.is_some());
                    placed.for_each(|(number, _)| lower.hide(number..number + 1));
                }
            }
        }
        Ok(written?)
    }

    pub(super) fn truncate(&mut self, backing: Backing<'_>, size: u64) -> Result<(), ContentsError> {
        if size < self.size {
            let (block, within) = split(size);
            if within > 0 && self.map.get(block).is_some() {
                let mut whole = self.read_block(backing.store, block)?;
                whole[within..].fill(0);
                self.write_run(backing, block, &mut whole)?;
            }
            if let Some(lower) = &mut self.lower {
                lower.cut(size);
            }
        }
        // Space that was reserved behind the end goes as well, as in other file systems.
        self.drop_blocks(backing, size.div_ceil(BLOCK_BYTES)..u64::MAX);
        self.size = size;
        Ok(())
    }

    pub(super) fn punch(&mut self, backing: Backing<'_>, range: Range<u64>) -> Result<(), ContentsError> {
        let range = range.start..range.end.min(self.size.next_multiple_of(BLOCK_BYTES));
        if range.is_empty() {
            return Ok(());
        }
        let whole = range.start.div_ceil(BLOCK_BYTES)..range.end / BLOCK_BYTES;
        let zeros = [0; BLOCK];
        let mut zero_part = |from: u64, to: u64| {
            let (block, within) = split(from);
            let length = (to - from) as usize;
            if length == 0 || !self.has(block) {
                return Ok(());
            }
            let mut bytes = self.read_block(backing.store, block)?;
            bytes[within..within + length].copy_from_slice(&zeros[..length]);
            self.write_run(backing, block, &mut bytes)
        };
        if whole.start > whole.end {
            // Within one block.
            return zero_part(range.start, range.end);
        }
        zero_part(range.start, whole.start * BLOCK_BYTES)?;
        zero_part(whole.end * BLOCK_BYTES, range.end)?;
        self.drop_blocks(backing, whole.clone());
        if let Some(lower) = &mut self.lower {
            lower.hide(whole);
        }
        Ok(())
    }

    pub(super) fn reserve(&mut self, backing: Backing<'_>, range: Range<u64>) -> Result<(), ContentsError> {
        let range = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        // Counted before anything is done, so that a refused reservation has reserved nothing.
        let mut holes = Ranges::default();
        holes.insert(range.clone());
        let mut places = [None; RUN];
        let mut block = range.start;
        let limit = backing.account.quota().bytes / BLOCK_BYTES;
        if range.end - range.start > limit.saturating_add(self.used()) {
            backing.account.take_bytes(u64::MAX).map_err(ContentsError::Space)?;
        }
        while block < range.end {
            let wanted = usize::try_from(range.end - block).unwrap_or(RUN).min(RUN);
            let count = self.map.run(block, &mut places[..wanted]);
            for (at, place) in places[..count].iter().enumerate() {
                let number = block + at as u64;
                if place.is_some() || self.reserved.contains(number) {
                    holes.remove(number..number + 1);
                }
            }
            block += count as u64;
        }
        let wanted = holes.count(&range);
        backing.account.take_bytes(wanted * BLOCK_BYTES).map_err(ContentsError::Space)?;
        let added: u64 = holes.iter().map(|hole| self.reserved.insert(hole)).sum();
        debug_assert_eq!(added, wanted);
        Ok(())
    }

    /// Forgets blocks and reservations.
    pub(super) fn drop_blocks(&mut self, backing: Backing<'_>, range: Range<u64>) {
        let mut freed = Vec::new();
        let blocks = self.map.clear(range.clone(), |place| freed.push(place));
        backing.store.free(freed);
        let reserved = self.reserved.remove(range);
        backing.account.give_bytes((blocks + reserved) * BLOCK_BYTES);
    }

    /// Whether there is more in a block than a hole.
    fn has(&self, block: u64) -> bool {
        self.map.get(block).is_some() || self.lower.as_ref().is_some_and(|lower| lower.has(block))
    }

    pub(super) fn used(&self) -> u64 {
        let below = self.lower.as_ref().map_or(0, Lower::blocks);
        self.map.len() + self.reserved.len() + below
    }
}
