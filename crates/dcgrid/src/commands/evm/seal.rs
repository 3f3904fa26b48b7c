//! Whether files are still what they were when they were last read, told without reading them.
//!
//! Who changes a file leaves a trace that no ordinary call takes away: the kernel's own time of the last change. A
//! [`Seal`] is the hash of that, and of size, mode and place, over many files.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::BlobHash;
use serde::{Deserialize, Serialize};

/// Two changes of a file within one tick of the kernel's clock carry the same time. The slowest clock has 100 Hz.
const TICK: Duration = Duration::from_millis(20);

/// The state of many files at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    state: BlobHash,
    /// Places, among the paths, of files that had changed so shortly before that a change right after could not be
    /// told from it: their state says nothing.
    unsettled: Vec<usize>,
}

impl Seal {
    /// Looks at files, directories and links, none of which is followed. That one is missing is a state too.
    pub fn take<P: AsRef<Path>>(paths: &[P]) -> Seal {
        let mut hasher = blake3::Hasher::new();
        let mut unsettled = Vec::new();
        let settled_before = SystemTime::now() - TICK;
        for (index, path) in paths.iter().map(AsRef::as_ref).enumerate() {
            hasher.update(&(path.as_os_str().len() as u64).to_le_bytes());
            hasher.update(path.as_os_str().as_bytes());
            let Ok(found) = std::fs::symlink_metadata(path) else {
                hasher.update(b"missing");
                continue;
            };
            let numbers =
                [found.dev(), found.ino(), u64::from(found.mode()), u64::from(found.uid()), found.len()];
            let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
            for bytes in numbers.map(u64::to_le_bytes).into_iter().chain(times.map(i64::to_le_bytes)) {
                hasher.update(&bytes);
            }
            if changed(found.ctime(), found.ctime_nsec()) >= settled_before {
                unsettled.push(index);
            }
        }
        Seal { state: BlobHash(*hasher.finalize().as_bytes()), unsettled }
    }

    /// Those of the paths that must be read again although nothing tells of a change; nothing if one has changed.
    pub fn check<'a, P: AsRef<Path>>(&self, paths: &'a [P]) -> Option<Vec<&'a P>> {
        if Seal::take(paths).state != self.state {
            return None;
        }
        self.unsettled.iter().map(|index| paths.get(*index)).collect()
    }

    /// Whether all paths are known to be as they were.
    pub fn holds(&self, paths: &[PathBuf]) -> bool {
        self.unsettled.is_empty() && Seal::take(paths).state == self.state
    }

    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }
}

fn changed(seconds: i64, nanoseconds: i64) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH + seconds + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Seals two files and a missing one, changes something, and checks.
    fn check(change: impl FnOnce(&Path), holds: bool) {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| directory.path().join(name));
        fs::write(&paths[0], "one").unwrap();
        fs::write(&paths[1], "two").unwrap();
        let seal = Seal::take(&paths);
        change(directory.path());
        assert_eq!(seal.check(&paths).is_some(), holds);
    }

    #[test]
    fn a_change_that_covers_its_tracks_is_seen() {
        check(|_| (), true);
        check(|at| fs::write(at.join("d"), "").unwrap(), true);
        check(|at| fs::write(at.join("c"), "").unwrap(), false);
        check(|at| fs::remove_file(at.join("a")).unwrap(), false);
        check(|at| fs::set_permissions(at.join("a"), Permissions::from_mode(0o600)).unwrap(), false);
        check(|at| fs::rename(at.join("a"), at.join("b")).unwrap(), false);
    }

    #[test]
    fn a_file_that_was_just_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        fs::write(&paths[1], "two").unwrap();
        let seal = Seal::take(&paths);
        assert!(!seal.is_settled() && !seal.holds(&paths));
        assert_eq!(seal.check(&paths), Some(vec![&paths[1]]));
        // The same bytes at the same time: only who reads them knows.
        let before = fs::metadata(&paths[1]).unwrap().modified().unwrap();
        let settled = std::time::Instant::now() + TICK * 2;
        while std::time::Instant::now() < settled {
            std::hint::spin_loop();
        }
        assert!(Seal::take(&paths).is_settled());
        let seal = Seal::take(&paths);
        File::options().write(true).open(&paths[1]).unwrap().set_modified(before).unwrap();
        assert!(!seal.holds(&paths), "the time of the change itself can't be set");
    }
}
