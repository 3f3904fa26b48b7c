//! Random operations on a file system and on a model of it that is too simple to be wrong; after each step both must
//! say the same. Some runs checkpoint, crash and open again.

#![expect(clippy::unwrap_used, reason = "outside #[test] functions too, a test fails by panicking")]

mod model;
mod random;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use sandbox_fs::operations::{
    Allocate, Attributes, Caller, Changes, Ino, Listing, Operations, ROOT, Rename, SetXattr, Take, Time,
};
use sandbox_fs::seal::{StoreKey, Suite};
use sandbox_fs::store::Store;
use sandbox_fs::{Entry, EntryKind, Files, FilesOptions, Quota, Rate, Source, SourceError};

use model::{Kind, Model};
use random::Random;

const CALLER: Caller = Caller { uid: 1_000, gid: 1_000 };

const KEY: [u8; 32] = [7; 32];

/// Names are few, so that they often meet.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "long name with ünïcode", "x"];

fn options(quota: u64) -> FilesOptions {
    FilesOptions {
        owner: (1_000, 1_000),
        mode: 0o755,
        quota: Quota { bytes: quota, inodes: 10_000 },
        rate: Rate::default(),
    }
}

fn directory(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn key() -> StoreKey {
    StoreKey::take(&mut KEY.clone()).unwrap()
}

/// Contents of a lower layer that are made of their number.
#[derive(Debug)]
struct Pattern {
    number: u8,
    size: u64,
}

impl Pattern {
    fn bytes(&self) -> Vec<u8> {
        (0..self.size).map(|at| (at as u8).wrapping_mul(self.number).wrapping_add(self.number)).collect()
    }
}

impl Source for Pattern {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        let bytes = self.bytes();
        buffer.copy_from_slice(&bytes[offset as usize..offset as usize + buffer.len()]);
        Ok(())
    }

    fn identity(&self) -> [u8; 32] {
        [self.number; 32]
    }
}

fn patterns() -> Vec<Arc<Pattern>> {
    [(3, 0), (5, 100), (7, 4_096), (11, 70_001)]
        .map(|(number, size)| Arc::new(Pattern { number, size }))
        .into()
}

/// Both worlds, and how inodes of one are called in the other.
struct Worlds {
    files: Files,
    model: Model,
    random: Random,
}

impl Worlds {
    fn new(store: &Path, seed: u64) -> Self {
        let store = Store::create(directory(store), key(), Suite::best()).unwrap();
        let files = Files::new(store, options(8 << 20));
        let mut model = Model::new();
        let entry =
            |path: &str, kind| Entry { path: path.into(), mode: 0o644, modified: Time::default(), kind };
        let mut entries = vec![entry("a", EntryKind::Directory), entry("x", EntryKind::Symlink("a".into()))];
        let lower = model.make(ROOT, "a", Kind::directory()).unwrap();
        model.make(ROOT, "x", Kind::Symlink(b"a".to_vec())).unwrap();
        for (name, pattern) in NAMES.iter().skip(1).zip(patterns()) {
            entries.push(entry(&format!("a/{name}"), EntryKind::File(pattern.clone())));
            model.make(lower, name, Kind::File(pattern.bytes())).unwrap();
        }
        files.add_layer(entries, CALLER_IDS).unwrap();
        let mut worlds = Worlds { files, model, random: Random::new(seed) };
        worlds.meet();
        worlds
    }

    /// Learns the numbers of all inodes that have names, by looking them up.
    fn meet(&mut self) {
        let mut waiting = vec![(ROOT, ROOT)];
        while let Some((ours, theirs)) = waiting.pop() {
            self.model.call(ours, theirs);
            for (name, inside) in self.model.names(ours) {
                let found = self.files.look_up(theirs, OsStr::new(&name)).unwrap();
                self.model.call(inside, found.ino);
                if self.model.is_directory(inside) {
                    waiting.push((inside, found.ino));
                }
            }
        }
    }

    fn real(&self, ino: Ino) -> Ino {
        self.model.called(ino)
    }

    /// Some inode, by the model's number.
    fn any(&mut self) -> Ino {
        let all = self.model.all();
        all[self.random.below(all.len())]
    }

    fn any_directory(&mut self) -> Ino {
        let all: Vec<Ino> =
            self.model.all().into_iter().filter(|ino| self.model.is_directory(*ino)).collect();
        all[self.random.below(all.len())]
    }

    fn any_name(&mut self) -> &'static str {
        NAMES[self.random.below(NAMES.len())]
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=1 => self.make(),
            2 => self.unlink(),
            3 => self.rename(),
            4 => self.link(),
            5..=9 => self.write(),
            10..=12 => self.read(),
            13 => self.truncate(),
            14..=15 => self.allocate(),
            16 => self.copy(),
            17 => self.xattr(),
            18 => self.list(),
            _ => self.attributes(),
        }
    }

    fn make(&mut self) {
        let (parent, name) = (self.any_directory(), self.any_name());
        let real = self.real(parent);
        let os = OsStr::new(name);
        let (kind, made) = match self.random.below(4) {
            0 => (Kind::directory(), self.files.make_directory(CALLER, real, os, 0o755)),
            1 => {
                let target = b"to/somewhere".to_vec();
                (Kind::Symlink(target.clone()), self.files.make_symlink(CALLER, real, os, &target))
            }
            2 if self.random.below(4) == 0 => {
                let made = self.files.make_unnamed(CALLER, real, 0o600).unwrap();
                let ours = self.model.make_unnamed(Kind::File(Vec::new()));
                self.model.call(ours, made.ino);
                return;
            }
            _ => (Kind::File(Vec::new()), self.files.make_node(CALLER, real, os, 0o100_644, 0)),
        };
        let expect = self.model.make(parent, name, kind);
        match (expect, made) {
            (Ok(ours), Ok(theirs)) => self.model.call(ours, theirs.ino),
            (expect, made) => {
                assert_eq!(made.map(|made| made.ino).err(), expect.err(), "make {name} in {parent}");
            }
        }
    }

    fn unlink(&mut self) {
        let (parent, name) = (self.any_directory(), self.any_name());
        let (real, os) = (self.real(parent), OsStr::new(name));
        if self.random.below(3) == 0 {
            assert_eq!(self.files.remove_directory(real, os), self.model.remove_directory(parent, name));
        } else {
            assert_eq!(self.files.unlink(real, os), self.model.unlink(parent, name));
        }
    }

    fn rename(&mut self) {
        let (from, to) = (self.any_directory(), self.any_directory());
        let (name, new_name) = (self.any_name(), self.any_name());
        let how = [Rename::Replace, Rename::Replace, Rename::Keep, Rename::Exchange][self.random.below(4)];
        let found =
            self.files.rename(self.real(from), OsStr::new(name), self.real(to), OsStr::new(new_name), how);
        let expect = self.model.rename((from, name), (to, new_name), how);
        assert_eq!(found, expect, "rename {name} in {from} to {new_name} in {to}, {how:?}");
    }

    fn link(&mut self) {
        let (ino, parent, name) = (self.any(), self.any_directory(), self.any_name());
        let found = self.files.link(self.real(ino), self.real(parent), OsStr::new(name));
        let expect = self.model.link(ino, parent, name);
        assert_eq!(found.map(|found| found.ino), expect.map(|()| self.real(ino)));
    }

    /// Offsets are often at the edges of blocks.
    fn any_offset(&mut self) -> u64 {
        let offset = self.random.below(96 << 10) as u64;
        match self.random.below(3) {
            0 => offset / 4_096 * 4_096,
            1 => (offset / 4_096 * 4_096 + 4_090 + self.random.below(12) as u64).min(100_000),
            _ => offset,
        }
    }

    fn any_length(&mut self) -> u64 {
        match self.random.below(4) {
            0 => 4_096 * (1 + self.random.below(4) as u64),
            1 => 1 + self.random.below(50_000) as u64,
            _ => 1 + self.random.below(5_000) as u64,
        }
    }

    fn write(&mut self) {
        let (ino, offset, length) = (self.any(), self.any_offset(), self.any_length());
        let mut data = self.random.bytes(length as usize);
        let expect = self.model.write(ino, offset, &data);
        assert_eq!(self.files.write(self.real(ino), offset, &mut data, false), expect);
    }

    fn read(&mut self) {
        let (ino, offset, length) = (self.any(), self.any_offset(), self.any_length());
        let mut buffer = vec![0xaa; length as usize];
        let found = self.files.read(self.real(ino), offset, &mut buffer);
        let expect = self.model.read(ino, offset, length);
        let found = found.map(|count| buffer[..count].to_vec());
        assert!(
            found == expect,
            "read of {length} at {offset} of {ino}: {:?}",
            first_difference(&found, &expect)
        );
    }

    fn truncate(&mut self) {
        let (ino, size) = (self.any(), self.any_offset());
        let changes = Changes { size: Some(size), ..Changes::default() };
        let found = self.files.change(CALLER, self.real(ino), &changes);
        assert_eq!(found.map(|found| found.size), self.model.truncate(ino, size).map(|()| size));
    }

    fn allocate(&mut self) {
        let (ino, offset, length) = (self.any(), self.any_offset(), self.any_length());
        let how = [
            Allocate::Grow,
            Allocate::KeepSize,
            Allocate::PunchHole,
            Allocate::PunchHole,
            Allocate::ZeroRange,
            Allocate::ZeroRangeKeepSize,
        ][self.random.below(6)];
        let expect = self.model.allocate(ino, how, offset, length);
        assert_eq!(self.files.allocate(self.real(ino), how, offset, length), expect, "{how:?}");
    }

    fn copy(&mut self) {
        let (from, to, length) = (self.any(), self.any(), self.any_length());
        let (from_offset, to_offset) = (self.any_offset(), self.any_offset());
        if from == to {
            // The kernel refuses ranges that overlap.
            return;
        }
        let found = self.files.copy(self.real(from), from_offset, self.real(to), to_offset, length);
        assert_eq!(found, self.model.copy((from, from_offset), (to, to_offset), length));
    }

    fn xattr(&mut self) {
        let (ino, name) = (self.any(), format!("user.{}", self.random.below(3)));
        let (real, os) = (self.real(ino), OsStr::new(&name));
        match self.random.below(3) {
            0 => {
                let length = self.random.below(40);
                let value = self.random.bytes(length);
                let how = [SetXattr::Any, SetXattr::Create, SetXattr::Replace][self.random.below(3)];
                let expect = self.model.set_xattr(ino, &name, &value, how);
                assert_eq!(self.files.set_xattr(real, os, &value, how), expect);
            }
            1 => assert_eq!(self.files.remove_xattr(real, os), self.model.remove_xattr(ino, &name)),
            _ => assert_eq!(self.files.xattr(real, os), self.model.xattr(ino, &name)),
        }
    }

    /// Reads the names of a directory a few at a time.
    fn list(&mut self) {
        let ino = self.any_directory();
        let (mut cookie, mut names) = (0, BTreeSet::new());
        loop {
            let mut room = 1 + self.random.below(3);
            let before = cookie;
            self.files
                .read_names(self.real(ino), cookie, Listing::Names, &mut |name| {
                    if room == 0 {
                        return Take::Full;
                    }
                    room -= 1;
                    assert!(name.cookie > cookie);
                    cookie = name.cookie;
                    let is_new = names.insert(name.name.to_str().unwrap().to_owned());
                    assert!(is_new, "a name comes twice");
                    Take::More
                })
                .unwrap();
            if cookie == before {
                break;
            }
        }
        names.remove(".");
        names.remove("..");
        let expect: BTreeSet<String> = self.model.names(ino).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expect);
    }

    fn attributes(&mut self) {
        let ino = self.any();
        let found = self.files.attributes(self.real(ino)).unwrap();
        self.check_attributes(ino, &found);
    }

    fn check_attributes(&self, ino: Ino, found: &Attributes) {
        assert_eq!(found.links, self.model.links(ino), "links of {ino}");
        if let Some(size) = self.model.size(ino) {
            assert_eq!(found.size, size, "size of {ino}");
        }
    }

    /// Compares all there is.
    fn compare(&mut self) {
        for ino in self.model.all() {
            let found = self.files.attributes(self.real(ino)).unwrap();
            self.check_attributes(ino, &found);
            match self.model.kind(ino) {
                Kind::File(bytes) => {
                    let mut buffer = vec![0xaa; bytes.len() + 10_000];
                    let count = self.files.read(self.real(ino), 0, &mut buffer).unwrap();
                    assert!(buffer[..count] == bytes[..], "contents of {ino} differ");
                }
                Kind::Symlink(target) => {
                    assert_eq!(self.files.read_symlink(self.real(ino)).unwrap(), *target);
                }
                Kind::Directory(_) => {}
            }
        }
    }

    /// Forgets all inodes that have no name, as a kernel does when the last file of theirs is closed.
    fn forget_unnamed(&mut self) {
        for (ino, real) in self.model.take_unnamed() {
            self.files.forget(real, u64::MAX);
            assert_eq!(self.files.attributes(real), Err(Errno::NOENT), "{ino} is gone");
        }
    }

    /// What is counted must be what is there.
    fn check_count(&mut self) {
        self.forget_unnamed();
        let usage = self.files.usage();
        assert_eq!(usage.inodes, self.model.counted_inodes(), "inodes that are counted");
        for ino in self.model.all() {
            let (parent_names, real) = (self.model.names_of(ino), self.real(ino));
            for (parent, name) in parent_names {
                let parent = self.real(parent);
                if self.model.is_directory(ino) {
                    continue;
                }
                self.files.unlink(parent, OsStr::new(&name)).unwrap();
            }
            if !self.model.is_directory(ino) {
                self.files.forget(real, u64::MAX);
            }
        }
        assert_eq!(self.files.usage().bytes, self.model.directory_xattr_bytes(), "bytes that are counted");
    }
}

const CALLER_IDS: (u32, u32) = (CALLER.uid, CALLER.gid);

fn first_difference(one: &Result<Vec<u8>, Errno>, other: &Result<Vec<u8>, Errno>) -> String {
    match (one, other) {
        (Ok(one), Ok(other)) if one.len() == other.len() => {
            format!("byte {:?}", one.iter().zip(other).position(|(one, other)| one != other))
        }
        (Ok(one), Ok(other)) => format!("{} bytes in place of {}", one.len(), other.len()),
        (one, other) => format!("{:?} in place of {:?}", one.as_ref().err(), other.as_ref().err()),
    }
}

#[test]
fn random_operations_do_what_they_do_in_a_model() {
    for seed in 0..24 {
        let place = tempfile::tempdir().unwrap();
        let mut worlds = Worlds::new(place.path(), seed);
        for _ in 0..2_000 {
            worlds.step();
        }
        worlds.compare();
        assert_eq!(worlds.files.trouble(), None);
        worlds.check_count();
    }
}

#[test]
fn what_a_checkpoint_held_comes_back_after_a_crash() {
    for seed in 100..116 {
        let place = tempfile::tempdir().unwrap();
        let mut worlds = Worlds::new(place.path(), seed);
        for _ in 0..6 {
            for _ in 0..200 {
                worlds.step();
            }
            let root = worlds.files.checkpoint().unwrap();
            worlds.forget_unnamed();
            let mut model = worlds.model.clone();
            for _ in 0..200 {
                worlds.step();
            }
            // What came after the checkpoint is lost with the process.
            let Worlds { files, random, .. } = worlds;
            drop(files);
            let (store, state) = Store::open(directory(place.path()), key(), &root).unwrap();
            let sources = patterns().into_iter().map(|pattern| pattern as Arc<dyn Source>);
            let files = Files::open(store, &state, sources, options(8 << 20)).unwrap();
            model.forget_calls();
            worlds = Worlds { files, model, random };
            worlds.meet();
            worlds.compare();
        }
        worlds.check_count();
    }
}

#[test]
fn a_full_quota_refuses_and_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::create(directory(place.path()), key(), Suite::best()).unwrap();
    let files = Files::new(store, options(64 << 10));
    let file = files.make_node(CALLER, ROOT, OsStr::new("file"), 0o100_644, 0).unwrap().ino;
    files.write(file, 0, &mut vec![1; 60 << 10], false).unwrap();
    assert_eq!(files.write(file, 60 << 10, &mut vec![2; 8 << 10], false), Err(Errno::NOSPC));
    assert_eq!(files.trouble(), Some(sandbox_fs::Trouble::OutOfSpace));
    let mut buffer = vec![0; 60 << 10];
    assert_eq!(files.read(file, 0, &mut buffer), Ok(60 << 10));
    assert!(buffer.iter().all(|byte| *byte == 1));
    // Writing over what is there needs no room.
    files.write(file, 0, &mut vec![3; 60 << 10], false).unwrap();
    assert_eq!(files.allocate(file, Allocate::Grow, 0, 1 << 40), Err(Errno::NOSPC));
    files.unlink(ROOT, OsStr::new("file")).unwrap();
    files.forget(file, 1);
    let usage = files.usage();
    assert_eq!((usage.bytes, usage.inodes, usage.out_of_bytes), (0, 0, true));
}
