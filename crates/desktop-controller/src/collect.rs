//! Takes a subjob's declared outputs out of its working directory, which it has left in any state it liked, on the disk
//! or behind a server of sealed files.
//!
//! A path is followed only through real directories below the working directory: no links, no `..`, nothing but
//! regular files. The file that was checked is the one that is read: by descriptor, never by name again.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use model::{ByteSize, FailureReason};
use protocol::client_link::DeclaredOutput;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use sandbox_fs::server::Found;

use crate::output::{Bytes, Output};
use crate::sealed::SealedFiles;
use crate::verdict::describe;

/// Opens the declared outputs in a working directory on the disk, in their order.
///
/// # Errors
/// The reason for which the attempt has failed: a file is missing, is no plain file, or all are too large.
pub(crate) fn collect(
    work: &Path,
    declared: &[DeclaredOutput],
    limit: ByteSize,
) -> Result<Vec<Output>, FailureReason> {
    gather(declared, limit, |path, optional| {
        let file = open(work, path, optional)?;
        Ok(file.map(|file| {
            let size = file.metadata().map_or(u64::MAX, |metadata| metadata.len());
            (Bytes::File(file), size)
        }))
    })
}

/// Finds the declared outputs among sealed files, in their order.
///
/// # Errors
/// As [`collect`].
pub(crate) fn collect_sealed(
    files: &Arc<SealedFiles>,
    declared: &[DeclaredOutput],
    limit: ByteSize,
) -> Result<Vec<Output>, FailureReason> {
    gather(declared, limit, |path, optional| {
        let refused = |why: &str| FailureReason::OutputRefused { path: path.to_owned(), why: why.to_owned() };
        let found = files.find(Path::new(path));
        match found.map_err(|error| FailureReason::ClientStorage { why: describe(&error) })? {
            Found::File { ino, size, .. } => {
                Ok(Some((Bytes::Sealed { files: Arc::clone(files), ino }, size)))
            }
            Found::Nothing if optional => Ok(None),
            Found::Nothing => Err(FailureReason::OutputMissing { path: path.to_owned() }),
            Found::Symlink => Err(refused(LINK)),
            Found::Directory | Found::Other => Err(refused(NOT_REGULAR)),
        }
    })
}

const LINK: &str = "it is or goes through a symbolic link";
const NOT_REGULAR: &str = "it is not a regular file";

fn gather(
    declared: &[DeclaredOutput],
    limit: ByteSize,
    open: impl Fn(&str, bool) -> Result<Option<(Bytes, u64)>, FailureReason>,
) -> Result<Vec<Output>, FailureReason> {
    let mut outputs = Vec::with_capacity(declared.len());
    let mut total = 0u64;
    for DeclaredOutput { path, optional } in declared {
        let Some((bytes, size)) = open(path, *optional)? else { continue };
        total = total.saturating_add(size);
        if total > limit.0 {
            return Err(FailureReason::OutputLimit { limit, size: ByteSize(total) });
        }
        outputs.push(Output::take(path, bytes)?);
    }
    Ok(outputs)
}

fn open(work: &Path, path: &str, optional: bool) -> Result<Option<File>, FailureReason> {
    let refused = |why: &str| FailureReason::OutputRefused { path: path.to_owned(), why: why.to_owned() };
    let storage =
        |error: io::Error| FailureReason::ClientStorage { why: format!("reading '{path}': {error}") };
    let directory: OwnedFd = rustix::fs::openat(CWD, work, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| storage(error.into()))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    // Not blocking: a fifo without a writer would hold us up for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: OwnedFd = match openat2(&directory, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) if optional => return Ok(None),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
            return Err(FailureReason::OutputMissing { path: path.to_owned() });
        }
        Err(rustix::io::Errno::LOOP) => return Err(refused(LINK)),
        Err(rustix::io::Errno::XDEV) => return Err(refused("it leads out of the working directory")),
        Err(rustix::io::Errno::ACCESS) => return Err(refused("the program made it unreadable")),
        Err(rustix::io::Errno::NXIO) => return Err(refused(NOT_REGULAR)),
        Err(error) => return Err(storage(error.into())),
    };
    let file = File::from(file);
    let metadata = file.metadata().map_err(storage)?;
    if !metadata.is_file() {
        return Err(refused(NOT_REGULAR));
    }
    Ok(Some(file))
}

#[cfg(test)]
mod hostile_trees;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn check(work: &Path, path: &str, limit: u64) -> Result<Vec<u8>, FailureReason> {
        let declared = [DeclaredOutput { path: path.to_owned(), optional: false }];
        let outputs = collect(work, &declared, ByteSize(limit))?;
        outputs[0].bytes.read(path, 0, 99)
    }

    fn refused(path: &str, why: &str) -> Result<Vec<u8>, FailureReason> {
        Err(FailureReason::OutputRefused { path: path.to_owned(), why: why.to_owned() })
    }

    #[test]
    fn only_plain_files_below_the_working_directory_are_taken() {
        let outside = tempfile::tempdir().expect("temporary directory");
        std::fs::write(outside.path().join("secret"), "secret").expect("writes");
        let directory = tempfile::tempdir().expect("temporary directory");
        let work = directory.path();
        std::fs::create_dir(work.join("sub")).expect("made");
        std::fs::write(work.join("sub/hits"), "hits").expect("writes");
        symlink(outside.path().join("secret"), work.join("link")).expect("linked");
        symlink(outside.path(), work.join("dir-link")).expect("linked");
        symlink("sub/hits", work.join("inner-link")).expect("linked");
        rustix::fs::mknodat(CWD, work.join("fifo"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("made");
        let link = "it is or goes through a symbolic link";
        assert_eq!(check(work, "sub/hits", 99), Ok(b"hits".to_vec()));
        assert_eq!(check(work, "link", 99), refused("link", link));
        assert_eq!(check(work, "inner-link", 99), refused("inner-link", link));
        assert_eq!(check(work, "dir-link/secret", 99), refused("dir-link/secret", link));
        assert_eq!(check(work, "../x", 99), refused("../x", "it leads out of the working directory"));
        assert_eq!(
            check(work, "/etc/passwd", 99),
            refused("/etc/passwd", "it leads out of the working directory")
        );
        assert_eq!(check(work, "fifo", 99), refused("fifo", "it is not a regular file"));
        assert_eq!(check(work, "sub", 99), refused("sub", "it is not a regular file"));
        assert_eq!(check(work, "none", 99), Err(FailureReason::OutputMissing { path: "none".into() }));
        let too_large = FailureReason::OutputLimit { limit: ByteSize(3), size: ByteSize(4) };
        assert_eq!(check(work, "sub/hits", 3), Err(too_large));
    }

    #[test]
    fn an_optional_output_may_be_absent() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let declared = [DeclaredOutput { path: "maybe".to_owned(), optional: true }];
        assert!(collect(directory.path(), &declared, ByteSize(9)).expect("none needed").is_empty());
    }
}
