//! Contents that are written once, known by their hash and kept sealed on the desktop's disk: inputs and program files,
//! which many subjobs share (§4.1.2, §4.4).
//!
//! ```text
//! block 0 │ block 1 │ … │ last block, padded │ tag of each block │ magic, suite, salt
//! ```
//! The key of a blob is made of the cache's key, of a salt that each writing has of its own, and of the hash and the size
//! of what is in it; so a block opens as that block of those contents and as nothing else, wherever the file came from.
//! The nonce is the block's number: a key seals each block once.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use crate::contents::{Source, SourceError};
use crate::seal::{SALT, SealKey, StoreKey, Suite, TAG, Tag, random_salt};
use crate::store::BLOCK;
use crate::turn;

const MAGIC: &[u8; 8] = b"dcblob\0\x01";

/// Magic, suite, seven zeros, salt.
const FOOTER: usize = 16 + SALT;

/// Blocks that are sealed and written at once.
const BATCH: usize = 64;

/// Blocks whose tags are read at once.
const TAGS: usize = 256;

/// The name of the file that holds contents of this hash, under this key. The hash itself would tell everybody with a
/// copy of them that they are here.
pub fn blob_name(key: &StoreKey, hash: &[u8; 32]) -> String {
    blake3::Hash::from(key.name_of(hash)).to_hex().to_string()
}

/// Length of the file that holds contents of `size` bytes; nothing if no file is that long.
pub fn blob_length(size: u64) -> Option<u64> {
    let blocks = size.div_ceil(BLOCK as u64);
    blocks.checked_mul((BLOCK + TAG) as u64)?.checked_add(FOOTER as u64)
}

/// Why a blob can't be written or opened.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("the contents are not those of the hash")]
    WrongHash,
    #[error("the file is no sealed blob of this size")]
    Malformed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Seals contents as they come, and checks that they are what they should be.
pub struct BlobWriter {
    file: File,
    key: SealKey,
    suite: Suite,
    salt: [u8; SALT],
    hash: [u8; 32],
    size: u64,
    hasher: blake3::Hasher,
    /// Bytes that came, and have not filled a batch yet.
    pending: Vec<u8>,
    sealed: u64,
    tags: Vec<Tag>,
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobWriter").field("size", &self.size).finish_non_exhaustive()
    }
}

impl BlobWriter {
    /// Writes into `file`, which is empty, contents of `size` bytes that have the BLAKE3 `hash`.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn new(file: File, key: &StoreKey, suite: Suite, hash: [u8; 32], size: u64) -> io::Result<Self> {
        let salt = random_salt()?;
        Ok(BlobWriter {
            file,
            key: key.session(suite, &salt).of_blob(&hash, size),
            suite,
            salt,
            hash,
            size,
            hasher: blake3::Hasher::new(),
            pending: Vec::with_capacity(BATCH * BLOCK),
            sealed: 0,
            tags: Vec::new(),
        })
    }

    /// How many bytes have come.
    pub fn written(&self) -> u64 {
        self.sealed * BLOCK as u64 + self.pending.len() as u64
    }

    /// # Errors
    /// The disk's; and `InvalidData` for more than the contents have.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.written() + bytes.len() as u64 > self.size {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BATCH * BLOCK - self.pending.len()));
            self.pending.extend_from_slice(now);
            if self.pending.len() == BATCH * BLOCK {
                self.seal_pending()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Writes the rest. Before that the file is of no use, and after an error too.
    ///
    /// # Errors
    /// [`BlobError::WrongHash`], and the disk's.
    pub fn finish(mut self) -> Result<(), BlobError> {
        let is_right = self.written() == self.size && self.hasher.finalize().as_bytes() == &self.hash;
        if !is_right {
            return Err(BlobError::WrongHash);
        }
        self.pending.resize(self.pending.len().next_multiple_of(BLOCK), 0);
        self.seal_pending()?;
        let mut end = self.tags.concat();
        end.extend_from_slice(MAGIC);
        end.extend_from_slice(&[self.suite.code(), 0, 0, 0, 0, 0, 0, 0]);
        end.extend_from_slice(&self.salt);
        self.file.write_all(&end)?;
        Ok(self.file.sync_all()?)
    }

    fn seal_pending(&mut self) -> io::Result<()> {
        for block in self.pending.chunks_exact_mut(BLOCK) {
            self.tags.push(self.key.seal(self.sealed, b"", block));
            self.sealed += 1;
        }
        self.file.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

/// A blob, open for reading.
#[derive(Debug)]
pub struct Blob {
    file: File,
    key: SealKey,
    hash: [u8; 32],
    size: u64,
}

impl Blob {
    /// The blob in `file` as that of a hash and a size. Nothing of it is read yet: each block is checked when it is.
    ///
    /// # Errors
    /// [`BlobError::Malformed`] when the file has another length or end than such a blob, and the disk's.
    pub fn open(file: File, key: &StoreKey, hash: [u8; 32], size: u64) -> Result<Self, BlobError> {
        let length = blob_length(size).ok_or(BlobError::Malformed)?;
        if file.metadata()?.len() != length {
            return Err(BlobError::Malformed);
        }
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, length - FOOTER as u64)?;
        let (head, salt) = footer.split_at(FOOTER - SALT);
        let (magic, suite) = head.split_at(MAGIC.len());
        let suite = match (magic == MAGIC, suite) {
            (true, [suite, 0, 0, 0, 0, 0, 0, 0]) => Suite::of_code(*suite).ok_or(BlobError::Malformed)?,
            _ => return Err(BlobError::Malformed),
        };
        let salt: [u8; SALT] = salt.try_into().expect("the footer was cut there");
        let key = key.session(suite, &salt).of_blob(&hash, size);
        Ok(Blob { file, key, hash, size })
    }

    /// Reads whole blocks from number `first` on.
    fn read_blocks(&self, first: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let tags_at = self.size.next_multiple_of(BLOCK as u64);
        turn::read_exact_at(&self.file, first * BLOCK as u64, out).map_err(|error| failed(&error))?;
        let mut tags = [0; TAGS * TAG];
        for (batch, blocks) in out.chunks_mut(TAGS * BLOCK).enumerate() {
            let first = first + (batch * TAGS) as u64;
            let tags = &mut tags[..blocks.len() / BLOCK * TAG];
            let tags_at = tags_at + first * TAG as u64;
            turn::read_exact_at(&self.file, tags_at, tags).map_err(|error| failed(&error))?;
            let numbered = (first..).zip(blocks.chunks_exact_mut(BLOCK).zip(tags.as_chunks::<TAG>().0));
            for (number, (block, tag)) in numbered {
                self.key.open(number, b"", tag, block).map_err(|_| SourceError::Tampered)?;
            }
        }
        Ok(())
    }
}

impl Source for Blob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        let (mut offset, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (block, within) = (offset / BLOCK as u64, (offset % BLOCK as u64) as usize);
            let whole = rest.len() / BLOCK * BLOCK;
            let length;
            if within == 0 && whole > 0 {
                length = whole;
                self.read_blocks(block, &mut rest[..whole])?;
            } else {
                let mut bytes = [0; BLOCK];
                self.read_blocks(block, &mut bytes)?;
                length = rest.len().min(BLOCK - within);
                rest[..length].copy_from_slice(&bytes[within..within + length]);
            }
            offset += length as u64;
            rest = &mut rest[length..];
        }
        Ok(())
    }

    fn identity(&self) -> [u8; 32] {
        self.hash
    }
}

fn failed(error: &io::Error) -> SourceError {
    match error.kind() {
        // It was cut short since it was opened.
        io::ErrorKind::UnexpectedEof => SourceError::Tampered,
        _ => SourceError::Io(Errno::from_io_error(error).unwrap_or(Errno::IO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn key(byte: u8) -> StoreKey {
        StoreKey::take(&mut [byte; 32]).unwrap()
    }

    fn contents(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at / 7 + at / 4_096) as u8).collect()
    }

    fn write(path: &Path, bytes: &[u8]) -> [u8; 32] {
        let hash = *blake3::hash(bytes).as_bytes();
        let file = File::create_new(path).unwrap();
        let mut writer = BlobWriter::new(file, &key(1), Suite::best(), hash, bytes.len() as u64).unwrap();
        bytes.chunks(10_000).for_each(|part| writer.write(part).unwrap());
        writer.finish().unwrap();
        hash
    }

    fn read(path: &Path, byte: u8, hash: [u8; 32], size: usize) -> Result<Vec<u8>, String> {
        let file = File::open(path).unwrap();
        let blob = Blob::open(file, &key(byte), hash, size as u64).map_err(|error| error.to_string())?;
        let mut bytes = vec![0; size];
        blob.read(0, &mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    #[test]
    fn what_was_written_is_read() {
        let place = tempfile::tempdir().unwrap();
        for size in [0, 1, 4_095, 4_096, 4_097, 262_144, 300_000, 2_000_000] {
            let (path, bytes) = (place.path().join(size.to_string()), contents(size));
            let hash = write(&path, &bytes);
            assert_eq!(read(&path, 1, hash, size), Ok(bytes.clone()));
            let blob = Blob::open(File::open(&path).unwrap(), &key(1), hash, size as u64).unwrap();
            for (from, to) in [(0, 1), (4_000, 9_000), (4_096, 8_192), (250_000, 290_001)] {
                let (from, to) = (from.min(size), to.min(size));
                let mut part = vec![0; to - from];
                blob.read(from as u64, &mut part).unwrap();
                assert_eq!(part, bytes[from..to]);
            }
        }
    }

    #[test]
    fn a_name_tells_nothing_without_the_key() {
        let names =
            [(1, [3; 32]), (1, [4; 32]), (2, [3; 32])].map(|(byte, hash)| blob_name(&key(byte), &hash));
        assert!(names[0] != names[1] && names[0] != names[2], "{names:?}");
        assert!(!names.contains(&blake3::Hash::from([3; 32]).to_hex().to_string()));
        assert_eq!(names[0], blob_name(&key(1), &[3; 32]));
    }

    #[test]
    fn contents_of_another_hash_are_no_blob() {
        let place = tempfile::tempdir().unwrap();
        for (bytes, size) in [(&b"other"[..], 5), (b"shor", 5)] {
            let file = File::create(place.path().join("blob")).unwrap();
            let hash = *blake3::hash(b"these").as_bytes();
            let mut writer = BlobWriter::new(file, &key(1), Suite::best(), hash, size).unwrap();
            writer.write(bytes).unwrap();
            assert!(matches!(writer.finish(), Err(BlobError::WrongHash)));
        }
        let file = File::create(place.path().join("blob")).unwrap();
        let mut writer = BlobWriter::new(file, &key(1), Suite::best(), [0; 32], 2).unwrap();
        assert_eq!(writer.write(b"abc").unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn no_byte_can_be_changed() {
        let place = tempfile::tempdir().unwrap();
        let (path, bytes) = (place.path().join("blob"), contents(9_000));
        let hash = write(&path, &bytes);
        let sealed = fs::read(&path).unwrap();
        let altered = place.path().join("altered");
        for at in (0..sealed.len()).step_by(31).chain(sealed.len() - FOOTER - 3 * TAG..sealed.len()) {
            let mut file = sealed.clone();
            file[at] ^= 0x10;
            fs::write(&altered, file).unwrap();
            assert!(read(&altered, 1, hash, bytes.len()).is_err(), "byte {at}");
        }
        let refused = |file: &[u8], byte, hash, size| {
            fs::write(&altered, file).unwrap();
            assert!(read(&altered, byte, hash, size).is_err());
        };
        refused(&sealed, 2, hash, bytes.len());
        refused(&sealed, 1, [0; 32], bytes.len());
        refused(&sealed, 1, hash, bytes.len() - 1);
        refused(&sealed[..sealed.len() - 1], 1, hash, bytes.len());
        let swapped = [&sealed[4_096..8_192], &sealed[..4_096], &sealed[8_192..]].concat();
        refused(&swapped, 1, hash, bytes.len());
        refused(&[], 1, hash, bytes.len());
        // The same contents, sealed once more: blocks of one are none of the other.
        let again = place.path().join("again");
        write(&again, &bytes);
        let other = fs::read(&again).unwrap();
        refused(&[&other[..4_096], &sealed[4_096..]].concat(), 1, hash, bytes.len());
    }
}
