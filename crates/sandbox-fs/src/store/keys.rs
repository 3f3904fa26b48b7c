//! The sessions of a store, and the keys of its files in each.

use std::sync::{Arc, OnceLock};

use super::block::SessionNumber;
use crate::operations::Ino;
use crate::seal::{SALT, SealKey, SessionKey};

/// One opening of a store by one process.
pub(super) struct Session {
    pub(super) number: SessionNumber,
    pub(super) salt: [u8; SALT],
    pub(super) key: SessionKey,
}

/// This session and those that sealed what there was when it began.
pub(super) struct Sessions {
    pub(super) current: Session,
    /// By number.
    pub(super) older: Vec<Session>,
}

/// The keys of one file's blocks. Made in no time; each key is derived when it is first needed, in half a microsecond,
/// and takes 544 bytes then. Drop it when the file is not in use.
pub struct FileKey {
    pub(super) file: Ino,
    sessions: Arc<Sessions>,
    current: OnceLock<SealKey>,
    /// As in `sessions`.
    older: OnceLock<Box<[OnceLock<SealKey>]>>,
}

impl FileKey {
    pub(super) fn new(file: Ino, sessions: Arc<Sessions>) -> FileKey {
        FileKey { file, sessions, current: OnceLock::new(), older: OnceLock::new() }
    }

    /// For what is sealed now.
    pub(super) fn current(&self) -> &SealKey {
        self.current.get_or_init(|| self.sessions.current.key.of_file(self.file))
    }

    /// For what that session sealed, if there was such a session.
    pub(super) fn of(&self, session: SessionNumber) -> Option<&SealKey> {
        if session == self.sessions.current.number {
            return Some(self.current());
        }
        let sessions = &self.sessions.older;
        let index = sessions.binary_search_by_key(&session, |session| session.number).ok()?;
        let older = self.older.get_or_init(|| sessions.iter().map(|_| OnceLock::new()).collect());
        Some(older[index].get_or_init(|| sessions[index].key.of_file(self.file)))
    }
}

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileKey").field("file", &self.file).finish_non_exhaustive()
    }
}
