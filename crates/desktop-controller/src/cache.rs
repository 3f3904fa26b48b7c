//! The client's cache of blobs: verified as they arrive, shared by attempts, bounded, the oldest go first.
//!
//! A blob is a file named by its hash. It appears under that name only when its bytes have that hash; a download
//! that was broken off goes on where it stopped, also while the server can't be reached.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use link::{ClientLink, LinkError};
use model::{BlobHash, ByteSize};
use protocol::api::{MAX_PART, ProblemCode};
use thiserror::Error;

use crate::ControllerError;
use crate::backoff::Backoff;
use crate::identity::make_directory;
use crate::inventory::free_disk;
use crate::verdict::describe;

#[derive(Debug, Error)]
pub(crate) enum CacheError {
    #[error("the client's disk failed at '{}': {source}", path.display())]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("blob {hash} has {found} bytes, not {expected}")]
    Size { hash: BlobHash, expected: u64, found: u64 },
}

#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    limit: ByteSize,
    /// Free space that is left on the disk.
    floor: ByteSize,
    /// Blobs that are being fetched: whoever wants the same one waits and finds it.
    fetching: Mutex<HashMap<BlobHash, Weak<tokio::sync::Mutex<()>>>>,
}

impl Cache {
    pub(crate) fn open(
        directory: PathBuf,
        limit: ByteSize,
        floor: ByteSize,
    ) -> Result<Self, ControllerError> {
        make_directory(&directory, 0o700)?;
        Ok(Cache { directory, limit, floor, fetching: Mutex::default() })
    }

    /// Where a blob lies once it has been fetched.
    pub(crate) fn path(&self, hash: &BlobHash) -> PathBuf {
        self.directory.join(hash.to_string())
    }

    /// Makes sure that files of these sizes fit on the disk and leave the owner their space, whatever was promised
    /// when the lease was given.
    pub(crate) fn admit(&self, sizes: impl Iterator<Item = u64>) -> Result<(), CacheError> {
        let total = sizes.fold(self.floor.0, u64::saturating_add);
        if total > free_disk(&self.directory).0 {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(CacheError::Disk { path: self.directory.clone(), source });
        }
        Ok(())
    }

    /// Makes sure that a blob is here, whole and verified.
    pub(crate) async fn fetch(
        &self,
        link: &mut ClientLink,
        hash: &BlobHash,
        size: u64,
    ) -> Result<PathBuf, CacheError> {
        let path = self.path(hash);
        let turn = self.turn(hash);
        let _turn = turn.lock().await;
        if fs::metadata(&path).is_ok_and(|found| found.len() == size) {
            touch(&path);
            return Ok(path);
        }
        self.admit(std::iter::once(size))?;
        let partial = path.with_extension("part");
        let disk = |source| CacheError::Disk { path: partial.clone(), source };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&partial);
        let file = file.as_mut().map_err(|e| disk(io::Error::from(e.kind())))?;
        let mut hasher = blake3::Hasher::new();
        let mut done = io::copy(&mut (&mut *file).take(size), &mut hasher).map_err(disk)?;
        file.seek(SeekFrom::Start(done)).map_err(disk)?;
        while done < size {
            let part = part(link, hash, done, (size - done).min(MAX_PART as u64)).await?;
            if part.is_empty() || done + part.len() as u64 > size {
                remove(&partial);
                return Err(CacheError::Size {
                    hash: *hash,
                    expected: size,
                    found: done + part.len() as u64,
                });
            }
            file.write_all(&part).map_err(disk)?;
            hasher.update(&part);
            done += part.len() as u64;
        }
        if hasher.finalize().as_bytes() != &hash.0 {
            remove(&partial);
            return Err(LinkError::WrongHash { hash: *hash }.into());
        }
        file.set_len(size).map_err(disk)?;
        fs::rename(&partial, &path).map_err(disk)?;
        Ok(path)
    }

    /// What a fetch of a blob holds, so that no two write to one file.
    fn turn(&self, hash: &BlobHash) -> Arc<tokio::sync::Mutex<()>> {
        // A map that was left by a panic is as good as any: each change of it is whole.
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = fetching.get(hash).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        fetching.insert(*hash, Arc::downgrade(&turn));
        turn
    }

    /// Removes what was used longest ago until the cache is within its limit.
    pub(crate) fn evict(&self) {
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            if let Ok(metadata) = entry.metadata() {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push((used, metadata.len(), entry.path()));
            }
        }
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        entries.sort();
        for (_, size, path) in entries {
            if total <= self.limit.0 {
                return;
            }
            remove(&path);
            total -= size;
        }
    }
}

/// Fetches a part, again and again while the server can't be reached or is too busy: that is no fault of this
/// client, and says nothing about the subjob. Who waits for it ends the waiting.
async fn part(link: &mut ClientLink, hash: &BlobHash, offset: u64, len: u64) -> Result<Bytes, LinkError> {
    let mut backoff = Backoff::default();
    loop {
        match link.get_blob(hash, offset, len).await {
            Err(error)
                if error.is_passing() && matches!(error.code(), None | Some(ProblemCode::Overloaded)) =>
            {
                tracing::warn!(error = describe(&error), %hash, "download interrupted");
                backoff.wait().await;
            }
            done => return done,
        }
    }
}

/// Copies a blob, checking on the way that it still is what its name says. One that is not is removed, so that it
/// is fetched anew; whether it was.
pub(crate) fn copy_verified(from: &Path, to: &Path, hash: &BlobHash) -> io::Result<bool> {
    let mut source = File::open(from)?;
    let mut hashing = HashingWriter { file: File::create_new(to)?, hasher: blake3::Hasher::new() };
    io::copy(&mut source, &mut hashing)?;
    let is_intact = hashing.hasher.finalize().as_bytes() == &hash.0;
    if !is_intact {
        remove(from);
    }
    Ok(is_intact)
}

struct HashingWriter {
    file: File,
    hasher: blake3::Hasher,
}

impl io::Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Marks a file as used now, for eviction; if that fails it only goes a little earlier.
pub(crate) fn touch(path: &Path) {
    if let Ok(file) = File::options().write(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Removes a file that may be gone already; one that can't be removed is tried again at the next eviction.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "can't remove a cached file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(directory.path().to_owned(), ByteSize(250), ByteSize(0)).expect("opens");
        for (name, age) in [("old", 300), ("older", 400), ("new", 100)] {
            let path = directory.path().join(name);
            fs::write(&path, [0; 100]).expect("writes");
            let file = File::options().write(true).open(&path).expect("there");
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("dated");
        }
        cache.evict();
        assert!(!directory.path().join("older").exists());
        assert!(directory.path().join("old").exists() && directory.path().join("new").exists());
    }
}
