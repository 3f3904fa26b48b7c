//! Rules by Landlock, over those of the mounts: if a mount were wrong, these would still hold.
//!
//! | what | where |
//! | --- | --- |
//! | execute | the places with registered files |
//! | write, make, remove, rename | `/work`, the user's own directories, memory |
//! | write, control | devices; POSIX message queues |
//! | nothing of these | everywhere else, so in `/proc` and `/sys` |
//! | abstract sockets, signals | only within the subjob |
//!
//! Reading is not ruled: what is in the root may be read. Nothing in `/proc` can be written, not even a thread's
//! name: it is where a process's memory can be changed around all protection, and programs cope.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::step::{StepError, step, step_at};
use crate::layout::Place;
use crate::sys::{self, Handled, Ruleset};

// Rights on files: `LANDLOCK_ACCESS_FS_*`.
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

/// The first ABI in which a file can be renamed from one directory into another, which programs do all the time.
const FIRST_USABLE: u32 = 2;

/// What is handled, and since which ABI. A right that is handled and not given is refused.
const FILE_RIGHTS: &[(u32, u64)] = &[
    (1, EXECUTE | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_CHAR | MAKE_DIR | MAKE_REG | MAKE_SOCK),
    (1, MAKE_FIFO | MAKE_BLOCK | MAKE_SYM),
    (2, REFER),
    (3, TRUNCATE),
    (5, IOCTL_DEV),
];

/// Signals to processes outside. Not connections to abstract sockets: those of the host are in another network
/// namespace, and one in the subjob's own is the VM Portal's, where processes register.
const SCOPES: &[(u32, u64)] = &[(6, 1 << 1)];

/// In a directory that can be written: all but devices.
const CHANGE: u64 = WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE;

/// On a single file that can be written.
const CHANGE_FILE: u64 = WRITE_FILE | TRUNCATE;

/// Whether this kernel has what the rules need.
pub(crate) fn is_usable(abi: Option<u32>) -> bool {
    abi.is_some_and(|abi| abi >= FIRST_USABLE)
}

/// Makes the rules, in the new root; nothing where the kernel can't have them.
pub(super) fn rules(places: &[Place], writable: &[impl AsRef<Path>]) -> Result<Option<Ruleset>, StepError> {
    let Some(abi) = sys::landlock_abi().filter(|abi| is_usable(Some(*abi))) else {
        return Ok(None);
    };
    let handled = known(FILE_RIGHTS, abi);
    let made = Ruleset::new(Handled { files: handled, network: 0, scopes: known(SCOPES, abi) });
    let rules = step("make Landlock rules", made)?;
    let allow = |path: &Path, rights: u64| match open(path) {
        Ok(opened) => step_at("rule by Landlock", path, rules.allow(opened, rights & handled)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => step_at("open for Landlock", path, Err(e)),
    };
    places.iter().try_for_each(|place| allow(place.path(), EXECUTE))?;
    writable.iter().try_for_each(|path| allow(path.as_ref(), CHANGE))?;
    // Which devices there are is for the mounts to say. Controls are asked for by every `isatty`.
    allow(Path::new("/dev"), CHANGE_FILE | IOCTL_DEV)?;
    allow(Path::new("/dev/mqueue"), CHANGE_FILE)?;
    // Files of the host, which a program may open once more as /dev/stdout and /dev/stderr.
    allow_if_file(&rules, io::stdout(), CHANGE_FILE & handled)?;
    allow_if_file(&rules, io::stderr(), CHANGE_FILE & handled)?;
    Ok(Some(rules))
}

fn known(table: &[(u32, u64)], abi: u32) -> u64 {
    table.iter().filter(|(since, _)| *since <= abi).fold(0, |all, (_, right)| all | right)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?.into())
}

/// Pipes and sockets need no rule and can't have one.
fn allow_if_file(rules: &Ruleset, stream: impl AsFd, rights: u64) -> Result<(), StepError> {
    let stat = step("look at the output", rustix::fs::fstat(&stream))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => step("rule the output by Landlock", rules.allow(stream, rights)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_given_goes_unhandled() {
        let all = known(FILE_RIGHTS, u32::MAX);
        for given in [EXECUTE, CHANGE, CHANGE_FILE | IOCTL_DEV] {
            assert_eq!(given & !all, 0);
        }
        assert_eq!(CHANGE & (EXECUTE | MAKE_CHAR | MAKE_BLOCK), 0);
    }

    #[test]
    fn an_older_kernel_is_asked_only_for_what_it_knows() {
        assert_eq!(known(FILE_RIGHTS, 2) & (TRUNCATE | IOCTL_DEV), 0);
        assert_eq!(known(FILE_RIGHTS, 4) & (TRUNCATE | IOCTL_DEV), TRUNCATE);
        assert_eq!((known(SCOPES, 5), known(SCOPES, 6)), (0, 2));
        assert!(!is_usable(None) && !is_usable(Some(1)) && is_usable(Some(2)));
    }
}
