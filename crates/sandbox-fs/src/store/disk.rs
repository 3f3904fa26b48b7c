//! What a store needs of a disk, and the directory that gives it. Tests put a disk that fails in its place.

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, Dir, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::error::{StoreError, io_error};
use crate::turn;

/// Which of the two places for a checkpoint: the older one is written over, so that the other is whole at all times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    A,
    B,
}

impl Copy {
    pub(super) const BOTH: [Copy; 2] = [Copy::A, Copy::B];

    pub(super) fn other(self) -> Copy {
        match self {
            Copy::A => Copy::B,
            Copy::B => Copy::A,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Copy::A => "checkpoint.a",
            Copy::B => "checkpoint.b",
        }
    }
}

/// The file of sealed blocks.
const DATA: &str = "data";

/// A write that failed after some of its bytes were written.
#[derive(Debug)]
pub(super) struct Short {
    pub(super) written: usize,
    pub(super) source: io::Error,
}

/// One data file and two checkpoints. Called from several threads at once.
pub(super) trait Disk: Send + Sync {
    /// Fills `buffer` from the data file as far as that goes, and returns how far.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Short>;
    /// Gives the disk space of a range of the data file back; it reads as zeros then.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Returns when all that was written to the data file is where a power cut leaves it.
    fn sync(&self) -> io::Result<()>;
    /// Makes the data file that long.
    fn resize(&self, length: u64) -> io::Result<()>;
    /// Writes a checkpoint over the one in that place, and returns when it will stay.
    fn write_checkpoint(&self, copy: Copy, bytes: &[u8]) -> io::Result<()>;
    /// The checkpoint in that place, if there is one.
    fn checkpoint(&self, copy: Copy) -> io::Result<Option<Box<dyn Read + '_>>>;
}

/// A directory of a file system, for one store alone.
pub(super) struct Directory {
    directory: OwnedFd,
    data: File,
}

/// Bytes of a read that is not kept in the kernel's cache: the kernel has just been given the same in plain, and the
/// desktop's memory is its owner's. What is read in smaller pieces may come again.
const READ_ONCE: usize = 64 << 10;

/// Only the account that runs us may read or write.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

impl Directory {
    /// A new store in `directory`, which must be empty.
    pub(super) fn create(directory: OwnedFd) -> Result<Directory, StoreError> {
        let names = Dir::read_from(&directory).map_err(io_error("list the store's directory"))?;
        for name in names {
            let name = name.map_err(io_error("list the store's directory"))?;
            if !matches!(name.file_name().to_bytes(), b"." | b"..") {
                return Err(StoreError::NotEmpty);
            }
        }
        Directory::with_data(directory, OFlags::CREATE | OFlags::EXCL)
    }

    /// The store that is in `directory`.
    pub(super) fn open(directory: OwnedFd) -> Result<Directory, StoreError> {
        Directory::with_data(directory, OFlags::empty())
    }

    fn with_data(directory: OwnedFd, flags: OFlags) -> Result<Directory, StoreError> {
        let flags = flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let data =
            rustix::fs::openat(&directory, DATA, flags, PRIVATE).map_err(io_error("open the data file"))?;
        match rustix::fs::flock(&data, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(StoreError::InUse),
            locked => {
                locked.map_err(io_error("lock the data file"))?;
                Ok(Directory { directory, data: File::from(data) })
            }
        }
    }
}

impl Disk for Directory {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let done = turn::read_at(&self.data, offset, buffer)?;
        if done >= READ_ONCE {
            let range = (offset, NonZeroU64::new(done as u64));
            // Advice: what becomes of it is no concern of the reader.
            let _ = rustix::fs::fadvise(&self.data, range.0, range.1, Advice::DontNeed);
        }
        Ok(done)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Short> {
        let mut written = 0;
        while written < bytes.len() {
            match self.data.write_at(&bytes[written..], offset + written as u64) {
                Ok(0) => return Err(Short { written, source: io::ErrorKind::WriteZero.into() }),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Short { written, source }),
            }
        }
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.data, flags, offset, length)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.data.sync_data()
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.data.set_len(length)
    }

    fn write_checkpoint(&self, copy: Copy, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.directory, copy.name(), flags, PRIVATE)?);
        if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
            // A part is of no use, and takes space that may be what is missing. If this fails too, it lies there.
            let _ = file.set_len(0);
            return Err(error);
        }
        Ok(rustix::fs::fsync(&self.directory)?)
    }

    fn checkpoint(&self, copy: Copy) -> io::Result<Option<Box<dyn Read + '_>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, copy.name(), flags, Mode::empty()) {
            Ok(file) => Ok(Some(Box::new(File::from(file)))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
