//! The file store (§2.1): every input, program and result of the grid, named by the BLAKE3 hash of its bytes.
//!
//! [`DirectoryFiles`] keeps blobs in a directory; [`MemoryFiles`] is the same store in memory, with faults to
//! order, for tests of the server. The trait is synchronous: whoever calls it from the network does so on a
//! thread that may block. Which blobs a job needs, and when one may go, is not decided here.

mod compression;
mod damage;
mod directory;
mod disk;
mod error;
mod frames;
mod memory;
mod pack;
mod packs;
mod singles;
mod slices;
mod uploads;
mod writer;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod directory_tests;
#[cfg(test)]
mod samples;

use std::fmt::Debug;

use model::BlobHash;

pub use damage::{Damage, DamageKind};
pub use directory::{Config, DirectoryFiles};
pub use error::FilesError;
pub use memory::MemoryFiles;

/// Most bytes that one [`Files::read`] returns.
pub const MAX_READ: usize = 8 << 20;

/// Blobs up to this size share pack files, larger ones have a file each.
pub const PACK_MAX: usize = 64 << 10;

/// The largest blob: keeps the table of frames, which a read holds in memory, under 13 MB.
pub const MAX_BLOB: u64 = 1 << 40;

/// A store of blobs by content. Every operation may be called from several threads at once.
pub trait Files: Send + Sync + Debug {
    /// Size in bytes of a complete blob, or `None` if there is no such blob.
    ///
    /// # Errors
    /// The disk fails, or the blob is known to be damaged.
    fn size(&self, hash: &BlobHash) -> Result<Option<u64>, FilesError>;

    /// The `len` bytes of a blob from `offset`, fewer where it ends.
    ///
    /// # Errors
    /// The blob is missing or damaged, `len` is over [`MAX_READ`], or the disk fails.
    fn read(&self, hash: &BlobHash, offset: u64, len: usize) -> Result<Vec<u8>, FilesError>;

    /// Stores a whole blob. Costs little more than a hash if it is already there.
    ///
    /// # Errors
    /// The disk is full or fails.
    fn put(&self, bytes: &[u8]) -> Result<BlobHash, FilesError>;

    /// How many bytes of an upload are there: 0 if it hasn't begun, and the blob's whole size if and only if
    /// the blob is complete.
    ///
    /// # Errors
    /// The disk fails.
    fn uploaded(&self, hash: &BlobHash) -> Result<u64, FilesError>;

    /// Adds `bytes` to the upload of a blob of `total` bytes at `offset`, which must be [`Files::uploaded`].
    /// The piece that makes it whole is verified and stored with it; sending pieces of a blob that is already
    /// complete is harmless.
    ///
    /// # Errors
    /// `offset` is not where the upload stands; the bytes don't have the hash (the upload is discarded); the
    /// disk is full (the upload stands where it stood, or further); the disk fails.
    fn append(&self, hash: &BlobHash, total: u64, offset: u64, bytes: &[u8]) -> Result<Upload, FilesError>;

    /// Makes a range of a blob readable under its own hash without copying it.
    ///
    /// # Errors
    /// As [`Files::put_slices`].
    fn put_slice(&self, slice: &Slice) -> Result<(), FilesError> {
        self.put_slices(std::slice::from_ref(slice))
    }

    /// [`Files::put_slice`] for the many pieces of a split input at once. All or none become visible.
    ///
    /// # Errors
    /// A parent is missing or shorter than its slice, or the disk is full or fails.
    fn put_slices(&self, slices: &[Slice]) -> Result<(), FilesError>;

    /// A writer for a blob whose size and hash aren't known yet.
    ///
    /// # Errors
    /// The disk is full.
    fn create(&self) -> Result<Box<dyn BlobWriter + '_>, FilesError>;

    /// Returns when everything stored so far, unfinished uploads excepted, survives a loss of power.
    ///
    /// # Errors
    /// The disk fails. What was not synced then may be lost, so the store refuses to store more until it is
    /// opened anew.
    fn sync(&self) -> Result<(), FilesError>;
}

/// Takes a blob's bytes in order; dropped unfinished, it leaves nothing behind.
pub trait BlobWriter: Send {
    /// # Errors
    /// The disk is full or fails, or the blob grows over [`MAX_BLOB`].
    fn write(&mut self, bytes: &[u8]) -> Result<(), FilesError>;

    /// Makes the blob visible; returns its hash and its size in bytes.
    ///
    /// # Errors
    /// The disk is full or fails.
    fn finish(self: Box<Self>) -> Result<(BlobHash, u64), FilesError>;
}

/// Where an upload stands after a piece of it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    /// The blob's byte `next` is expected.
    Partial { next: u64 },
    /// The blob is there and has its hash.
    Complete,
}

/// The `len` bytes from `offset` of the blob `parent`, which have the hash `hash`.
///
/// Whoever makes a slice vouches for the hash; it is checked when the slice is read as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    pub hash: BlobHash,
    pub parent: BlobHash,
    pub offset: u64,
    pub len: u64,
}

/// The name of `bytes` in the store.
pub fn hash_of(bytes: &[u8]) -> BlobHash {
    BlobHash(*blake3::hash(bytes).as_bytes())
}

/// Why a lock of this module can be taken.
const UNPOISONED: &str = "no thread panics while it holds a lock of the file store";

/// Bytes of a checksum in the store's own structures.
const CHECKSUM_LEN: usize = 8;

/// The start of the BLAKE3 hash: guards structures against decay, while names guard contents against people.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    *blake3::hash(bytes).as_bytes().first_chunk().expect("a hash is longer than a checksum")
}

/// The part of a blob of `size` bytes that a read of `len` bytes at `offset` covers.
fn range_within(size: u64, offset: u64, len: usize) -> Result<std::ops::Range<u64>, FilesError> {
    if len > MAX_READ {
        return Err(FilesError::ReadTooLong { len });
    }
    let start = offset.min(size);
    Ok(start..start.saturating_add(len as u64).min(size))
}
