//! A file that a subjob left, wherever its bytes are: on the disk, behind a server of sealed files, or in memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use model::{BlobHash, FailureReason};
use sandbox::FileServer as _;
use sandbox_fs::server::ServerError;

use crate::sealed::SealedFiles;
use crate::verdict::SEALED_FILES;

/// Bytes that are hashed at once.
const STEP: usize = 1 << 18;

/// A file that was produced, open and hashed.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) path: String,
    pub(crate) bytes: Bytes,
    pub(crate) hash: BlobHash,
    pub(crate) size: u64,
}

/// Where bytes are that nobody writes any more.
#[derive(Debug)]
pub(crate) enum Bytes {
    File(File),
    Sealed { files: Arc<SealedFiles>, ino: u64 },
    Memory(Vec<u8>),
}

impl Output {
    /// Reads a file to its end for its hash and size.
    ///
    /// # Errors
    /// Why it can't be read.
    pub(crate) fn take(path: &str, bytes: Bytes) -> Result<Self, FailureReason> {
        let mut hasher = blake3::Hasher::new();
        let mut size = 0;
        loop {
            let part = bytes.read(path, size, STEP)?;
            if part.is_empty() {
                break;
            }
            hasher.update(&part);
            size += part.len() as u64;
        }
        Ok(Output { path: path.to_owned(), bytes, hash: BlobHash(*hasher.finalize().as_bytes()), size })
    }
}

impl Bytes {
    /// The bytes from `offset` on, fewer than `most` only at the end. `path` is for a person to read.
    ///
    /// # Errors
    /// Why they can't be read.
    pub(crate) fn read(&self, path: &str, offset: u64, most: usize) -> Result<Vec<u8>, FailureReason> {
        let storage = |why: String| FailureReason::ClientStorage { why: format!("reading '{path}': {why}") };
        match self {
            Bytes::File(file) => {
                let read = |buffer: &mut [u8], at| file.read_at(buffer, at);
                fill(offset, most, read).map_err(|error| storage(error.to_string()))
            }
            Bytes::Sealed { files, ino } => {
                let read = |buffer: &mut [u8], at| files.read_at(*ino, at, buffer);
                fill(offset, most, read)
                    .map_err(|error| unreadable(files, &error).unwrap_or_else(|| storage(error.to_string())))
            }
            Bytes::Memory(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
                let rest = rest.unwrap_or_default();
                Ok(rest[..rest.len().min(most)].to_vec())
            }
        }
    }
}

/// Whether somebody has changed sealed files, when one can't be read.
fn unreadable(files: &SealedFiles, error: &ServerError) -> Option<FailureReason> {
    let trouble = matches!(error, ServerError::Unreadable).then(|| files.state().ok()?.trouble).flatten();
    let is_tampered = trouble == Some(sandbox::FileTrouble::Tampered);
    is_tampered.then(|| FailureReason::Tampering { path: SEALED_FILES.to_owned() })
}

/// Reads again and again until there are `most` bytes or no more.
fn fill<E>(
    offset: u64,
    most: usize,
    mut read: impl FnMut(&mut [u8], u64) -> Result<usize, E>,
) -> Result<Vec<u8>, E> {
    let mut bytes = vec![0; most];
    let mut done = 0;
    while done < most {
        match read(&mut bytes[done..], offset + done as u64)? {
            0 => break,
            length => done += length,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_same_wherever_they_are() {
        let content: Vec<u8> = (0..600_000u32).map(|at| (at % 253) as u8).collect();
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("file"), &content).expect("written");
        let file = File::open(directory.path().join("file")).expect("there");
        for bytes in [Bytes::File(file), Bytes::Memory(content.clone())] {
            let output = Output::take("x", bytes).expect("readable");
            assert_eq!((output.size, output.hash.0), (600_000, *blake3::hash(&content).as_bytes()));
            let read = |offset, most| output.bytes.read("x", offset, most).expect("readable");
            assert_eq!(read(599_990, 100), content[599_990..]);
            assert_eq!(read(7, 300_000), content[7..300_007]);
            assert!(read(600_000, 1).is_empty() && read(700_000, 1).is_empty());
        }
    }
}
