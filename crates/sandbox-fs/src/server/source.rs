//! Contents of layers that are opened when they are first read: an application has thousands of files, and a program
//! reads few of them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::message::LayerKind;
use crate::blob::{Blob, BlobError, blob_name};
use crate::contents::{Source, SourceError};
use crate::layer::PlainSource;
use crate::seal::StoreKey;

/// Where the contents of layers are.
pub(super) struct Shelves {
    /// Sealed blobs, and their key.
    pub(super) blobs: Option<(OwnedFd, StoreKey)>,
    pub(super) directories: Vec<OwnedFd>,
}

#[derive(Debug)]
pub(super) struct Late {
    what: LayerKind,
    shelves: Arc<Shelves>,
    opened: OnceLock<Result<Box<dyn Source>, SourceError>>,
}

impl std::fmt::Debug for Shelves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelves").field("directories", &self.directories).finish_non_exhaustive()
    }
}

impl Late {
    pub(super) fn new(what: LayerKind, shelves: &Arc<Shelves>) -> Self {
        Late { what, shelves: Arc::clone(shelves), opened: OnceLock::new() }
    }

    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        match &self.what {
            LayerKind::Blob { hash, size } => {
                let (directory, key) = self.shelves.blobs.as_ref().ok_or(SourceError::Io(Errno::NOENT))?;
                let file = open_beneath(directory, Path::new(&blob_name(key, hash))).map_err(lost)?;
                match Blob::open(file, key, *hash, *size) {
                    Ok(blob) => Ok(Box::new(blob)),
                    Err(BlobError::Io(error)) => Err(failed(&error)),
                    Err(BlobError::Malformed | BlobError::WrongHash) => Err(SourceError::Tampered),
                }
            }
            LayerKind::Plain { directory, path, size } => {
                let directory = self.shelves.directories.get(*directory as usize);
                let directory = directory.ok_or(SourceError::Io(Errno::NOENT))?;
                let file = open_beneath(directory, Path::new(path)).map_err(lost)?;
                let source = PlainSource::new(file).map_err(|error| failed(&error))?;
                // Since it was measured somebody has changed it.
                if source.size() == *size { Ok(Box::new(source)) } else { Err(SourceError::Tampered) }
            }
            LayerKind::Directory | LayerKind::Symlink { .. } => Err(SourceError::Io(Errno::INVAL)),
        }
    }
}

impl Source for Late {
    fn size(&self) -> u64 {
        match &self.what {
            LayerKind::Blob { size, .. } | LayerKind::Plain { size, .. } => *size,
            LayerKind::Directory | LayerKind::Symlink { .. } => 0,
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        match self.opened.get_or_init(|| self.open()) {
            Ok(source) => source.read(offset, buffer),
            Err(error) => Err(*error),
        }
    }

    fn identity(&self) -> [u8; 32] {
        match &self.what {
            LayerKind::Blob { hash, .. } => *hash,
            LayerKind::Plain { directory, path, size } => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&directory.to_le_bytes()).update(&size.to_le_bytes());
                *hasher.update(path.as_encoded_bytes()).finalize().as_bytes()
            }
            LayerKind::Directory | LayerKind::Symlink { .. } => [0; 32],
        }
    }
}

/// Something that was there when the layer was made and is not any more, or is something else.
fn lost(error: Errno) -> SourceError {
    match error {
        Errno::NOENT | Errno::LOOP | Errno::XDEV | Errno::NOTDIR => SourceError::Tampered,
        error => SourceError::Io(error),
    }
}

fn failed(error: &io::Error) -> SourceError {
    SourceError::Io(Errno::from_io_error(error).unwrap_or(Errno::IO))
}

fn open_beneath(directory: &OwnedFd, path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(directory, path, flags, Mode::empty(), resolve).map(File::from)
}
