//! Working directories as a hostile program may leave them, or still be changing: nothing outside is ever read, and
//! nothing hangs.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};

use super::*;

/// What every file outside holds, and no file inside.
const SECRET: &str = "secret";

/// Numbers that look random, from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("below a usize")
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A directory with secrets, and beside it one that a program was in.
struct Trees {
    directory: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        for name in ["work", "outside/a/b"] {
            fs::create_dir_all(directory.path().join(name)).expect("made");
        }
        for name in ["outside/a/b/c", "outside/a/c", "outside/c", "c"] {
            fs::write(directory.path().join(name), SECRET).expect("written");
        }
        Trees { directory }
    }

    fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }
}

/// Names that paths are made of, in the tree and in what is asked for.
const NAMES: &[&str] = &["a", "b", "c", "\u{fffd}", " ", "-rf", "..a", "a\nb"];

/// Makes one thing somewhere in the tree; that it can't be made there is as good. Goes down real directories alone:
/// what is made must not come to lie behind one of the tree's own links, which lead anywhere.
fn grow(trees: &Trees, random: &mut Random) {
    let mut at = trees.work();
    for _ in 0..random.below(4) {
        let below = at.join(random.one(NAMES));
        // Already there is as good.
        let _ = fs::create_dir(&below);
        if fs::symlink_metadata(&below).is_ok_and(|found| found.is_dir()) {
            at = below;
        }
    }
    let name = at.join(random.one(NAMES));
    let targets = [
        "a",
        "..",
        "/",
        "../..",
        "../outside",
        "../../outside/a",
        "/proc/self/cwd",
        "/proc/self/fd/0",
        "a/../b",
    ];
    let made: Result<(), io::Error> = match random.below(12) {
        0..=3 => fs::create_dir(&name),
        // New ones only, which follows no link and waits for no reader of a fifo.
        4 | 5 => File::create_new(&name).and_then(|mut file| file.write_all(b"inside")),
        6 => symlink(random.one(&targets), &name),
        7 => symlink(trees.outside(), &name),
        8 => {
            let kind = *random.one(&[FileType::Fifo, FileType::CharacterDevice, FileType::BlockDevice]);
            // /dev/zero would never end.
            mknodat(CWD, &name, kind, Mode::RWXU, makedev(1, 5)).map_err(io::Error::from)
        }
        9 => UnixListener::bind(&name).map(drop),
        10 => File::create_new(&name).and_then(|file| file.set_len(1 << 40)),
        _ if fs::symlink_metadata(&name).is_ok_and(|found| found.is_dir() || found.is_file()) => {
            fs::set_permissions(&name, fs::Permissions::from_mode(*random.one(&[0, 0o300, 0o444, 0o755])))
        }
        _ => Ok(()),
    };
    drop(made);
}

/// A path as a job might have declared it, and some that no job can.
fn wanted(random: &mut Random) -> String {
    let parts: Vec<&str> = (0..=random.below(4)).map(|_| *random.one(NAMES)).collect();
    let path = parts.join("/");
    match random.below(12) {
        0 => format!("../{path}"),
        1 => format!("/{path}"),
        2 => format!("a/../../outside/{path}"),
        3 => format!("{path}/"),
        4 => format!("{path}\0"),
        _ => path,
    }
}

/// Collects some outputs; whatever comes is from inside.
fn check(trees: &Trees, random: &mut Random, kinds: &mut BTreeSet<&'static str>) {
    let declared: Vec<DeclaredOutput> = (0..=random.below(2))
        .map(|_| DeclaredOutput { path: wanted(random), optional: random.below(2) == 0 })
        .collect();
    match collect(&trees.work(), &declared, ByteSize::mib(1)) {
        Ok(outputs) => {
            for Output { path, bytes, size, .. } in outputs {
                let bytes = bytes.read(&path, 0, 1 << 20).expect("readable");
                assert_ne!(bytes, SECRET.as_bytes(), "'{path}' in {declared:?}");
                assert!(size <= 1 << 20, "{size}");
                kinds.insert("taken");
            }
        }
        Err(FailureReason::OutputMissing { .. }) => _ = kinds.insert("missing"),
        Err(FailureReason::OutputRefused { .. }) => _ = kinds.insert("refused"),
        Err(FailureReason::OutputLimit { .. }) => _ = kinds.insert("too large"),
        Err(FailureReason::ClientStorage { .. }) => _ = kinds.insert("storage"),
        Err(other) => panic!("{other:?} for {declared:?}"),
    }
}

fn clear(work: &Path) {
    crate::clear::remove_tree(work).expect("whatever was made can be removed");
    fs::create_dir(work).expect("made");
}

#[test]
fn nothing_outside_is_read_from_any_tree() {
    let trees = Trees::new();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut kinds = BTreeSet::new();
    for _ in 0..200 {
        for _ in 0..30 {
            grow(&trees, &mut random);
        }
        for _ in 0..100 {
            check(&trees, &mut random, &mut kinds);
        }
        clear(&trees.work());
    }
    assert!(kinds.len() >= 4, "all kinds of ends are met: {kinds:?}");
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_outside_is_read_while_somebody_changes_the_tree() {
    let trees = Trees::new();
    let (work, outside) = (trees.work(), trees.outside());
    fs::create_dir_all(work.join("a/b")).expect("made");
    fs::write(work.join("a/b/c"), "inside").expect("written");
    fs::write(work.join("a/c"), "inside").expect("written");
    symlink(&outside, work.join("link")).expect("linked");
    symlink(outside.join("c"), work.join("to-file")).expect("linked");
    fs::create_dir(work.join("b")).expect("made");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // However this ends, or the other thread would go on for ever.
        let _stops = StopAtEnd(&stop);
        scope.spawn(|| {
            // Directories and links change places all the time, by the call that leaves no moment in between.
            while !stop.load(Ordering::Relaxed) {
                for (one, other) in [("a", "link"), ("a/b", "b"), ("a/c", "to-file"), ("a", "link")] {
                    let _ = renameat_with(CWD, work.join(one), CWD, work.join(other), RenameFlags::EXCHANGE);
                }
            }
        });
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let mut kinds = BTreeSet::new();
        for _ in 0..20_000 {
            check(&trees, &mut random, &mut kinds);
        }
        assert!(kinds.contains("taken") && kinds.contains("refused"), "{kinds:?}");
    });
}
