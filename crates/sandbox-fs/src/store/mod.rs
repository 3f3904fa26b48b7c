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
mod history;
mod keys;
mod runs;
mod slots;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use block::{BLOCK, BlockRef};
pub use checkpoint::{MAX_STATE, Root};
pub use error::StoreError;
pub use keys::FileKey;

use block::{SEALINGS, SessionNumber, Version};
use disk::{Copy, Directory, Disk};
use error::io_error;
use history::History;
use keys::{Session, Sessions};
use slots::Slots;

use crate::operations::Ino;
use crate::seal::{SALT, StoreKey, Suite, random_salt};

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

/// A panic leaves nothing half done that is guarded by a lock here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
