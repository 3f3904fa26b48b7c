//! Where the content of an application's files comes from.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use model::BlobHash;

use crate::redirect::Patch;

/// The content of one file of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine.
    File(PathBuf),
    /// A program of this machine with other bytes in some places.
    Rewritten { path: PathBuf, patches: Vec<Patch> },
    /// Ours.
    BuiltIn(&'static [u8]),
}

impl Source {
    /// The whole content, in memory.
    ///
    /// # Errors
    /// A file that can't be read, or that has become shorter since it was wrapped.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Source::File(path) => fs::read(path),
            Source::Rewritten { path, patches } => {
                let mut bytes = fs::read(path)?;
                for patch in patches {
                    let place = usize::try_from(patch.offset).ok();
                    let place = place.and_then(|at| bytes.get_mut(at..at.checked_add(patch.bytes.len())?));
                    place.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(&patch.bytes);
                }
                Ok(bytes)
            }
            Source::BuiltIn(bytes) => Ok(bytes.to_vec()),
        }
    }

    /// The file of this machine that the content comes from.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::File(path) | Source::Rewritten { path, .. } => Some(path),
            Source::BuiltIn(_) => None,
        }
    }

    /// Writes the content to a file that is made for it; the hash is of what was written.
    ///
    /// # Errors
    /// As for [`Source::read`], or a file that can't be written.
    pub fn copy_to(&self, target: &Path) -> io::Result<BlobHash> {
        let mut hashing = Hashing { file: File::create_new(target)?, hasher: blake3::Hasher::new() };
        match self {
            Source::File(path) => drop(io::copy(&mut File::open(path)?, &mut hashing)?),
            Source::Rewritten { .. } | Source::BuiltIn(_) => hashing.write_all(&self.read()?)?,
        }
        Ok(BlobHash(*hashing.hasher.finalize().as_bytes()))
    }
}

/// Hashes what it writes, so that what is hashed is what was written.
struct Hashing {
    file: File,
    hasher: blake3::Hasher,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_written_over_a_file_s_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        fs::write(&path, "0123456789").unwrap();
        let patch = |offset, text: &str| Patch { offset, bytes: text.into() };
        let check = |patches: Vec<Patch>, expect: Option<&str>| {
            let source = Source::Rewritten { path: path.clone(), patches };
            assert_eq!(source.read().ok().as_deref(), expect.map(str::as_bytes));
            let target = directory.path().join("copy");
            assert_eq!(source.copy_to(&target).is_ok(), expect.is_some());
        };
        check(vec![patch(2, "ab"), patch(9, "z")], Some("01ab45678z"));
        check(vec![patch(9, "zz")], None);
        check(vec![patch(u64::MAX, "z")], None);
    }
}
