//! What goes wrong below a file system, and what of it ends the subjob.
//!
//! With a write-back cache in the kernel a program may have closed a file long before its bytes find no room; so it is
//! not left to the program to notice.

use serde::{Deserialize, Serialize};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::contents::{ContentsError, SourceError};
use crate::operations::Ino;
use crate::store::StoreError;

/// Something after which the subjob's files are not what its program believes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// What the disk gave back is not what was written.
    Tampered {
        /// The inode, if it was a file of the subjob's own.
        file: Option<Ino>,
    },
    /// The subjob wanted more than its quota.
    OutOfSpace,
    /// The desktop's disk is full.
    DiskFull,
    /// The desktop's disk has failed.
    Storage { why: String },
}

#[derive(Default)]
pub(crate) struct Troubles {
    first: Mutex<Option<Trouble>>,
}

impl Troubles {
    pub(crate) fn first(&self) -> Option<Trouble> {
        lock(&self.first).clone()
    }

    /// Keeps the trouble if it is the first and says what the program sees of it.
    pub(crate) fn note(&self, error: ContentsError) -> Errno {
        let (trouble, errno) = match error {
            ContentsError::Space(Errno::NOSPC) => (Trouble::OutOfSpace, Errno::NOSPC),
            ContentsError::Space(errno) => return errno,
            ContentsError::Store(StoreError::Tampered { file, .. }) => {
                (Trouble::Tampered { file: Some(file) }, Errno::IO)
            }
            ContentsError::Store(StoreError::Io { source, .. }) if is_disk_full(&source) => {
                (Trouble::DiskFull, Errno::NOSPC)
            }
            ContentsError::Store(error) => (Trouble::Storage { why: error.to_string() }, Errno::IO),
            ContentsError::Source(SourceError::Tampered) => (Trouble::Tampered { file: None }, Errno::IO),
            ContentsError::Source(error @ SourceError::Io(_)) => {
                (Trouble::Storage { why: error.to_string() }, Errno::IO)
            }
        };
        self.keep(trouble);
        errno
    }

    pub(crate) fn keep(&self, trouble: Trouble) {
        lock(&self.first).get_or_insert(trouble);
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
