//! Sealed blocks in one data file (§4.4): what is read back is what was written last, or an error.
//!
//! ```text
//! directory/data            slots of 4 KiB, each with a sealed block or nothing; no names, no order, no tags
//!           checkpoint.a,b  the last two checkpoints: sealed, and only good for who knows the root
//! ```
//! Whoever uses a store keeps a [`BlockRef`] for each block, in memory. It says where the block lies, and holds the tag
//! that this very version of it has; so whatever becomes of the data file, an old block, another's, or none is never
//! taken for it. A checkpoint seals those references, and the caller's names with them, and is itself named by a
//! [`Root`], which must be kept elsewhere.
//!
//! docs/decisions/0016 tells why it is so, and what crash, rollback and copies of the disk can do.

mod block;
mod checkpoint;
mod disk;
mod error;
mod keys;
mod runs;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use block::{BLOCK, BlockRef};
pub use checkpoint::Root;
pub use error::StoreError;
pub use keys::FileKey;

use block::{SEALINGS, SessionNumber, Slot, Version};
use checkpoint::Head;
use disk::{Copy, Directory, Disk, Short};
use error::io_error;
use keys::{Session, Sessions};
use runs::Run;
use slots::{BATCH, Generation, Slots};

use crate::operations::Ino;
use crate::seal::{Broken, SALT, StoreKey, Suite, TAG, random_salt};

/// Sealed blocks in a directory. All calls may run at once, if for each file no call runs beside a [`Store::write`] or
/// [`Store::free`] of the same blocks.
pub struct Store {
    disk: Box<dyn Disk>,
    suite: Suite,
    sessions: Arc<Sessions>,
    /// Sealings of this session so far.
    sealed: AtomicU64,
    slots: Mutex<Slots>,
    /// Held while a checkpoint is made.
    history: Mutex<History>,
}

/// What is known of the checkpoints.
struct History {
    /// Where the last good one is, and its generation.
    last: Option<(Copy, Generation)>,
    /// Numbers of the older sessions that sealed blocks which may still be there.
    sessions: BTreeSet<SessionNumber>,
}

impl Store {
    /// A new store in `directory`, which must be empty and nobody else's.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`], or the system's.
    pub fn create(directory: OwnedFd, key: StoreKey, suite: Suite) -> Result<Store, StoreError> {
        Store::create_on(Box::new(Directory::create(directory)?), key, suite)
    }

    /// The store in `directory` as it was at the checkpoint `expected`, one of the last two, and the state that was
    /// sealed with it. [`Store::keep`] comes next.
    ///
    /// # Errors
    /// [`StoreError::NotExpected`] if anything else is there, [`StoreError::WrongKey`], or the system's.
    pub fn open(directory: OwnedFd, key: StoreKey, expected: &Root) -> Result<(Store, Vec<u8>), StoreError> {
        Store::open_on(Box::new(Directory::open(directory)?), key, expected)
    }

    fn create_on(disk: Box<dyn Disk>, key: StoreKey, suite: Suite) -> Result<Store, StoreError> {
        let history = History { last: None, sessions: BTreeSet::new() };
        Store::new(disk, key, suite, Vec::new(), Slots::new(0, 0), history)
    }

    fn open_on(disk: Box<dyn Disk>, key: StoreKey, expected: &Root) -> Result<(Store, Vec<u8>), StoreError> {
        for copy in Copy::BOTH {
            let Some(file) = checkpoint::read_expected(expected, || disk.checkpoint(copy))? else { continue };
            let (suite, head, state) = checkpoint::decode(file, &key)?;
            let sessions: BTreeSet<SessionNumber> = head.sessions.iter().map(|(number, _)| *number).collect();
            let sorted = head.sessions.is_sorted_by(|(one, _), (two, _)| one < two);
            let length = head.slots.checked_mul(BLOCK as u64).filter(|&length| i64::try_from(length).is_ok());
            let (Some(length), true) = (length, sorted) else {
                return Err(StoreError::Senseless { what: "its head contradicts itself" });
            };
            // What a longer file has was written after the checkpoint; a shorter one has lost blocks, as will show.
            disk.resize(length).map_err(io_error("set the length of the data file"))?;
            let slots = Slots::new(head.slots, head.generation);
            let history = History { last: Some((copy, head.generation)), sessions };
            return Ok((Store::new(disk, key, suite, head.sessions, slots, history)?, state));
        }
        Err(StoreError::NotExpected)
    }

    fn new(
        disk: Box<dyn Disk>,
        key: StoreKey,
        suite: Suite,
        older: Vec<(SessionNumber, [u8; SALT])>,
        slots: Slots,
        history: History,
    ) -> Result<Store, StoreError> {
        let salt = random_salt().map_err(io_error("get random bytes"))?;
        let unused = (1..=SessionNumber::MAX).find(|number| !history.sessions.contains(number));
        let number = unused.ok_or(StoreError::Exhausted)?;
        let session = |(number, salt)| Session { number, salt, key: key.session(suite, &salt) };
        let current = session((number, salt));
        let older = older.into_iter().map(session).collect();
        // It has no other use: from here on it is nowhere in this process.
        drop(key);
        Ok(Store {
            disk,
            suite,
            sessions: Arc::new(Sessions { current, older }),
            sealed: AtomicU64::new(0),
            slots: Mutex::new(slots),
            history: Mutex::new(history),
        })
    }

    /// What the store is sealed with.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Bytes in slots that are taken, by blocks that are there or that a checkpoint needs.
    pub fn used(&self) -> u64 {
        self.slots().taken() * BLOCK as u64
    }

    /// The keys of a file's blocks.
    pub fn file_key(&self, file: Ino) -> FileKey {
        FileKey::new(file, Arc::clone(&self.sessions))
    }

    /// After [`Store::open`]: of all that is in the data file only the blocks `kept` count, which are all that the
    /// state refers to. Until then nothing that is there is written over.
    ///
    /// # Errors
    /// [`StoreError::Senseless`] if they can't be what that checkpoint refers to.
    pub fn keep(&self, kept: impl IntoIterator<Item = BlockRef>) -> Result<(), StoreError> {
        let mut sessions = BTreeSet::new();
        let kept = kept.into_iter().map(|block| {
            sessions.insert(block.version.session());
            block.slot
        });
        self.slots().keep(kept).map_err(|what| StoreError::Senseless { what })?;
        lock(&self.history).sessions.retain(|number| sessions.contains(number));
        self.punch();
        Ok(())
    }

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
    fn punch(&self) {
        let runs = self.slots().take_for_punching();
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

    /// Returns when all that was written is where a power cut leaves it.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.disk.sync().map_err(io_error("sync the data file"))
    }

    /// Makes what `state` tells, with all blocks that it refers to, the checkpoint with which the store can be opened
    /// again, and returns its root when it will stay. The one before can be opened too until the next call of this, by
    /// which time the caller must have put the root where it belongs.
    ///
    /// No [`Store::write`] or [`Store::free`] may run from when `state` is made until this returns. A
    /// [`Store::sync`] just before makes that time short.
    ///
    /// # Errors
    /// The disk's. The last checkpoint is still good then.
    pub fn checkpoint(&self, state: &[u8]) -> Result<Root, StoreError> {
        let mut history = lock(&self.history);
        if let Some((_, last)) = history.last {
            self.slots().forget_before(last);
        }
        let (generation, slots) = {
            let mut slots = self.slots();
            (slots.freeze(), slots.count())
        };
        self.sync()?;

        let Session { number, salt, key } = &self.sessions.current;
        let older = self.sessions.older.iter().filter(|session| history.sessions.contains(&session.number));
        let mut sessions: Vec<_> = older.map(|session| (session.number, session.salt)).collect();
        sessions.push((*number, *salt));
        sessions.sort_unstable();
        let head = Head { slots, generation, sessions };
        let version = self.version(self.versions(1)?, 0);
        let (file, root) = checkpoint::encode(self.suite, salt, version, &key.of_state(), &head, state);
        let copy = history.last.map_or(Copy::A, |(copy, _)| copy.other());
        self.disk.write_checkpoint(copy, &file).map_err(io_error("write a checkpoint"))?;
        history.last = Some((copy, generation));
        Ok(root)
    }

    /// The last checkpoint's root is where it belongs: the one before is needed no longer, and neither is the space
    /// of blocks that only it refers to.
    pub fn settle(&self) {
        let history = lock(&self.history);
        if let Some((_, last)) = history.last {
            self.slots().forget_before(last);
            drop(history);
            self.punch();
        }
    }

    /// The first of as many counters that nobody else gets.
    fn versions(&self, count: usize) -> Result<u64, StoreError> {
        let count = count as u64;
        let next = |sealed: u64| sealed.checked_add(count).filter(|&sealed| sealed <= SEALINGS);
        let first = self.sealed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        first.map_err(|_| StoreError::Exhausted)
    }

    fn version(&self, first: u64, index: usize) -> Version {
        Version::new(self.sessions.current.number, first + index as u64)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        lock(&self.slots)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("suite", &self.suite).finish_non_exhaustive()
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

/// A panic leaves nothing half done that is guarded by a lock here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
