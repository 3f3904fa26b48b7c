//! Checkpoints as they are made, and what of the past each of them holds.

use std::collections::BTreeSet;
use std::io;

use super::block::SessionNumber;
use super::checkpoint::{self, Head, Root};
use super::disk::Copy;
use super::error::{StoreError, io_error};
use super::keys::Session;
use super::slots::Generation;
use super::{Store, lock};

/// What is known of the checkpoints.
pub(super) struct History {
    /// Where the last good one is, and its generation.
    pub(super) last: Option<(Copy, Generation)>,
    /// Numbers of the older sessions that sealed blocks which may still be there.
    pub(super) sessions: BTreeSet<SessionNumber>,
}

impl Store {
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
        let freeze = self.slots().freeze();
        match self.write_checkpoint(&history, freeze.generation, state) {
            Ok((root, copy)) => {
                history.last = Some((copy, freeze.generation));
                Ok(root)
            }
            Err(error) => {
                self.slots().thaw(freeze);
                Err(error)
            }
        }
    }

    /// Seals a checkpoint and writes it in the place of the older one, which is returned.
    fn write_checkpoint(
        &self,
        history: &History,
        generation: Generation,
        state: &[u8],
    ) -> Result<(Root, Copy), StoreError> {
        self.sync()?;
        let Session { number, salt, key } = &self.sessions.current;
        let older = self.sessions.older.iter().filter(|session| history.sessions.contains(&session.number));
        let mut sessions: Vec<_> = older.map(|session| (session.number, session.salt)).collect();
        sessions.push((*number, *salt));
        sessions.sort_unstable();
        let head = Head { slots: self.slots().count(), generation, sessions };
        let version = self.version(self.versions(1)?, 0);
        let (file, root) = checkpoint::encode(self.suite, salt, version, &key.of_state(), &head, state)?;
        let copy = history.last.map_or(Copy::A, |(copy, _)| copy.other());
        let mut written = self.disk.write_checkpoint(copy, &file);
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            self.punch_all();
            written = self.disk.write_checkpoint(copy, &file);
        }
        written.map_err(io_error("write a checkpoint"))?;
        Ok((root, copy))
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
}
