//! What is in one regular file: sealed blocks of its own over the contents of a lower layer, if it has one.
//!
//! Copy-on-write is by block: the first write into a file of a lower layer copies no more than the block that it
//! writes in part. What lies in a block behind the end of the file is zero at all times.

mod map;
mod ranges;
mod source;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::io::Errno;

use crate::limits::Account;
use crate::store::{BLOCK, BlockRef, FileKey, Store, StoreError};

pub(crate) use map::BlockMap;
pub(crate) use ranges::Ranges;
pub use source::{Source, SourceError};

/// Largest file, in bytes: the kernel's `loff_t` ends there.
const MAX_SIZE: u64 = i64::MAX as u64;

const BLOCK_BYTES: u64 = BLOCK as u64;

/// Blocks that are handled with one look into the map.
const RUN: usize = 128;

/// Why contents can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentsError {
    #[error("there is no room for them: {0}")]
    Space(Errno),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the lower layer: {0}")]
    Source(#[from] SourceError),
}

/// Where blocks go and who counts them.
#[derive(Clone, Copy)]
pub(crate) struct Backing<'a> {
    pub(crate) store: &'a Store,
    pub(crate) account: &'a Account,
}

/// Contents of a regular file.
pub(crate) struct Contents {
    /// As in `blocks`, to be read without waiting for a write.
    size: AtomicU64,
    /// Blocks that count as used, likewise.
    used: AtomicU64,
    blocks: RwLock<Blocks>,
}

struct Blocks {
    size: u64,
    key: FileKey,
    map: BlockMap,
    /// Holes that space was reserved for.
    reserved: Ranges,
    lower: Option<Lower>,
}

/// What is still seen of a lower layer's file.
#[derive(Clone)]
pub(crate) struct Lower {
    pub(crate) source: Arc<dyn Source>,
    /// Bytes behind this one are gone, whatever comes later.
    pub(crate) visible: u64,
    /// Blocks before that which were written over or made holes.
    pub(crate) hidden: Ranges,
}

/// All of a file's contents but the bytes, for a checkpoint.
pub(crate) struct Parts {
    pub(crate) size: u64,
    pub(crate) map: BlockMap,
    pub(crate) reserved: Ranges,
    pub(crate) lower: Option<Lower>,
}

impl Contents {
    pub(crate) fn empty(key: FileKey) -> Self {
        Contents::from_parts(
            key,
            Parts { size: 0, map: BlockMap::default(), reserved: Ranges::default(), lower: None },
        )
    }

    /// The contents of a file of a lower layer, untouched.
    pub(crate) fn of(source: Arc<dyn Source>, key: FileKey) -> Self {
        let size = source.size();
        let lower = Some(Lower { source, visible: size, hidden: Ranges::default() });
        Contents::from_parts(
            key,
            Parts { size, map: BlockMap::default(), reserved: Ranges::default(), lower },
        )
    }

    pub(crate) fn from_parts(key: FileKey, parts: Parts) -> Self {
        let Parts { size, map, reserved, lower } = parts;
        let blocks = Blocks { size, key, map, reserved, lower };
        Contents {
            size: AtomicU64::new(size),
            used: AtomicU64::new(blocks.used()),
            blocks: RwLock::new(blocks),
        }
    }

    pub(crate) fn parts(&self) -> Parts {
        let blocks = self.shared();
        Parts {
            size: blocks.size,
            map: blocks.map.clone(),
            reserved: blocks.reserved.clone(),
            lower: blocks.lower.clone(),
        }
    }

    pub(crate) fn places(&self) -> Vec<BlockRef> {
        self.shared().map.places().collect()
    }

    /// Bytes that count against the quota.
    pub(crate) fn charged(&self) -> u64 {
        let blocks = self.shared();
        (blocks.map.len() + blocks.reserved.len()) * BLOCK_BYTES
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Space that the file takes, those blocks of a lower layer included that are still seen; in blocks.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Fills `buffer` from `offset` on and returns how many bytes there were. What is behind them in `buffer` is
    /// scratch space.
    pub(crate) fn read(&self, store: &Store, offset: u64, buffer: &mut [u8]) -> Result<usize, ContentsError> {
        let blocks = self.shared();
        let left = blocks.size.saturating_sub(offset);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        // Whole blocks are opened in place: the last one too, if there is room for its padding.
        let padded = length.next_multiple_of(BLOCK).min(buffer.len());
        let filled = if offset.is_multiple_of(BLOCK_BYTES) { padded } else { length };
        blocks.fill(store, offset, &mut buffer[..filled])?;
        Ok(length)
    }

    /// Writes all of `data`; it is scratch space afterwards.
    pub(crate) fn write(
        &self,
        backing: Backing<'_>,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), ContentsError> {
        let end = end_of(offset, data.len() as u64)?;
        let mut blocks = self.exclusive();
        let result = blocks.write(backing, offset, data);
        if result.is_ok() {
            blocks.size = blocks.size.max(end);
        }
        self.note(&blocks);
        result
    }

    pub(crate) fn truncate(&self, backing: Backing<'_>, size: u64) -> Result<(), ContentsError> {
        if size > MAX_SIZE {
            return Err(ContentsError::Space(Errno::FBIG));
        }
        let mut blocks = self.exclusive();
        let result = blocks.truncate(backing, size);
        self.note(&blocks);
        result
    }

    /// Makes a range zero without giving it space. The size stays.
    pub(crate) fn punch(&self, backing: Backing<'_>, offset: u64, length: u64) -> Result<(), ContentsError> {
        let end = end_of(offset, length)?;
        let mut blocks = self.exclusive();
        let result = blocks.punch(backing, offset..end);
        self.note(&blocks);
        result
    }

    /// Sees to it that writing into a range needs no more space.
    pub(crate) fn reserve(
        &self,
        backing: Backing<'_>,
        offset: u64,
        length: u64,
        grows: bool,
    ) -> Result<(), ContentsError> {
        let end = end_of(offset, length)?;
        let mut blocks = self.exclusive();
        let result = blocks.reserve(backing, offset..end);
        if result.is_ok() && grows {
            blocks.size = blocks.size.max(end);
        }
        self.note(&blocks);
        result
    }

    /// Gives back all that the file takes. It is not to be used afterwards.
    pub(crate) fn release(&self, backing: Backing<'_>) {
        let mut blocks = self.exclusive();
        blocks.lower = None;
        blocks.drop_blocks(backing, 0..u64::MAX);
        blocks.size = 0;
        self.note(&blocks);
    }

    fn note(&self, blocks: &Blocks) {
        self.size.store(blocks.size, Ordering::Release);
        self.used.store(blocks.used(), Ordering::Relaxed);
    }

    fn shared(&self) -> RwLockReadGuard<'_, Blocks> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Blocks> {
        self.blocks.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocks {
    fn fill(&self, store: &Store, mut offset: u64, mut out: &mut [u8]) -> Result<(), ContentsError> {
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

    fn write(
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

    fn truncate(&mut self, backing: Backing<'_>, size: u64) -> Result<(), ContentsError> {
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

    fn punch(&mut self, backing: Backing<'_>, range: Range<u64>) -> Result<(), ContentsError> {
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

    fn reserve(&mut self, backing: Backing<'_>, range: Range<u64>) -> Result<(), ContentsError> {
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
    fn drop_blocks(&mut self, backing: Backing<'_>, range: Range<u64>) {
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

    fn used(&self) -> u64 {
        let below = self.lower.as_ref().map_or(0, Lower::blocks);
        self.map.len() + self.reserved.len() + below
    }
}

impl Lower {
    /// Whether a block without a place of its own is seen in the lower layer.
    fn has(&self, block: u64) -> bool {
        block * BLOCK_BYTES < self.visible && !self.hidden.contains(block)
    }

    fn hide(&mut self, blocks: Range<u64>) {
        let end = blocks.end.min(self.visible.div_ceil(BLOCK_BYTES));
        if blocks.start < end {
            self.hidden.insert(blocks.start..end);
        }
    }

    fn cut(&mut self, size: u64) {
        self.visible = self.visible.min(size);
        self.hidden.remove(self.visible.div_ceil(BLOCK_BYTES)..u64::MAX);
    }

    /// Blocks that are still seen in the layer.
    fn blocks(&self) -> u64 {
        self.visible.div_ceil(BLOCK_BYTES).saturating_sub(self.hidden.len())
    }

    /// Fills whole blocks, with zeros behind the end.
    fn read(&self, block: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let offset = block * BLOCK_BYTES;
        let length = out.len().min((self.visible - offset) as usize);
        let (bytes, rest) = out.split_at_mut(length);
        rest.fill(0);
        self.source.read(offset, bytes)
    }
}

/// Block, and byte in it.
fn split(offset: u64) -> (u64, usize) {
    (offset / BLOCK_BYTES, (offset % BLOCK_BYTES) as usize)
}

fn end_of(offset: u64, length: u64) -> Result<u64, ContentsError> {
    offset.checked_add(length).filter(|end| *end <= MAX_SIZE).ok_or(ContentsError::Space(Errno::FBIG))
}
