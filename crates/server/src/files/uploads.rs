//! Uploads under way: `uploads/<hash>.part` holds the bytes that came so far, as they came.
//!
//! The last piece never goes there; it is stored together with the rest, or not at all. So a part is always
//! shorter than its blob, and an upload whose end didn't fit on the disk stands where the last piece began.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use model::{BlobHash, ByteSize};

use super::disk::{Disk, list};
use super::{FilesError, MAX_BLOB, UNPOISONED};

const SUFFIX: &str = ".part";

#[derive(Debug)]
pub(super) struct Uploads {
    disk: Arc<Disk>,
    directory: PathBuf,
    /// The uploads that some thread is working on.
    claimed: Mutex<HashSet<BlobHash>>,
    released: Condvar,
}

impl Uploads {
    /// Removes the uploads that nobody has gone on with for `lifetime`.
    pub fn open(disk: Arc<Disk>, lifetime: Duration) -> Result<Self, FilesError> {
        let directory = disk.subdirectory("uploads")?;
        for path in list(&directory)? {
            let touched = fs::metadata(&path).and_then(|found| found.modified());
            let touched = touched.map_err(|e| disk.failed("read the age of", &path, e))?;
            // A time in the future has no age: the clock was set back, and the upload may be fresh.
            let age = SystemTime::now().duration_since(touched).unwrap_or_default();
            if age > lifetime {
                fs::remove_file(&path).map_err(|e| disk.failed("remove", &path, e))?;
            }
        }
        Ok(Uploads { disk, directory, claimed: Mutex::default(), released: Condvar::new() })
    }

    /// Waits for this thread's turn with the upload of `hash`.
    pub fn claim(&self, hash: &BlobHash) -> Claim<'_> {
        let claimed = self.claimed.lock().expect(UNPOISONED);
        let mut claimed =
            self.released.wait_while(claimed, |claimed| claimed.contains(hash)).expect(UNPOISONED);
        claimed.insert(*hash);
        Claim { uploads: self, hash: *hash, path: self.directory.join(format!("{hash}{SUFFIX}")) }
    }
}

/// The sole right to change an upload, until dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    uploads: &'a Uploads,
    hash: BlobHash,
    path: PathBuf,
}

impl Claim<'_> {
    /// Bytes that came so far.
    pub fn len(&self) -> Result<u64, FilesError> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(self.failed("measure", error)),
        }
    }

    /// Adds a piece at the end, which is at `len`.
    pub fn extend(&self, len: u64, bytes: &[u8]) -> Result<(), FilesError> {
        let file = self.uploads.disk.open_file(&self.path)?;
        file.write_all_at(bytes, len).map_err(|e| self.failed("write", e))
    }

    /// Hands what came so far to `take`, in pieces of at most `piece` bytes.
    pub fn for_each_piece(
        &self,
        piece: usize,
        mut take: impl FnMut(&[u8]) -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        let len = self.len()?;
        if len == 0 {
            return Ok(());
        }
        let file = File::open(&self.path).map_err(|e| self.failed("open", e))?;
        let mut buffer = vec![0; len.min(piece as u64) as usize];
        let mut position = 0;
        while position < len {
            let bytes = (len - position).min(buffer.len() as u64) as usize;
            file.read_exact_at(&mut buffer[..bytes], position).map_err(|e| self.failed("read", e))?;
            take(&buffer[..bytes])?;
            position += bytes as u64;
        }
        Ok(())
    }

    /// Forgets what came so far.
    pub fn discard(&self) -> Result<(), FilesError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed("remove", error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, operation: &'static str, error: std::io::Error) -> FilesError {
        self.uploads.disk.failed(operation, Path::new(&self.path), error)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.uploads.claimed.lock().expect(UNPOISONED).remove(&self.hash);
        self.uploads.released.notify_all();
    }
}

/// What a piece is to its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Middle { next: u64 },
    Last,
}

/// Checks a piece of `len` bytes at `offset` against an upload of which `have` bytes are there.
pub(super) fn fit_piece(
    hash: &BlobHash,
    total: u64,
    have: u64,
    offset: u64,
    len: usize,
) -> Result<Piece, FilesError> {
    if total > MAX_BLOB {
        return Err(FilesError::TooLarge { size: ByteSize(total) });
    }
    if offset != have {
        return Err(FilesError::Offset { hash: *hash, expected: have, found: offset });
    }
    let end = offset.saturating_add(len as u64);
    match end.cmp(&total) {
        std::cmp::Ordering::Less => Ok(Piece::Middle { next: end }),
        std::cmp::Ordering::Equal => Ok(Piece::Last),
        std::cmp::Ordering::Greater => Err(FilesError::PastEnd { hash: *hash, end, total }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn one_thread_at_a_time_has_an_upload() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::open(directory.path(), ByteSize(0)).unwrap());
        let uploads = Uploads::open(disk, Duration::MAX).unwrap();
        let (one, other) = (BlobHash([1; 32]), BlobHash([2; 32]));
        let taken = AtomicBool::new(false);
        // Another upload's claim holds up nobody.
        let _other = uploads.claim(&other);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _claim = uploads.claim(&one);
                        assert!(!taken.swap(true, Ordering::SeqCst));
                        thread::yield_now();
                        taken.store(false, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn a_piece_goes_on_where_the_upload_stands() {
        let hash = BlobHash([1; 32]);
        let check = |total, have, offset, len, expect: Result<Piece, &str>| {
            let found = fit_piece(&hash, total, have, offset, len).map_err(|e| e.to_string());
            assert_eq!(found.as_ref().map_err(String::as_str), expect.as_ref().map_err(|e| *e));
        };
        check(10, 0, 0, 4, Ok(Piece::Middle { next: 4 }));
        check(10, 4, 4, 0, Ok(Piece::Middle { next: 4 }));
        check(10, 4, 4, 6, Ok(Piece::Last));
        check(0, 0, 0, 0, Ok(Piece::Last));
        let found = |have, offset| fit_piece(&hash, 10, have, offset, 1);
        assert!(matches!(found(4, 3), Err(FilesError::Offset { expected: 4, found: 3, .. })));
        assert!(matches!(found(0, u64::MAX), Err(FilesError::Offset { expected: 0, .. })));
        assert!(matches!(fit_piece(&hash, 10, 4, 4, 7), Err(FilesError::PastEnd { end: 11, .. })));
        assert!(matches!(fit_piece(&hash, MAX_BLOB + 1, 0, 0, 1), Err(FilesError::TooLarge { .. })));
    }
}
