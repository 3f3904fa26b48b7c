//! What can go wrong with a store.

use std::io;

use crate::operations::Ino;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What the disk gave back is not what was written last. Somebody changed it.
    #[error("block {block} of file {file} is not what was written")]
    Tampered { file: Ino, block: u64 },
    /// Writing over the block failed in the middle, as the caller was told then, and the disk has kept neither the
    /// old nor the new one.
    #[error("block {block} of file {file} was lost when writing over it failed")]
    Lost { file: Ino, block: u64 },
    /// The disk failed or is full.
    #[error("cannot {operation}")]
    Io {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    /// The directory of a new store has something in it.
    #[error("the directory of a new store is not empty")]
    NotEmpty,
    /// Another process, or another value of this one, has the store open.
    #[error("the store is in use")]
    InUse,
    /// No checkpoint in the directory is the expected one: all are older or younger, of another store, or altered;
    /// or there is none.
    #[error("the store has no checkpoint that is the expected one")]
    NotExpected,
    /// The checkpoint is the expected one, and sealed with another key.
    #[error("the checkpoint does not open with this key")]
    WrongKey,
    /// The checkpoint is of a format that this version doesn't know.
    #[error("the checkpoint has format {format} and suite {suite}, which are not known")]
    UnknownFormat { format: u8, suite: u8 },
    /// The state that a checkpoint is to seal is longer than [`crate::store::MAX_STATE`].
    #[error("a checkpoint of {bytes} bytes is too long")]
    TooLong { bytes: usize },
    /// What a checkpoint tells can't be true: not by tampering, which never gets so far.
    #[error("the checkpoint makes no sense: {what}")]
    Senseless { what: &'static str },
    /// The session has sealed 2^48 blocks, or has 65,535 others before it.
    #[error("the store must be opened anew: it has sealed as many blocks as one session can")]
    Exhausted,
}

/// Turns an error of the system into ours.
pub(crate) fn io_error<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> StoreError {
    move |source| StoreError::Io { operation, source: source.into() }
}
