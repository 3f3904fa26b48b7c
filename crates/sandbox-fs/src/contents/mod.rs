//! What is in one regular file: sealed blocks of its own over the contents of a lower layer, if it has one.
//!
//! Copy-on-write is by block: the first write into a file of a lower layer copies no more than the block that it
//! writes in part. What lies in a block behind the end of the file is zero at all times.

mod blocks;
mod lower;
mod map;
mod ranges;
mod source;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::io::Errno;

use crate::limits::Account;
use crate::store::{BLOCK, BlockRef, FileKey, Store, StoreError};

use blocks::Blocks;
pub(crate) use lower::Lower;
pub(crate) use map::BlockMap;
pub(crate) use ranges::Ranges;
pub use source::{Source, SourceError};

/// Largest file, in bytes: the kernel's `loff_t` ends there.
const MAX_SIZE: u64 = i64::MAX as u64;

const BLOCK_BYTES: u64 = BLOCK as u64;

/// Blocks that are handled with one look into the map: the largest request comes to the disk as one write.
const RUN: usize = 256;

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

/// Block, and byte in it.
fn split(offset: u64) -> (u64, usize) {
    (offset / BLOCK_BYTES, (offset % BLOCK_BYTES) as usize)
}

fn end_of(offset: u64, length: u64) -> Result<u64, ContentsError> {
    offset.checked_add(length).filter(|end| *end <= MAX_SIZE).ok_or(ContentsError::Space(Errno::FBIG))
}
