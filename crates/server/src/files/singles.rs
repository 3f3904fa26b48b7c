//! The blobs that have a file each, at `blobs/ab/cd/<hash>`, written under another name and then renamed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use model::{BlobHash, ByteSize};

use super::disk::Disk;
use super::frames::{Frames, FramesError, FramesWriter};
use super::{FilesError, MAX_BLOB, UNPOISONED};

#[derive(Debug)]
pub(super) struct Singles {
    disk: Arc<Disk>,
    blobs: PathBuf,
    directories: Mutex<BTreeMap<Directory, Names>>,
    /// The blobs read last, the latest at the end.
    recent: Mutex<VecDeque<(BlobHash, Arc<Single>)>>,
}

/// How many blobs stay open, each with its table and a frame. The clients of a job read a split input side by
/// side, a small piece at a time.
const RECENT: usize = 8;

/// The first two bytes of the hashes whose blobs share a directory.
type Directory = [u8; 2];

/// Whether the names in a directory are known to be on the disk. Those of a directory that isn't listed may come
/// from a server that was killed before it synced them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Unsynced,
    Synced,
}

impl Singles {
    pub fn open(disk: Arc<Disk>) -> Result<Self, FilesError> {
        let blobs = disk.subdirectory("blobs")?;
        Ok(Singles { disk, blobs, directories: Mutex::default(), recent: Mutex::default() })
    }

    /// Opens a blob to read.
    pub fn blob(&self, hash: &BlobHash) -> Result<Option<Arc<Single>>, FilesError> {
        if let Some(known) = self.recall(hash) {
            return Ok(Some(known));
        }
        let path = self.path_of(hash);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.disk.failed("open", &path, error)),
        };
        let frames = Frames::open(file, hash).map_err(|e| failed(&self.disk, &path, hash, e))?;
        let blob = Arc::new(Single { frames, path });
        let mut recent = self.recent.lock().expect(UNPOISONED);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back((*hash, Arc::clone(&blob)));
        Ok(Some(blob))
    }

    fn recall(&self, hash: &BlobHash) -> Option<Arc<Single>> {
        let mut recent = self.recent.lock().expect(UNPOISONED);
        let at = recent.iter().position(|(known, _)| known == hash)?;
        let found = recent.remove(at)?;
        let blob = Arc::clone(&found.1);
        recent.push_back(found);
        Some(blob)
    }

    /// Closes a blob whose file was replaced.
    fn forget(&self, hash: &BlobHash) {
        self.recent.lock().expect(UNPOISONED).retain(|(known, _)| known != hash);
    }

    /// Makes sure that the next sync covers a blob that somebody now relies on.
    pub fn rely_on(&self, hash: &BlobHash) {
        let mut directories = self.directories.lock().expect(UNPOISONED);
        directories.entry(directory_of(hash)).or_insert(Names::Unsynced);
    }

    /// Begins a blob of a size not yet known.
    pub fn draft(&self) -> Result<Draft, FilesError> {
        let (file, path) = self.disk.temporary()?;
        let frames = FramesWriter::new(file).map_err(|e| self.disk.failed("write", &path, e));
        match frames {
            Ok(frames) => Ok(Draft { disk: Arc::clone(&self.disk), frames: Some(frames), path }),
            Err(error) => {
                remove(&path);
                Err(error)
            }
        }
    }

    /// Makes a draft visible as the blob it is.
    pub fn adopt(&self, mut draft: Draft) -> Result<(), FilesError> {
        let frames = draft.frames.take().expect("a draft is adopted once");
        let hash = frames.hash();
        let file = frames.finish().map_err(|e| self.disk.failed("write", &draft.path, e))?;
        // Bytes before names: after a loss of power there is the whole blob or none.
        self.disk.sync_file(&file, &draft.path)?;
        let path = self.path_of(&hash);
        self.disk.make_directory(path.parent().expect("a blob lies in a directory"))?;
        fs::rename(&draft.path, &path).map_err(|e| self.disk.failed("create", &path, e))?;
        self.forget(&hash);
        self.directories.lock().expect(UNPOISONED).insert(directory_of(&hash), Names::Unsynced);
        Ok(())
    }

    /// Brings the names of all blobs to the disk.
    pub fn sync(&self) -> Result<(), FilesError> {
        // Marked first: a blob that comes in meanwhile unmarks its directory again. A failure breaks the store,
        // so the marks need not be taken back.
        let mut unsynced: Vec<Directory> = Vec::new();
        for (directory, names) in self.directories.lock().expect(UNPOISONED).iter_mut() {
            if std::mem::replace(names, Names::Synced) == Names::Unsynced {
                unsynced.push(*directory);
            }
        }
        if unsynced.is_empty() {
            return Ok(());
        }
        for [first, second] in &unsynced {
            self.disk.sync_directory(&self.blobs.join(format!("{first:02x}/{second:02x}")))?;
        }
        for first in unsynced.iter().map(|[first, _]| first).collect::<BTreeSet<_>>() {
            self.disk.sync_directory(&self.blobs.join(format!("{first:02x}")))?;
        }
        self.disk.sync_directory(&self.blobs)
    }

    fn path_of(&self, hash: &BlobHash) -> PathBuf {
        let [first, second] = directory_of(hash);
        self.blobs.join(format!("{first:02x}/{second:02x}/{hash}"))
    }
}

fn directory_of(hash: &BlobHash) -> Directory {
    [hash.0[0], hash.0[1]]
}

/// A blob with a file of its own, open to be read.
#[derive(Debug)]
pub(super) struct Single {
    frames: Frames,
    path: PathBuf,
}

impl Single {
    pub fn size(&self) -> u64 {
        self.frames.len()
    }

    /// The bytes in `range`, which lies within the blob.
    pub fn read(
        &self,
        disk: &Disk,
        hash: &BlobHash,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<u8>, FilesError> {
        self.frames.read(range).map_err(|e| failed(disk, &self.path, hash, e))
    }
}

/// A blob in the making; gone when dropped, unless it was adopted.
#[derive(Debug)]
pub(super) struct Draft {
    disk: Arc<Disk>,
    /// Empty once the draft is being adopted.
    frames: Option<FramesWriter>,
    path: PathBuf,
}

impl Draft {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        let frames = self.frames.as_mut().expect("adopting a draft consumes it");
        let size = frames.len().saturating_add(bytes.len() as u64);
        if size > MAX_BLOB {
            return Err(FilesError::TooLarge { size: ByteSize(size) });
        }
        frames.write(bytes).map_err(|e| self.disk.failed("write", &self.path, e))
    }

    /// Hash and size of what was written so far.
    pub fn name(&self) -> (BlobHash, u64) {
        let frames = self.frames.as_ref().expect("adopting a draft consumes it");
        (frames.hash(), frames.len())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a temporary file. One that stays goes when the store is next opened, and one that was renamed isn't
/// there any more.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

fn failed(disk: &Disk, path: &Path, hash: &BlobHash, error: FramesError) -> FilesError {
    match error {
        FramesError::Io(error) => disk.failed("read", path, error),
        FramesError::Damaged => FilesError::Corrupt { hash: *hash, path: path.to_owned() },
    }
}
