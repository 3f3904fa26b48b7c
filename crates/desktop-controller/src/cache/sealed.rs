//! Blobs that are sealed while they arrive, under the key that comes with each lease (§4.4). Nothing of one lies on the
//! disk as it is, not even its hash.
//!
//! What a blob holds is checked when it is read, block by block, by whoever serves the subjob's files. A download that
//! was broken off with its client begins anew: what is needed to go on, the client had in memory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use link::{ClientLink, LinkError};
use model::BlobHash;
use protocol::api::MAX_PART;
use rustix::fs::{CWD, Mode, OFlags, openat};
use sandbox_fs::seal::{StoreKey, Suite};
use sandbox_fs::{Blob, BlobError, BlobWriter, Source as _, SourceError, blob_length, blob_name};

use super::{Cache, CacheError, PART, files, in_use, part, remove, touch};

/// Bytes of a blob that are checked at once.
const STEP: usize = 1 << 20;

/// Keeps sealed blobs from being evicted.
#[derive(Debug)]
pub(crate) struct Held {
    in_use: Arc<Mutex<HashMap<String, usize>>>,
    names: Vec<String>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut in_use = in_use(&self.in_use);
        for name in &self.names {
            if let Some(count) = in_use.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    in_use.remove(name);
                }
            }
        }
    }
}

/// A sealed blob as it was read.
#[derive(Debug)]
pub(crate) enum Unsealed {
    Whole(Vec<u8>),
    /// Somebody has changed it. It is gone now, and comes anew when it is wanted.
    Changed,
}

/// A file that is removed again unless it is kept.
struct Partial(Option<PathBuf>);

impl Partial {
    fn keep_as(mut self, path: &Path) -> io::Result<()> {
        let partial = self.0.as_deref().expect("it is kept once");
        fs::rename(partial, path)?;
        self.0 = None;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| remove(path));
    }
}

impl Cache {
    pub(super) fn remove_parts(&self) {
        let parts = files(&self.sealed).filter(|(_, _, path)| path.extension().is_some_and(|e| e == PART));
        parts.for_each(|(_, _, path)| remove(&path));
    }

    /// The directory of sealed blobs, for who reads them.
    pub(crate) fn sealed_directory(&self) -> Result<OwnedFd, CacheError> {
        let opened = openat(CWD, &self.sealed, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        opened.map_err(|error| CacheError::Disk { path: self.sealed.clone(), source: error.into() })
    }

    /// Keeps blobs of these names from being evicted, whether they are here already or not.
    pub(crate) fn hold(&self, names: impl Iterator<Item = String>) -> Held {
        let names: Vec<String> = names.collect();
        let mut in_use = in_use(&self.in_use);
        for name in &names {
            *in_use.entry(name.clone()).or_default() += 1;
        }
        Held { in_use: Arc::clone(&self.in_use), names }
    }

    /// Makes sure that a blob is here; that it is what its name says is seen when it is read.
    pub(crate) async fn fetch_sealed(
        &self,
        link: &mut ClientLink,
        key: &StoreKey,
        hash: &BlobHash,
        size: u64,
    ) -> Result<(), CacheError> {
        let path = self.sealed.join(blob_name(key, &hash.0));
        let turn = self.turn(hash);
        let _turn = turn.lock().await;
        if fs::metadata(&path).is_ok_and(|found| blob_length(size) == Some(found.len())) {
            touch(&path);
            return Ok(());
        }
        self.admit(std::iter::once(size))?;
        let at = path.with_extension(PART);
        let disk = |source| CacheError::Disk { path: at.clone(), source };
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&at);
        let file = file.map_err(disk)?;
        let partial = Partial(Some(at.clone()));
        if self.reader.is_some() {
            fchown(&file, self.reader, self.reader).map_err(disk)?;
        }
        let mut writer = BlobWriter::new(file, key, Suite::best(), hash.0, size).map_err(disk)?;
        while writer.written() < size {
            let done = writer.written();
            let part = part(link, hash, done, (size - done).min(MAX_PART as u64)).await?;
            let found = done + part.len() as u64;
            if part.is_empty() || found > size {
                return Err(CacheError::Size { hash: *hash, expected: size, found });
            }
            writer.write(&part).map_err(disk)?;
        }
        let finished = tokio::task::spawn_blocking(move || writer.finish()).await;
        match finished.expect("writing a file does not panic") {
            Ok(()) => partial.keep_as(&path).map_err(disk),
            Err(BlobError::WrongHash | BlobError::Malformed) => {
                Err(LinkError::WrongHash { hash: *hash }.into())
            }
            Err(BlobError::Io(error)) => Err(disk(error)),
        }
    }

    /// Reads all of a blob that was fetched.
    pub(crate) fn read_sealed(
        &self,
        key: &StoreKey,
        hash: &BlobHash,
        size: u64,
    ) -> Result<Unsealed, CacheError> {
        let mut bytes = Vec::new();
        let whole = self.check_sealed(key, hash, size, |part| bytes.extend_from_slice(part))?;
        Ok(if whole { Unsealed::Whole(bytes) } else { Unsealed::Changed })
    }

    /// Reads all of a blob and says whether it is what it was; if not, it is removed.
    pub(crate) fn check_sealed(
        &self,
        key: &StoreKey,
        hash: &BlobHash,
        size: u64,
        mut take: impl FnMut(&[u8]),
    ) -> Result<bool, CacheError> {
        let path = self.sealed.join(blob_name(key, &hash.0));
        let disk = |source| CacheError::Disk { path: path.clone(), source };
        let changed = || {
            remove(&path);
            Ok(false)
        };
        let blob = match File::open(&path).map(|file| Blob::open(file, key, hash.0, size)) {
            Ok(Ok(blob)) => blob,
            Ok(Err(BlobError::Malformed | BlobError::WrongHash)) => return changed(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return changed(),
            Ok(Err(BlobError::Io(error))) | Err(error) => return Err(disk(error)),
        };
        let mut buffer = vec![0; STEP];
        let mut done = 0;
        while done < size {
            let length = usize::try_from(size - done).map_or(STEP, |left| left.min(STEP));
            match blob.read(done, &mut buffer[..length]) {
                Ok(()) => take(&buffer[..length]),
                Err(SourceError::Tampered) => return changed(),
                Err(SourceError::Io(error)) => return Err(disk(error.into())),
            }
            done += length as u64;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use model::ByteSize;

    use super::*;

    fn key(byte: u8) -> StoreKey {
        StoreKey::take(&mut [byte; 32]).expect("a page can be locked")
    }

    fn put(cache: &Cache, key: &StoreKey, bytes: &[u8]) -> (BlobHash, PathBuf) {
        let hash = BlobHash(*blake3::hash(bytes).as_bytes());
        let path = cache.sealed.join(blob_name(key, &hash.0));
        let file = File::create_new(&path).expect("new");
        let mut writer =
            BlobWriter::new(file, key, Suite::best(), hash.0, bytes.len() as u64).expect("random");
        writer.write(bytes).expect("written");
        writer.finish().expect("right");
        (hash, path)
    }

    #[test]
    fn a_blob_opens_with_its_key_and_goes_when_it_was_changed() {
        let state = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(state.path(), ByteSize(1 << 30), ByteSize(0)).expect("opens");
        let bytes: Vec<u8> = (0..2_500_000u32).map(|at| (at % 251) as u8).collect();
        let (hash, path) = put(&cache, &key(1), &bytes);
        let read = |byte| cache.read_sealed(&key(byte), &hash, bytes.len() as u64).expect("the disk works");
        assert!(matches!(read(1), Unsealed::Whole(found) if found == bytes));
        // Who has another key finds nothing under the name that it gives.
        assert!(matches!(read(2), Unsealed::Changed));
        assert!(path.exists());
        let file = File::options().read(true).write(true).open(&path).expect("there");
        let mut byte = [0];
        file.read_exact_at(&mut byte, 2_000_000).expect("there");
        file.write_all_at(&[byte[0] ^ 1], 2_000_000).expect("written");
        assert!(matches!(read(1), Unsealed::Changed));
        assert!(!path.exists());
    }

    #[test]
    fn the_directory_is_for_its_reader_alone() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let state = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(state.path(), ByteSize(1 << 30), ByteSize(0)).expect("opens");
        let found = fs::metadata(&cache.sealed).expect("there");
        assert_eq!(found.permissions().mode() & 0o777, 0o700);
        let owner = sandbox::service_id().unwrap_or(rustix::process::geteuid().as_raw());
        assert_eq!(found.uid(), owner);
    }
}
