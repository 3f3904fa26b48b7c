//! Whether an application's code on this disk is still what was verified, without reading it again (§4.1.2).
//!
//! A tree is hashed when it is made. Who changes one of its files later leaves a trace that no ordinary call can
//! take away: the kernel's own time of the last change. So before each start only that is looked at, and a file is
//! hashed again when it differs.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use model::BlobHash;
use protocol::manifest::{Entry, Manifest};

use crate::tree::{hash_file, place};

/// What a file of an application was like when its content was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    /// Inside the tree.
    path: String,
    hash: BlobHash,
    state: State,
}

/// What changes when a file does: where it is, its mode and size, and when it was changed, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        State {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The stamps of all files of one tree that may become code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Stamp>);

/// A file that is not what the manifest says: its path inside the application.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed(pub String);

impl Stamps {
    /// Stamps a tree whose every byte was just verified.
    ///
    /// # Errors
    /// A file that is gone already.
    pub(crate) fn take(manifest: &Manifest, root: &Path) -> io::Result<Self> {
        let code = manifest.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File { hash, kind, .. } if kind.is_code() => Some((path, hash)),
            _ => None,
        });
        let stamps = code.map(|(path, hash)| {
            let metadata = fs::symlink_metadata(place(root, path))?;
            Ok(Stamp { path: path.clone(), hash: *hash, state: State::of(&metadata) })
        });
        stamps.collect::<io::Result<_>>().map(Stamps)
    }

    /// Looks at every file, and into those that were touched. Gives the stamps as they are now.
    ///
    /// # Errors
    /// The first file that is gone or has another content, kind or mode.
    pub(crate) fn check(mut self, root: &Path) -> Result<Self, Changed> {
        for stamp in &mut self.0 {
            let path = place(root, &stamp.path);
            let found = fs::symlink_metadata(&path).ok().map(|metadata| State::of(&metadata));
            if found == Some(stamp.state) {
                continue;
            }
            // Times and places change without harm, as when a disk is copied; what it is and holds may not.
            let same = found.filter(|found| found.mode == stamp.state.mode && found.size == stamp.state.size);
            match same {
                Some(state) if hash_file(&path).is_ok_and(|hash| hash == stamp.hash) => stamp.state = state,
                _ => return Err(Changed(stamp.path.clone())),
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

    use protocol::manifest::{FileKind, MANIFEST_VERSION};

    use super::*;

    /// Takes the stamps of a small tree, changes the tree, and checks them.
    fn check(change: impl FnOnce(&Path), expect: Result<(), &str>) {
        let root = tempfile::tempdir().unwrap();
        let files = [("/p", FileKind::Program), ("/l.so", FileKind::Library), ("/d", FileKind::Data)];
        let entries = files.map(|(path, kind)| {
            let target = place(root.path(), path);
            fs::write(&target, path).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(kind.mode())).unwrap();
            let hash = BlobHash(*blake3::hash(path.as_bytes()).as_bytes());
            (path.to_owned(), Entry::File { hash, size: path.len() as u64, kind })
        });
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            name: "p".into(),
            program: "/p".into(),
            entries: entries.into(),
        };
        let stamps = Stamps::take(&manifest, root.path()).unwrap();
        change(root.path());
        let found = stamps.check(root.path()).map(|stamps| {
            // What was touched is not hashed a second time.
            assert_eq!(stamps, Stamps::take(&manifest, root.path()).unwrap());
        });
        assert_eq!(found, expect.map_err(|path| Changed(path.into())));
    }

    fn flip(path: &Path) {
        let before = fs::metadata(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_at(b"x", 1).unwrap();
        // As somebody who covers tracks as far as that is possible.
        file.set_modified(before.modified().unwrap()).unwrap();
        fs::set_permissions(path, before.permissions()).unwrap();
    }

    #[test]
    fn a_changed_program_or_library_is_noticed() {
        check(|_| (), Ok(()));
        check(|root| flip(&root.join("p")), Err("/p"));
        check(|root| flip(&root.join("l.so")), Err("/l.so"));
        check(|root| fs::remove_file(root.join("p")).unwrap(), Err("/p"));
        let lax = fs::Permissions::from_mode(0o777);
        check(|root| fs::set_permissions(root.join("l.so"), lax).unwrap(), Err("/l.so"));
        let replace = |root: &Path| {
            fs::remove_file(root.join("p")).unwrap();
            std::os::unix::fs::symlink("l.so", root.join("p")).unwrap();
        };
        check(replace, Err("/p"));
    }

    #[test]
    fn a_file_that_was_only_touched_is_still_good() {
        let touch = |root: &Path| {
            let mode = fs::metadata(root.join("p")).unwrap().permissions();
            fs::set_permissions(root.join("p"), mode).unwrap();
        };
        check(touch, Ok(()));
        let copy = |root: &Path| {
            let mode = fs::metadata(root.join("p")).unwrap().permissions();
            fs::write(root.join("new"), "/p").unwrap();
            fs::set_permissions(root.join("new"), mode).unwrap();
            fs::rename(root.join("new"), root.join("p")).unwrap();
        };
        check(copy, Ok(()));
        check(|root| flip(&root.join("d")), Ok(()));
    }
}
