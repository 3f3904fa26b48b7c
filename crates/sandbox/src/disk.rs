//! How much space a work directory takes, measured while a hostile program writes into it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

/// Entries that one measurement looks at; more than this many count as over any limit.
pub(crate) const MAX_ENTRIES: u32 = 200_000;

/// Deepest directory that one measurement enters; deeper counts as over any limit. Bounds open descriptors.
const MAX_DEPTH: u32 = 64;

/// Entries between two calls of the caller's own.
const PULSE: u32 = 256;

/// What an entry costs besides its blocks, so that a flood of empty files is also seen.
const ENTRY_COST: u64 = 512;

/// Bytes on disk below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Used {
    Bytes(u64),
    /// Too many entries or too deep to measure.
    Unmeasurable,
}

impl Used {
    /// Both together. The second is only asked for when the first is a number.
    pub(crate) fn and(self, other: impl FnOnce() -> Used) -> Used {
        match self {
            Used::Bytes(bytes) => match other() {
                Used::Bytes(more) => Used::Bytes(bytes.saturating_add(more)),
                Used::Unmeasurable => Used::Unmeasurable,
            },
            Used::Unmeasurable => Used::Unmeasurable,
        }
    }

    pub(crate) fn exceeds(self, limit: u64) -> bool {
        match self {
            Used::Bytes(bytes) => bytes > limit,
            Used::Unmeasurable => true,
        }
    }

    /// For reports: a number in any case, never less than the limit when that was met.
    pub(crate) fn bytes_or(self, limit: u64) -> u64 {
        match self {
            Used::Bytes(bytes) => bytes,
            Used::Unmeasurable => limit,
        }
    }
}

/// Measures a directory. What vanishes meanwhile is not counted; links are not followed. A slow disk may take its
/// time, so `pulse` is called again and again.
pub(crate) fn usage(directory: &Path, pulse: &mut dyn FnMut()) -> Used {
    let mut walk = Walk { bytes: 0, entries: 0, pulse };
    match open_directory(CWD, directory) {
        Ok(opened) => match walk.enter(&opened, 0) {
            Some(()) => Used::Bytes(walk.bytes),
            None => Used::Unmeasurable,
        },
        Err(_) => Used::Bytes(0),
    }
}

struct Walk<'a> {
    bytes: u64,
    entries: u32,
    pulse: &'a mut dyn FnMut(),
}

impl Walk<'_> {
    fn enter(&mut self, directory: &OwnedFd, depth: u32) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let Ok(listing) = Dir::read_from(directory) else {
            return Some(());
        };
        for entry in listing.flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return None;
            }
            if self.entries.is_multiple_of(PULSE) {
                (self.pulse)();
            }
            let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512 + ENTRY_COST;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                && let Ok(below) = open_directory(directory, name)
            {
                self.enter(&below, depth + 1)?;
            }
        }
        Some(())
    }
}

/// Opens a directory for listing. A subjob that runs as our own user could hide what it wrote behind a mode
/// without `r`; the owner may take that back, and does.
fn open_directory(at: impl AsFd, name: impl rustix::path::Arg + Copy) -> rustix::io::Result<OwnedFd> {
    let list = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(&at, name, list, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = openat(&at, name, place, Mode::empty())?;
            // By descriptor, so that a link put in the directory's place meanwhile is not followed.
            rustix::fs::chmod(
                format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found)),
                Mode::RWXU,
            )?;
            openat(&at, name, list, Mode::empty())
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{RenameFlags, renameat_with};

    use super::*;

    fn check(make: impl FnOnce(&Path), expect: impl FnOnce(u64) -> bool) {
        let directory = tempfile::tempdir().unwrap();
        make(directory.path());
        match usage(directory.path(), &mut || ()) {
            Used::Bytes(bytes) => assert!(expect(bytes), "{bytes} bytes"),
            Used::Unmeasurable => panic!("unmeasurable"),
        }
    }

    #[test]
    fn what_counts_is_space_on_disk() {
        let mib = vec![1; 1 << 20];
        check(|_| (), |bytes| bytes == 0);
        check(|at| fs::write(at.join("a"), &mib).unwrap(), |bytes| (1 << 20..2 << 20).contains(&bytes));
        check(
            |at| fs::File::create(at.join("hole")).unwrap().set_len(1 << 40).unwrap(),
            |bytes| bytes < 1 << 20,
        );
        check(|at| symlink("/usr", at.join("link")).unwrap(), |bytes| bytes < 1 << 16);
    }

    #[test]
    fn nothing_hides_behind_a_mode() {
        let hide = |at: &Path| {
            fs::create_dir(at.join("dark")).unwrap();
            fs::write(at.join("dark/a"), vec![1; 1 << 20]).unwrap();
            fs::set_permissions(at.join("dark"), fs::Permissions::from_mode(0o300)).unwrap();
        };
        check(hide, |bytes| bytes >= 1 << 20);
    }

    #[test]
    fn a_long_measurement_lets_its_caller_do_something() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..3 * PULSE {
            fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        let mut pulses = 0;
        usage(directory.path(), &mut || pulses += 1);
        assert_eq!(pulses, 3);
    }

    /// Directories and links to a large file and its directory change places while they are measured, 20,000 times:
    /// what is outside never counts.
    #[test]
    fn nothing_outside_is_measured_while_somebody_changes_the_tree() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| directory.path().join(name);
        fs::write(outside.path().join("large"), vec![1; 4 << 20]).unwrap();
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/file"), "inside").unwrap();
        symlink(outside.path(), at("link")).unwrap();
        symlink(outside.path().join("large"), at("to-file")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for (one, other) in
                        [("a", "link"), ("a/b", "to-file"), ("a/b/file", "link"), ("a", "link")]
                    {
                        // One of them may lie elsewhere at the moment.
                        let _ = renameat_with(CWD, at(one), CWD, at(other), RenameFlags::EXCHANGE);
                    }
                }
            });
            let mut wrong = 0;
            for _ in 0..20_000 {
                wrong += u32::from(usage(directory.path(), &mut || ()).exceeds(1 << 20));
            }
            // Before anything can panic, or the other thread would go on for ever.
            stop.store(true, Ordering::Relaxed);
            assert_eq!(wrong, 0);
        });
    }

    #[test]
    fn a_tree_without_end_is_over_any_limit() {
        let directory = tempfile::tempdir().unwrap();
        let deep = (0..=MAX_DEPTH + 1).fold(directory.path().to_owned(), |path, _| path.join("d"));
        fs::create_dir_all(deep).unwrap();
        assert!(usage(directory.path(), &mut || ()).exceeds(u64::MAX));
    }
}
