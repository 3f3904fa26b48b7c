//! The directory that a file store owns: private files, free space, and what a failure of the disk means.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::ByteSize;
use rustix::fs::{FlockOperation, flock};

use super::FilesError;

/// Held open and locked for as long as the store is open.
const LOCK: &str = "lock";
/// Names the version of all formats in the directory.
const VERSION: &str = "version";
const FORMATS: &str = "1";
/// Blobs in the making; emptied when the store is opened.
const TEMPORARY: &str = "tmp";

#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    floor: ByteSize,
    /// Set for good once the kernel failed to write back: it then drops the dirty pages, and a later fsync
    /// would report success for bytes that are lost.
    broken: AtomicBool,
    next_temporary: AtomicU64,
    lock: File,
}

impl Disk {
    /// Makes the directory if there is none, and takes it for this process alone.
    pub fn open(root: &Path, floor: ByteSize) -> Result<Self, FilesError> {
        make(root).map_err(|source| FilesError::Io { operation: "create", path: root.to_owned(), source })?;
        let path = root.join(LOCK);
        let lock = private().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(|source| FilesError::Io { operation: "open", path: path.clone(), source })?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => FilesError::Locked { path: root.to_owned() },
            other => FilesError::Io { operation: "lock", path, source: other.into() },
        })?;
        let disk = Disk {
            root: root.to_owned(),
            floor,
            broken: AtomicBool::new(false),
            next_temporary: AtomicU64::new(0),
            lock,
        };
        disk.check_version()?;
        disk.empty_temporary()?;
        Ok(disk)
    }

    /// Refuses a store whose files another version of this program wrote in other formats.
    fn check_version(&self) -> Result<(), FilesError> {
        let path = self.root.join(VERSION);
        match fs::read_to_string(&path) {
            Ok(found) if found.trim_end() == FORMATS => Ok(()),
            // Cut short by a crash: the store was being made, and the file says nothing.
            Ok(found) if !found.is_empty() => {
                Err(FilesError::Version { path, found: found.trim_end().to_owned(), known: FORMATS })
            }
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed("read", &path, error)),
            _ => {
                let file = self.open_file(&path)?;
                let written = file.write_all_at(format!("{FORMATS}\n").as_bytes(), 0);
                written.map_err(|e| self.failed("write", &path, e))?;
                self.sync_file(&file, &path)?;
                self.sync_directory(&self.root.join(".."))
            }
        }
    }

    fn empty_temporary(&self) -> Result<(), FilesError> {
        for entry in list(&self.subdirectory(TEMPORARY)?)? {
            fs::remove_file(&entry).map_err(|e| self.failed("remove", &entry, e))?;
        }
        Ok(())
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A directory inside the store, made if need be.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf, FilesError> {
        let path = self.root.join(name);
        self.make_directory(&path)?;
        Ok(path)
    }

    /// Makes a directory and those it lies in, unless they are there.
    pub fn make_directory(&self, path: &Path) -> Result<(), FilesError> {
        make(path).map_err(|e| self.failed("create", path, e))
    }

    /// Refuses new data on a disk that is nearly full or that has lost some.
    pub fn admit(&self) -> Result<(), FilesError> {
        self.check_unbroken()?;
        if self.free()? < self.floor {
            return Err(self.full(None));
        }
        Ok(())
    }

    /// Refuses to go on after a failed sync.
    pub fn check_unbroken(&self) -> Result<(), FilesError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(FilesError::Broken { path: self.root.clone() });
        }
        Ok(())
    }

    /// Bytes that the file system still has for us.
    fn free(&self) -> Result<ByteSize, FilesError> {
        let stat = rustix::fs::statvfs(&self.root).map_err(|e| FilesError::Io {
            operation: "ask for the free space of",
            path: self.root.clone(),
            source: e.into(),
        })?;
        Ok(ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn full(&self, source: Option<io::Error>) -> FilesError {
        // The figure only serves the message, and a disk that can't tell it is as good as full.
        let free = self.free().unwrap_or_default();
        FilesError::Full { path: self.root.clone(), free, floor: self.floor, source }
    }

    /// The error for an operation on `path` that the system refused.
    pub fn failed(&self, operation: &'static str, path: &Path, source: io::Error) -> FilesError {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => self.full(Some(source)),
            _ => FilesError::Io { operation, path: path.to_owned(), source },
        }
    }

    /// A new file for a blob in the making, with a path of its own.
    pub fn temporary(&self) -> Result<(File, PathBuf), FilesError> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(TEMPORARY).join(number.to_string());
        let file = private().read(true).write(true).create_new(true).open(&path);
        Ok((file.map_err(|e| self.failed("create", &path, e))?, path))
    }

    /// Opens a file to read and write, making it if need be.
    pub fn open_file(&self, path: &Path) -> Result<File, FilesError> {
        let file = private().read(true).write(true).create(true).truncate(false).open(path);
        file.map_err(|e| self.failed("open", path, e))
    }

    /// Waits until the bytes and the length of a file are on the disk.
    pub fn sync_file(&self, file: &File, path: &Path) -> Result<(), FilesError> {
        file.sync_data().map_err(|e| {
            self.broken.store(true, Ordering::Release);
            self.failed("sync", path, e)
        })
    }

    /// Waits until the names in a directory are on the disk.
    pub fn sync_directory(&self, path: &Path) -> Result<(), FilesError> {
        let directory = File::open(path).map_err(|e| self.failed("open", path, e))?;
        directory.sync_all().map_err(|e| {
            self.broken.store(true, Ordering::Release);
            self.failed("sync", path, e)
        })
    }
}

impl Drop for Disk {
    /// Unlocks by name: closing the file isn't enough while a process that was just forked still has it too. If
    /// even that fails, the lock ends with the last of those.
    fn drop(&mut self) {
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Takes back what a failed write left behind `len`. A tail that stays is no harm: it is skipped or cut off when
/// the file is read anew, and overwritten before that by the next write.
pub(super) fn cut_back(file: &File, len: u64) {
    let _ = file.set_len(len);
}

/// The paths of a directory's entries, sorted.
pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, FilesError> {
    let entries = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = entries().map_err(|source| FilesError::Io {
        operation: "list",
        path: directory.to_owned(),
        source,
    })?;
    paths.sort();
    Ok(paths)
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Options for files that are nobody else's to read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_after_a_failed_sync() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path(), ByteSize(0)).unwrap();
        disk.admit().unwrap();
        // A file that can't be synced.
        let null = Path::new("/dev/null");
        let failed = disk.sync_file(&File::open(null).unwrap(), null);
        assert!(matches!(failed, Err(FilesError::Io { operation: "sync", .. })));
        assert!(matches!(disk.admit(), Err(FilesError::Broken { .. })));
        assert!(matches!(disk.check_unbroken(), Err(FilesError::Broken { .. })));
    }

    #[test]
    fn a_disk_out_of_room_is_told_from_one_that_fails() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path(), ByteSize(0)).unwrap();
        let full = |error: rustix::io::Errno| {
            matches!(disk.failed("write", directory.path(), error.into()), FilesError::Full { .. })
        };
        assert!(full(rustix::io::Errno::NOSPC) && full(rustix::io::Errno::DQUOT));
        assert!(!full(rustix::io::Errno::IO) && !full(rustix::io::Errno::ROFS));
    }
}
