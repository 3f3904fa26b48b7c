//! Hashes the files of an application with BLAKE3, in constant memory and on several threads.

use std::fs::{File, Metadata};
use std::io::Read;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use model::BlobHash;

use crate::error::WrapError;

/// Bytes read at a time: enough for BLAKE3 to use its widest vectors, small enough to stay in the cache.
const CHUNK: usize = 128 << 10;

/// Most threads that hash: beyond this the disk is what one waits for.
const MAX_THREADS: usize = 8;

/// One file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub hash: BlobHash,
    pub size: u64,
    pub looks: Looks,
}

/// What a file looks like by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    Elf,
    /// Text, which a shell takes for a script of its own when it is asked to run it.
    Text,
    Other,
}

impl Looks {
    fn of(head: &[u8]) -> Self {
        if head.starts_with(b"\x7fELF") {
            Looks::Elf
        } else if head.contains(&0) {
            Looks::Other
        } else {
            Looks::Text
        }
    }
}

/// Hash, size and looks of each file, in the order given.
///
/// # Errors
/// The first file that can't be read, or that changed while it was.
pub(crate) fn hash_files(paths: &[impl AsRef<Path> + Sync]) -> Result<Vec<Hashed>, WrapError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS).min(paths.len());
    let next = AtomicUsize::new(0);
    let mut hashed = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| hash_share(paths, &next))).collect();
        let mut all = Vec::with_capacity(paths.len());
        for worker in workers {
            all.extend(worker.join().expect("hashing does not panic")?);
        }
        Ok::<_, WrapError>(all)
    })?;
    hashed.sort_unstable_by_key(|(index, _)| *index);
    Ok(hashed.into_iter().map(|(_, hash)| hash).collect())
}

/// A file's content, with its place in the order.
type Numbered = (usize, Hashed);

/// Hashes one file after another, each the next that no thread has taken, until none is left.
fn hash_share(paths: &[impl AsRef<Path>], next: &AtomicUsize) -> Result<Vec<Numbered>, WrapError> {
    let mut buffer = vec![0; CHUNK];
    let mut hashed = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(path) = paths.get(index) else { return Ok(hashed) };
        hashed.push((index, hash_file(path.as_ref(), &mut buffer)?));
    }
}

fn hash_file(path: &Path, buffer: &mut [u8]) -> Result<Hashed, WrapError> {
    let read = |source| WrapError::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(read)?;
    let before = file.metadata().map_err(read)?;
    let hashed = hash_stream(&mut file, buffer).map_err(read)?;
    let after = file.metadata().map_err(read)?;
    if state(&before) != state(&after) || hashed.size != after.len() {
        return Err(WrapError::Changed { path: path.into() });
    }
    Ok(hashed)
}

fn hash_stream(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<Hashed> {
    let mut hasher = blake3::Hasher::new();
    let mut looks = None;
    loop {
        let count = source.read(buffer)?;
        let part = &buffer[..count];
        let looks = *looks.get_or_insert_with(|| Looks::of(part));
        if count == 0 {
            let hash = BlobHash(*hasher.finalize().as_bytes());
            return Ok(Hashed { hash, size: hasher.count(), looks });
        }
        hasher.update(part);
    }
}

/// What changes when a file's content does.
fn state(metadata: &Metadata) -> (u64, i64, i64, i64, i64) {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn hashes_come_in_the_order_of_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let contents: Vec<_> = (0..40).map(|i| vec![i as u8; i * 9_001]).collect();
        let paths: Vec<_> = (0..contents.len()).map(|i| dir.path().join(i.to_string())).collect();
        for (path, content) in paths.iter().zip(&contents) {
            std::fs::write(path, content).unwrap();
        }
        let expect: Vec<_> =
            contents.iter().map(|c| (BlobHash(*blake3::hash(c).as_bytes()), c.len() as u64)).collect();
        let found: Vec<_> = hash_files(&paths).unwrap().iter().map(|f| (f.hash, f.size)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn the_first_bytes_say_what_a_file_is() {
        let check = |content: &[u8], expect| {
            assert_eq!(hash_stream(&mut &content[..], &mut [0; 64]).unwrap().looks, expect);
        };
        check(b"\x7fELF\x02\x01", Looks::Elf);
        check(b"#!/bin/sh\n", Looks::Text);
        check(b"echo no line above\n", Looks::Text);
        check(b"", Looks::Text);
        check(b"PK\x03\x04\0\0", Looks::Other);
    }

    #[test]
    fn a_file_that_can_not_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let error = hash_files(&[&gone]).unwrap_err();
        assert!(matches!(&error, WrapError::Read { path, source }
            if *path == gone && source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "one").unwrap();
        let before = state(&std::fs::metadata(&path).unwrap());
        std::fs::write(&path, "one and two").unwrap();
        assert_ne!(state(&std::fs::metadata(&path).unwrap()), before);
        // A file whose size is not what its bytes add up to has changed too: /proc is full of them.
        let mut buffer = vec![0; CHUNK];
        assert!(matches!(
            hash_file(Path::new("/proc/self/status"), &mut buffer),
            Err(WrapError::Changed { .. })
        ));
    }
}
