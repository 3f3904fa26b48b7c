//! The machine as a subjob could have changed it: mounts, IPC objects, keys, links of the network, sockets, shared
//! places, and files laid out as bait. What can be told apart from other programs' doings is compared strictly;
//! of shared places, what bears a mark.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::machine;

/// The first of the user ids that subjobs get from a client that is root.
const FIRST_SLOT: u32 = 2_000_000_000;

/// Directories of the host that everybody may write into.
const SHARED: &[&str] =
    &["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/run/lock", "/var/lock", "/run/netns"];

/// All that could show a change of a file but for the time at which it was last read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    attributes: BTreeMap<String, Vec<u8>>,
    hash: Option<blake3::Hash>,
}

/// Files that anybody may write, in the places where programs look for such.
pub struct Bait {
    directories: Vec<TempDir>,
}

impl Bait {
    pub fn lay() -> Self {
        let places = ["/tmp", "/var/tmp"];
        let directories: Vec<TempDir> = places
            .iter()
            .map(|place| {
                tempfile::Builder::new().prefix("bait-").tempdir_in(place).expect("a temporary directory")
            })
            .collect();
        for directory in &directories {
            let at = |name: &str| directory.path().join(name);
            for name in ["file", "program", "deep/file"] {
                fs::create_dir_all(at(name).parent().expect("below the directory")).expect("made");
                fs::write(at(name), name).expect("written");
                let mode = if name == "program" { 0o777 } else { 0o666 };
                fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("its owner may");
            }
            // Not every file system has attributes for users; those that do are compared.
            let _ = rustix::fs::setxattr(at("file"), "user.note", b"bait", rustix::fs::XattrFlags::empty());
            std::os::unix::fs::symlink("file", at("link")).expect("linked");
            for name in ["", "deep"] {
                fs::set_permissions(at(name), fs::Permissions::from_mode(0o777)).expect("its owner may");
            }
        }
        Bait { directories }
    }

    /// Their paths with a blank between, for a program to try its luck.
    pub fn paths(&self) -> String {
        let paths = self.directories.iter().map(|directory| directory.path().display().to_string());
        paths.collect::<Vec<_>>().join(" ")
    }
}

/// What there was at a moment.
pub struct Snapshot {
    facts: BTreeSet<String>,
    shared: BTreeSet<String>,
    bait: BTreeMap<PathBuf, Seen>,
}

impl Snapshot {
    pub fn take(bait: &Bait) -> Self {
        let mut facts = BTreeSet::new();
        let mut note =
            |what: &str, lines: Vec<String>| facts.extend(lines.iter().map(|line| format!("{what} {line}")));
        note("System V shared memory", ipc("/proc/sysvipc/shm"));
        note("System V queue", ipc("/proc/sysvipc/msg"));
        note("System V semaphores", ipc("/proc/sysvipc/sem"));
        note("key", keys());
        note("network link", names("/sys/class/net"));
        let shared = SHARED.iter().flat_map(|place| {
            let entries = machine::entries(&[place]);
            entries.into_iter().map(|path| format!("file {}", path.display()))
        });
        let mounts =
            machine::lines(&["/proc/self/mountinfo"]).into_iter().map(|line| format!("mount {line}"));
        let sockets = machine::lines(&["/proc/net/unix"]).into_iter().filter_map(|line| socket_name(&line));
        Snapshot {
            facts,
            shared: shared.chain(mounts).chain(sockets).collect(),
            bait: bait.directories.iter().flat_map(|directory| tree(directory.path())).collect(),
        }
    }

    /// What is different now. Of what other programs make and remove all the time, only what has one of the marks.
    pub fn difference(&self, now: &Snapshot, marks: &[&str]) -> Vec<String> {
        let mut found: Vec<String> =
            now.facts.difference(&self.facts).map(|fact| format!("there is a {fact}")).collect();
        found.extend(self.facts.difference(&now.facts).map(|fact| format!("there is no {fact} any more")));
        let is_marked = |text: &&String| marks.iter().any(|mark| text.contains(mark));
        found.extend(
            now.shared.difference(&self.shared).filter(is_marked).map(|text| format!("there is a {text}")),
        );
        for path in self.bait.keys().chain(now.bait.keys()) {
            if self.bait.get(path) != now.bait.get(path) {
                let (before, now) = (self.bait.get(path), now.bait.get(path));
                found.push(format!("{} was {before:?} and is {now:?}", path.display()));
            }
        }
        found
    }
}

/// Identity and rights of IPC objects, without what their own users change all the time.
fn ipc(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let head = |line: &str| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    text.lines().skip(1).map(head).collect()
}

/// Keys of the users that only subjobs are, and keys that hold something: `ID FLAGS USES EXPIRY PERM UID GID TYPE
/// DESCRIPTION` in keys of proc(5).
fn keys() -> Vec<String> {
    let text = fs::read_to_string("/proc/keys").unwrap_or_default();
    let is_of_subjob = |fields: &[&str]| {
        let user: Option<u32> = fields.get(5).and_then(|user| user.parse().ok());
        user.is_some_and(|user| user >= FIRST_SLOT) || fields.get(7) == Some(&"user")
    };
    let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| is_of_subjob(fields))
        .map(|fields| format!("{} {}", fields[0], fields[7..].join(" ")))
        .collect()
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The eighth field of unix in proc(5), if the socket has a name.
fn socket_name(line: &str) -> Option<String> {
    line.split_whitespace().nth(7).map(|name| format!("socket {name}"))
}

/// Everything below a directory; links are not followed.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let stat = fs::symlink_metadata(&path).expect("nobody else removes it");
        if stat.is_dir() {
            open.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("an entry").path()));
        }
        let seen = Seen {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            links: stat.nlink(),
            modified: (stat.mtime(), stat.mtime_nsec()),
            changed: (stat.ctime(), stat.ctime_nsec()),
            attributes: attributes(&path),
            hash: stat.is_file().then(|| blake3::hash(&fs::read(&path).expect("readable"))),
        };
        found.insert(path, seen);
    }
    found
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    names.truncate(length);
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let name = String::from_utf8_lossy(name).into_owned();
            let mut value = vec![0; 65_536];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..]).unwrap_or(0);
            value.truncate(length);
            (name, value)
        })
        .collect()
}

/// Files below a directory that a subjob made or that bear a mark.
pub fn traces(directory: &Path, mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        // What is gone by now is no trace.
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        if stat.uid() >= FIRST_SLOT || path.to_string_lossy().contains(mark) {
            found.push(format!("{} of user {}", path.display(), stat.uid()));
        }
        if stat.is_dir() {
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    found
}
