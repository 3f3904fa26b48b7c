//! The client's cache of blobs: verified as they arrive, shared by attempts, bounded, the oldest go first.
//!
//! ```text
//! cache/    blobs as they are, each named by its hash           (plain)
//! sealed/   blobs that only the server's key opens, and names   (sealed)
//! ```
//! Both count against one limit. What a subjob with sealed files uses is read there while it runs, and stays.

mod plain;
mod sealed;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use link::{ClientLink, LinkError};
use model::{BlobHash, ByteSize};
use protocol::api::ProblemCode;
use thiserror::Error;

pub(crate) use plain::copy_verified;
pub(crate) use sealed::{Held, Unsealed};

use crate::ControllerError;
use crate::backoff::Backoff;
use crate::identity::make_directory;
use crate::inventory::free_disk;
use crate::verdict::describe;

/// Extension of a blob that is not whole yet.
const PART: &str = "part";

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
    plain: PathBuf,
    sealed: PathBuf,
    /// User and group id of those who read sealed blobs, when the client is root.
    reader: Option<u32>,
    limit: ByteSize,
    /// Free space that is left on the disk.
    floor: ByteSize,
    /// Blobs that are being fetched: whoever wants the same one waits and finds it.
    fetching: Mutex<HashMap<BlobHash, Weak<tokio::sync::Mutex<()>>>>,
    /// Sealed blobs that subjobs read while they run, by their file's name, with how many subjobs do.
    in_use: Arc<Mutex<HashMap<String, usize>>>,
}

impl Cache {
    /// The cache below a client's state directory.
    pub(crate) fn open(state: &Path, limit: ByteSize, floor: ByteSize) -> Result<Self, ControllerError> {
        let (plain, sealed) = (state.join("cache"), state.join("sealed"));
        for directory in [&plain, &sealed] {
            make_directory(directory, 0o700)?;
        }
        let reader = sandbox::service_id();
        std::os::unix::fs::chown(&sealed, reader, reader).map_err(|source| ControllerError::State {
            doing: "give away",
            path: sealed.clone(),
            source,
        })?;
        let cache =
            Cache { plain, sealed, reader, limit, floor, fetching: Mutex::default(), in_use: Arc::default() };
        cache.remove_parts();
        Ok(cache)
    }

    /// Removes what lies here as it is: nothing of it will be used.
    pub(crate) fn forget_plain(&self) {
        files(&self.plain).for_each(|(_, _, path)| remove(&path));
    }

    /// Makes sure that files of these sizes fit on the disk and leave the owner their space, whatever was promised
    /// when the lease was given. What was used longest ago makes room.
    pub(crate) fn admit(&self, sizes: impl Iterator<Item = u64>) -> Result<(), CacheError> {
        let total = sizes.fold(self.floor.0, u64::saturating_add);
        let lacking = || total.saturating_sub(free_disk(&self.plain).0);
        if lacking() > 0 {
            self.evict_to(|held| held.saturating_sub(lacking()));
        }
        if lacking() > 0 {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(CacheError::Disk { path: self.plain.clone(), source });
        }
        Ok(())
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
        self.evict_to(|_| self.limit.0);
    }

    /// Removes what may go until no more is left than `most` makes of what there is.
    fn evict_to(&self, most: impl FnOnce(u64) -> u64) {
        let mut entries: Vec<_> = files(&self.plain).chain(files(&self.sealed)).collect();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        let most = most(total);
        let in_use = in_use(&self.in_use);
        entries.retain(|(_, _, path)| {
            let name = path.file_name().and_then(|name| name.to_str());
            !(path.starts_with(&self.sealed) && name.is_some_and(|name| in_use.contains_key(name)))
        });
        entries.sort();
        for (_, size, path) in entries {
            if total <= most {
                return;
            }
            remove(&path);
            total -= size;
        }
    }
}

fn in_use(names: &Mutex<HashMap<String, usize>>) -> MutexGuard<'_, HashMap<String, usize>> {
    // As for the turns: each change is whole.
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files of a directory: when each was used, its size and its path.
fn files(directory: &Path) -> impl Iterator<Item = (SystemTime, u64, PathBuf)> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), entry.path()))
    })
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
                // Not what: the log lies on the disk too, and whoever has a copy of a file knows its hash.
                tracing::warn!(error = describe(&error), "download interrupted");
                backoff.wait().await;
            }
            done => return done,
        }
    }
}

/// Marks a file as used now, for eviction; if that fails it only goes a little earlier.
pub(crate) fn touch(path: &Path) {
    if let Ok(file) = fs::File::options().write(true).open(path) {
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
    use std::time::Duration;

    use super::*;

    /// A cache with files of 100 bytes, each used so many seconds ago.
    fn cache(state: &Path, limit: u64, ages: &[(&str, u64)]) -> Cache {
        let cache = Cache::open(state, ByteSize(limit), ByteSize(0)).expect("opens");
        for (path, age) in ages {
            let path = state.join(path);
            fs::write(&path, [0; 100]).expect("writes");
            let file = fs::File::options().write(true).open(&path).expect("there");
            file.set_modified(SystemTime::now() - Duration::from_secs(*age)).expect("dated");
        }
        cache
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let state = tempfile::tempdir().expect("temporary directory");
        let ages = [("cache/old", 300), ("sealed/older", 400), ("cache/oldest", 500), ("sealed/new", 100)];
        let cache = cache(state.path(), 250, &ages);
        cache.evict();
        let left: Vec<&str> =
            ages.iter().map(|(path, _)| *path).filter(|path| state.path().join(path).exists()).collect();
        assert_eq!(left, ["cache/old", "sealed/new"]);
    }

    #[test]
    fn what_a_subjob_reads_stays() {
        let state = tempfile::tempdir().expect("temporary directory");
        let cache = cache(state.path(), 50, &[("sealed/used", 300), ("sealed/unused", 200)]);
        let exists = |name| state.path().join("sealed").join(name).exists();
        let held = [cache.hold(["used".to_owned()].into_iter()), cache.hold(["used".to_owned()].into_iter())];
        let [first, second] = held;
        cache.evict();
        assert!(exists("used") && !exists("unused"));
        drop(first);
        cache.evict();
        assert!(exists("used"));
        drop(second);
        cache.evict();
        assert!(!exists("used"));
    }

    #[test]
    fn a_blob_that_was_not_whole_when_a_client_was_killed_is_removed() {
        let state = tempfile::tempdir().expect("temporary directory");
        drop(cache(state.path(), 999, &[("sealed/a.part", 1), ("sealed/b", 1), ("cache/c.part", 1)]));
        let again = cache(state.path(), 999, &[]);
        assert_eq!(files(&again.sealed).count(), 1);
        // A plain one goes on where it stopped.
        assert_eq!(files(&again.plain).count(), 1);
        again.forget_plain();
        assert_eq!(files(&again.plain).count(), 0);
    }
}
