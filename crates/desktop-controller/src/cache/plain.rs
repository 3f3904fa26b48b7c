//! Blobs as they are. One appears under its name only when its bytes have that hash; a download that was broken off
//! goes on where it stopped.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use link::{ClientLink, LinkError};
use model::BlobHash;
use protocol::api::MAX_PART;

use super::{Cache, CacheError, PART, part, remove, touch};

impl Cache {
    /// Where a blob lies once it has been fetched.
    pub(crate) fn path(&self, hash: &BlobHash) -> PathBuf {
        self.plain.join(hash.to_string())
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
        let partial = path.with_extension(PART);
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
