//! What can go wrong in the file store.

use std::io;
use std::path::PathBuf;

use model::{BlobHash, ByteSize};
use thiserror::Error;

use super::{MAX_BLOB, MAX_READ};

#[derive(Debug, Error)]
pub enum FilesError {
    #[error("there is no blob {hash}")]
    Missing { hash: BlobHash },
    #[error("blob {hash} is damaged in {}: store it again, or restore the file from a backup", path.display())]
    Corrupt { hash: BlobHash, path: PathBuf },
    #[error("{} is full: {free} free, {floor} are kept free; remove files or enlarge the disk", path.display())]
    Full {
        path: PathBuf,
        free: ByteSize,
        floor: ByteSize,
        /// What the system said, if the store didn't refuse by itself to stay above the floor.
        #[source]
        source: Option<io::Error>,
    },
    #[error("can't {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the upload of {hash} stands at byte {expected}, the piece starts at {found}")]
    Offset { hash: BlobHash, expected: u64, found: u64 },
    #[error("the piece of {hash} ends at byte {end}, after the blob's end at {total}")]
    PastEnd { hash: BlobHash, end: u64, total: u64 },
    #[error("the bytes uploaded as {expected} have the hash {found}; the upload was discarded")]
    HashMismatch { expected: BlobHash, found: BlobHash },
    #[error("a blob of {size} is larger than {}", ByteSize(MAX_BLOB))]
    TooLarge { size: ByteSize },
    #[error("a read of {len} bytes is longer than {MAX_READ}")]
    ReadTooLong { len: usize },
    #[error("slice {hash} ends at byte {end} of {parent}, which has {size}")]
    SliceRange { hash: BlobHash, parent: BlobHash, end: u64, size: u64 },
    #[error("{} is in use by another server", path.display())]
    Locked { path: PathBuf },
    #[error("{} says format '{found}', this program reads format '{known}'", path.display())]
    Version { path: PathBuf, found: String, known: &'static str },
    #[error("{} failed to keep what was written; check the disk, then restart the server", path.display())]
    Broken { path: PathBuf },
}
