//! What a lower layer holds: read-only contents under their names, merged into the tree when it is made.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::contents::{Source, SourceError};
use crate::operations::Time;
use crate::turn;

/// One name of a layer.
#[derive(Debug)]
pub struct Entry {
    /// Relative to the root of the file system, without `.` and `..`.
    pub path: PathBuf,
    /// Permissions; those of a symbolic link don't count.
    pub mode: u32,
    pub modified: Time,
    pub kind: EntryKind,
}

#[derive(Debug)]
pub enum EntryKind {
    Directory,
    Symlink(OsString),
    File(Arc<dyn Source>),
}

/// A name of a layer that can't be put into the tree.
#[derive(Debug, thiserror::Error)]
#[error("'{}' of a layer can't be put in place: {error}", path.display())]
pub struct LayerError {
    pub path: PathBuf,
    pub error: Errno,
}

/// A file of the host as it is, for contents that need neither sealing nor proof.
#[derive(Debug)]
pub struct PlainSource {
    file: File,
    size: u64,
    identity: [u8; 32],
}

impl PlainSource {
    /// # Errors
    /// What the kernel says about the file.
    pub fn new(file: File) -> io::Result<Self> {
        let found = file.metadata()?;
        let mut identity = [0; 32];
        for (part, number) in identity.chunks_mut(8).zip([found.dev(), found.ino(), found.len(), 0]) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        Ok(PlainSource { file, size: found.len(), identity })
    }
}

impl Source for PlainSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        turn::read_exact_at(&self.file, offset, buffer).map_err(|error| match error.kind() {
            // It has become shorter than it was.
            io::ErrorKind::UnexpectedEof => SourceError::Tampered,
            _ => SourceError::Io(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        })
    }

    fn identity(&self) -> [u8; 32] {
        self.identity
    }
}

/// All of a directory of the host as a layer below `at`; other things than files, directories and links are left
/// out.
///
/// # Errors
/// What the kernel says, with the path.
pub fn plain_layer(directory: &Path, at: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut waiting = vec![(directory.to_owned(), at.to_owned())];
    let named = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("'{}': {error}", path.display()))
    };
    while let Some((from, to)) = waiting.pop() {
        let found = from.symlink_metadata().map_err(|error| named(&from, error))?;
        let kind = if found.is_dir() {
            for inside in from.read_dir().map_err(|error| named(&from, error))? {
                let name = inside.map_err(|error| named(&from, error))?.file_name();
                waiting.push((from.join(&name), to.join(&name)));
            }
            EntryKind::Directory
        } else if found.is_symlink() {
            EntryKind::Symlink(from.read_link().map_err(|error| named(&from, error))?.into())
        } else if found.is_file() {
            let source = File::open(&from).and_then(PlainSource::new).map_err(|error| named(&from, error))?;
            EntryKind::File(Arc::new(source))
        } else {
            continue;
        };
        if to.as_os_str().is_empty() {
            // The root of the file system is there already.
            continue;
        }
        let modified = Time { seconds: found.mtime(), nanoseconds: found.mtime_nsec() as u32 };
        entries.push(Entry { path: to, mode: found.permissions().mode(), modified, kind });
    }
    Ok(entries)
}
