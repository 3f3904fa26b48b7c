//! The file store in memory, with faults to order: for tests of whatever stands on the store.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use model::{BlobHash, ByteSize};

use super::uploads::{Piece, fit_piece};
use super::{BlobWriter, Files, FilesError, MAX_BLOB, Slice, UNPOISONED, Upload, hash_of, range_within};

/// A file store in memory.
#[derive(Debug)]
pub struct MemoryFiles {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    blobs: HashMap<BlobHash, Arc<[u8]>>,
    slices: HashMap<BlobHash, Slice>,
    uploads: HashMap<BlobHash, Vec<u8>>,
    /// What a loss of power would take, besides all uploads.
    unsynced: HashSet<BlobHash>,
    capacity: u64,
    /// Operations until one fails.
    fuse: Option<u64>,
    broken: bool,
}

impl Default for MemoryFiles {
    fn default() -> Self {
        MemoryFiles::new()
    }
}

impl MemoryFiles {
    /// A store without faults.
    pub fn new() -> Self {
        MemoryFiles {
            state: Mutex::new(State {
                blobs: HashMap::new(),
                slices: HashMap::new(),
                uploads: HashMap::new(),
                unsynced: HashSet::new(),
                capacity: u64::MAX,
                fuse: None,
                broken: false,
            }),
        }
    }

    /// Makes the disk as large as `capacity`: data that doesn't fit is refused with [`FilesError::Full`].
    pub fn set_capacity(&self, capacity: ByteSize) {
        self.lock().capacity = capacity.0;
    }

    /// Makes one operation fail with [`FilesError::Io`]: the next for 1, the one after it for 2, and so on. If
    /// that is a sync, the store is broken until [`MemoryFiles::lose_power`].
    pub fn fail_at(&self, operation: u64) {
        self.lock().fuse = Some(operation);
    }

    /// Loses everything that was not synced, as a machine does whose power fails; then starts afresh.
    pub fn lose_power(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for hash in state.unsynced.drain() {
            state.blobs.remove(&hash);
            state.slices.remove(&hash);
        }
        state.uploads.clear();
        state.broken = false;
    }

    /// Changes a byte of a blob, or of what a slice shows, without the store's knowing.
    ///
    /// # Panics
    /// There is no such blob, or it is empty.
    pub fn corrupt(&self, hash: &BlobHash) {
        let mut state = self.lock();
        let (owner, at) = match state.slices.get(hash) {
            Some(slice) => (slice.parent, slice.offset as usize),
            None => (*hash, 0),
        };
        let blob = state.blobs.get_mut(&owner).expect("the test stored it");
        let mut bytes = blob.to_vec();
        bytes[at] ^= 1;
        *blob = bytes.into();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// Begins an operation, or fails it if that was ordered.
    fn begin(&self, operation: &'static str) -> Result<MutexGuard<'_, State>, FilesError> {
        let mut state = self.lock();
        state.fuse = match state.fuse {
            Some(0 | 1) => {
                state.fuse = None;
                state.broken |= operation == SYNC;
                let source = io::Error::other("the failure that the test ordered");
                return Err(FilesError::Io { operation, path: path(), source });
            }
            fuse => fuse.map(|left| left - 1),
        };
        Ok(state)
    }
}

/// The operation after whose failure nothing can be relied on.
const SYNC: &str = "sync";

/// What messages show in place of a path.
fn path() -> PathBuf {
    PathBuf::from("memory")
}

impl State {
    fn used(&self) -> u64 {
        let blobs = self.blobs.values().map(|blob| blob.len());
        blobs.chain(self.uploads.values().map(Vec::len)).sum::<usize>() as u64
    }

    /// Refuses new data when it doesn't fit.
    fn admit(&self, len: usize) -> Result<(), FilesError> {
        if self.broken {
            return Err(FilesError::Broken { path: path() });
        }
        if self.capacity == u64::MAX {
            return Ok(());
        }
        let free = self.capacity.saturating_sub(self.used());
        if len as u64 > free {
            return Err(FilesError::Full {
                path: path(),
                free: ByteSize(free),
                floor: ByteSize(0),
                source: None,
            });
        }
        Ok(())
    }

    /// The range of a stored blob that `hash` names.
    fn place(&self, hash: &BlobHash) -> Option<Slice> {
        let own = self.blobs.get(hash);
        own.map(|blob| Slice { hash: *hash, parent: *hash, offset: 0, len: blob.len() as u64 })
            .or_else(|| self.slices.get(hash).copied())
    }

    fn store(&mut self, hash: BlobHash, bytes: &[u8]) -> Result<(), FilesError> {
        if self.blobs.get(&hash).is_none_or(|blob| hash_of(blob) != hash) && !self.slices.contains_key(&hash)
        {
            self.admit(bytes.len())?;
            self.blobs.insert(hash, bytes.into());
            self.unsynced.insert(hash);
        }
        Ok(())
    }
}

impl Files for MemoryFiles {
    fn size(&self, hash: &BlobHash) -> Result<Option<u64>, FilesError> {
        Ok(self.begin("measure")?.place(hash).map(|place| place.len))
    }

    fn read(&self, hash: &BlobHash, offset: u64, len: usize) -> Result<Vec<u8>, FilesError> {
        let state = self.begin("read")?;
        let place = state.place(hash).ok_or(FilesError::Missing { hash: *hash })?;
        let range = range_within(place.len, offset, len)?;
        let corrupt = || FilesError::Corrupt { hash: *hash, path: path() };
        let parent = state.blobs.get(&place.parent).ok_or_else(corrupt)?;
        let whole = &parent[place.offset as usize..(place.offset + place.len) as usize];
        if hash_of(whole) != *hash {
            return Err(corrupt());
        }
        Ok(whole[range.start as usize..range.end as usize].to_vec())
    }

    fn put(&self, bytes: &[u8]) -> Result<BlobHash, FilesError> {
        let hash = hash_of(bytes);
        self.begin("write")?.store(hash, bytes)?;
        Ok(hash)
    }

    fn uploaded(&self, hash: &BlobHash) -> Result<u64, FilesError> {
        let state = self.begin("measure")?;
        let upload = || state.uploads.get(hash).map_or(0, |upload| upload.len() as u64);
        Ok(state.place(hash).map_or_else(upload, |place| place.len))
    }

    fn append(&self, hash: &BlobHash, total: u64, offset: u64, bytes: &[u8]) -> Result<Upload, FilesError> {
        let mut state = self.begin("write")?;
        if state.place(hash).is_some() {
            state.uploads.remove(hash);
            return Ok(Upload::Complete);
        }
        state.admit(bytes.len())?;
        let mut have = state.uploads.get(hash).map_or(0, |upload| upload.len() as u64);
        if have > 0 && have >= total {
            state.uploads.remove(hash);
            have = 0;
        }
        match fit_piece(hash, total, have, offset, bytes.len())? {
            Piece::Middle { next } => {
                state.uploads.entry(*hash).or_default().extend_from_slice(bytes);
                Ok(Upload::Partial { next })
            }
            Piece::Last => {
                let mut content = state.uploads.remove(hash).unwrap_or_default();
                content.extend_from_slice(bytes);
                let found = hash_of(&content);
                if found != *hash {
                    return Err(FilesError::HashMismatch { expected: *hash, found });
                }
                state.store(found, &content)?;
                Ok(Upload::Complete)
            }
        }
    }

    fn put_slices(&self, slices: &[Slice]) -> Result<(), FilesError> {
        let mut state = self.begin("write")?;
        state.admit(0)?;
        let mut new = Vec::new();
        for slice in slices.iter().filter(|slice| state.place(&slice.hash).is_none()) {
            let Slice { hash, parent, offset, len } = *slice;
            let root = state.place(&parent).ok_or(FilesError::Missing { hash: parent })?;
            let end = offset.saturating_add(len);
            if end > root.len {
                return Err(FilesError::SliceRange { hash, parent, end, size: root.len });
            }
            new.push(Slice { hash, parent: root.parent, offset: root.offset + offset, len });
        }
        state.unsynced.extend(new.iter().map(|slice| slice.hash));
        state.slices.extend(new.into_iter().map(|slice| (slice.hash, slice)));
        Ok(())
    }

    fn create(&self) -> Result<Box<dyn BlobWriter + '_>, FilesError> {
        self.begin("create")?.admit(0)?;
        Ok(Box::new(MemoryWriter { files: self, content: Vec::new() }))
    }

    fn sync(&self) -> Result<(), FilesError> {
        let mut state = self.begin(SYNC)?;
        if state.broken {
            return Err(FilesError::Broken { path: path() });
        }
        state.unsynced.clear();
        Ok(())
    }
}

struct MemoryWriter<'a> {
    files: &'a MemoryFiles,
    content: Vec<u8>,
}

impl BlobWriter for MemoryWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        self.files.begin("write")?.admit(self.content.len() + bytes.len())?;
        let size = (self.content.len() + bytes.len()) as u64;
        if size > MAX_BLOB {
            return Err(FilesError::TooLarge { size: ByteSize(size) });
        }
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(BlobHash, u64), FilesError> {
        Ok((self.files.put(&self.content)?, self.content.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_of_power_takes_what_was_not_synced() {
        let files = MemoryFiles::new();
        let kept = files.put(b"kept").unwrap();
        files.sync().unwrap();
        let lost = files.put(b"lost").unwrap();
        files.append(&hash_of(b"upload"), 6, 0, b"up").unwrap();
        files.lose_power();
        assert_eq!(files.size(&kept).unwrap(), Some(4));
        assert_eq!(files.size(&lost).unwrap(), None);
        assert_eq!(files.uploaded(&hash_of(b"upload")).unwrap(), 0);
    }

    #[test]
    fn the_ordered_operation_fails_and_no_other() {
        let files = MemoryFiles::new();
        files.fail_at(2);
        files.put(b"one").unwrap();
        assert!(matches!(files.put(b"two"), Err(FilesError::Io { operation: "write", .. })));
        files.put(b"two").unwrap();
        files.fail_at(1);
        assert!(files.sync().is_err());
        assert!(matches!(files.put(b"three"), Err(FilesError::Broken { .. })));
        assert!(matches!(files.sync(), Err(FilesError::Broken { .. })));
        files.lose_power();
        files.put(b"three").unwrap();
    }

    #[test]
    fn a_full_store_takes_no_more_and_an_upload_goes_on_when_there_is_room() {
        let files = MemoryFiles::new();
        files.set_capacity(ByteSize(10));
        files.put(b"12345678").unwrap();
        assert!(matches!(files.put(b"abc"), Err(FilesError::Full { free: ByteSize(2), .. })));
        let hash = hash_of(b"abcd");
        assert_eq!(files.append(&hash, 4, 0, b"ab").unwrap(), Upload::Partial { next: 2 });
        assert!(matches!(files.append(&hash, 4, 2, b"cd"), Err(FilesError::Full { .. })));
        files.set_capacity(ByteSize(100));
        assert_eq!(files.uploaded(&hash).unwrap(), 2);
        assert_eq!(files.append(&hash, 4, 2, b"cd").unwrap(), Upload::Complete);
    }

    #[test]
    fn changed_bytes_are_not_handed_out() {
        let files = MemoryFiles::new();
        let parent = files.put(b"0123456789").unwrap();
        let hash = hash_of(b"345");
        files.put_slice(&Slice { hash, parent, offset: 3, len: 3 }).unwrap();
        files.corrupt(&hash);
        assert!(matches!(files.read(&hash, 0, 3), Err(FilesError::Corrupt { .. })));
        assert!(matches!(files.read(&parent, 0, 1), Err(FilesError::Corrupt { .. })));
    }
}
