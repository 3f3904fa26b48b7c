//! An application's files below a directory: laid out from its manifest, and compared with it later.
//!
//! A client does so with blobs from its cache, the command line with the files that it has just wrapped. Where bytes
//! come from is theirs to say; what a tree is, and when it is not one any more, is told here.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use model::BlobHash;
use protocol::manifest::{Entry, Manifest};
use thiserror::Error;

use crate::clear::remove_tree;

/// Why there is no tree, or not the one that the manifest describes.
#[derive(Debug, Error)]
pub enum TreeError {
    /// A source when laying out, else a file on the disk that somebody has changed, added or removed; as it is called
    /// in the application.
    #[error("'{path}' is not what the application's manifest says")]
    Differs { path: String },
    #[error("the disk failed at '{}'", path.display())]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Lays an application out below `root`, taking the place of what is there. Not in one step: who must not see half a
/// tree names another directory and moves it.
///
/// `copy` writes the content with a hash to a file that it makes, and says whether that content has that hash.
///
/// # Errors
/// A content that is not what it should be, or a disk that fails.
pub fn lay_out(
    manifest: &Manifest,
    root: &Path,
    mut copy: impl FnMut(&BlobHash, &Path) -> io::Result<bool>,
) -> Result<(), TreeError> {
    remove_tree(root).map_err(disk(root))?;
    fs::create_dir_all(root).map_err(disk(root))?;
    for (path, entry) in &manifest.entries {
        let target = place(root, path);
        let parent = target.parent().unwrap_or(root);
        fs::create_dir_all(parent).map_err(disk(parent))?;
        match entry {
            Entry::Directory => fs::create_dir_all(&target).map_err(disk(&target))?,
            Entry::Symlink { target: to } => symlink(to, &target).map_err(disk(&target))?,
            Entry::File { hash, kind, .. } => {
                if !copy(hash, &target).map_err(disk(&target))? {
                    return Err(TreeError::Differs { path: path.clone() });
                }
                let mode = Permissions::from_mode(kind.mode());
                fs::set_permissions(&target, mode).map_err(disk(&target))?;
            }
        }
    }
    Ok(())
}

/// Compares a tree with its manifest, by every byte of it.
///
/// # Errors
/// The first path that is not there, is not what the manifest says, or is none of it.
pub fn check(manifest: &Manifest, root: &Path) -> Result<(), TreeError> {
    for (path, entry) in &manifest.entries {
        check_entry(path, entry, &place(root, path))?;
    }
    let expected = paths(manifest, root);
    let found = found(root)?;
    match found.iter().find(|path| expected.binary_search(path).is_err()) {
        Some(added) => Err(TreeError::Differs { path: name(root, added) }),
        None => Ok(()),
    }
}

/// Compares some of the [`paths`] of a tree with the manifest.
///
/// # Errors
/// The first that is not what the manifest says.
pub fn check_some(manifest: &Manifest, root: &Path, paths: &[&PathBuf]) -> Result<(), TreeError> {
    for path in paths {
        let name = name(root, path);
        match manifest.entries.get(&name) {
            Some(entry) => check_entry(&name, entry, path)?,
            None if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) => {}
            None => return Err(TreeError::Differs { path: name }),
        }
    }
    Ok(())
}

/// Every path of a tree, sorted; directories included, so that a file that was added is seen by looking at them.
pub fn paths(manifest: &Manifest, root: &Path) -> Vec<PathBuf> {
    let mut paths = vec![root.to_owned()];
    for path in manifest.entries.keys() {
        let above = path.match_indices('/').skip(1).map(|(end, _)| place(root, &path[..end]));
        paths.extend(above.chain([place(root, path)]));
    }
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Where a path of the application lies.
pub(crate) fn place(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// What a path below `root` is called in the application.
fn name(root: &Path, path: &Path) -> String {
    format!("/{}", path.strip_prefix(root).unwrap_or(path).to_string_lossy())
}

fn check_entry(path: &str, entry: &Entry, target: &Path) -> Result<(), TreeError> {
    let differs = || TreeError::Differs { path: path.to_owned() };
    let found = fs::symlink_metadata(target).map_err(|_| differs())?;
    let is_same = match entry {
        Entry::Directory => found.is_dir(),
        Entry::Symlink { target: to } => fs::read_link(target).is_ok_and(|link| link == Path::new(to)),
        Entry::File { hash, size, kind } => {
            found.is_file()
                && found.len() == *size
                && found.permissions().mode() & 0o7777 == kind.mode()
                && hash_file(target).map_err(disk(target))? == *hash
        }
    };
    if is_same { Ok(()) } else { Err(differs()) }
}

/// All that is below a directory, and itself. Links are not followed.
fn found(root: &Path) -> Result<Vec<PathBuf>, TreeError> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if fs::symlink_metadata(&path).map_err(disk(&path))?.is_dir() {
            for entry in fs::read_dir(&path).map_err(disk(&path))? {
                found.push(entry.map_err(disk(&path))?.path());
            }
        }
    }
    Ok(found)
}

/// The BLAKE3 hash of a file, read in constant memory.
pub(crate) fn hash_file(path: &Path) -> io::Result<BlobHash> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(BlobHash(*hasher.finalize().as_bytes())),
            read => hasher.update(&buffer[..read]),
        };
    }
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::Disk { path, source }
}

#[cfg(test)]
mod tests {
    use protocol::manifest::{FileKind, MANIFEST_VERSION};

    use super::*;

    fn hash(text: &str) -> BlobHash {
        BlobHash(*blake3::hash(text.as_bytes()).as_bytes())
    }

    /// An application with an entry of each kind; a file's content is its name.
    fn manifest() -> Manifest {
        let file = |path: &str, kind| {
            (path.to_owned(), Entry::File { hash: hash(path), size: path.len() as u64, kind })
        };
        let entries = [
            file("/usr/bin/p", FileKind::Program),
            file("/usr/lib/l.so", FileKind::Library),
            file("/etc/d", FileKind::Data),
            ("/bin".to_owned(), Entry::Symlink { target: "usr/bin".into() }),
            ("/var/empty".to_owned(), Entry::Directory),
        ];
        Manifest {
            version: MANIFEST_VERSION,
            name: "p".into(),
            program: "/usr/bin/p".into(),
            entries: entries.into(),
        }
    }

    /// Writes a file whose content is its own name in the application.
    fn copy(root: &Path) -> impl Fn(&BlobHash, &Path) -> io::Result<bool> {
        move |expected, target| {
            let text = name(root, target);
            fs::write(target, &text).map(|()| hash(&text) == *expected)
        }
    }

    fn laid_out() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tree");
        lay_out(&manifest(), &root, copy(&root)).unwrap();
        (directory, root)
    }

    #[test]
    fn what_was_laid_out_is_what_the_manifest_says() {
        let (_directory, root) = laid_out();
        check(&manifest(), &root).unwrap();
        check_some(&manifest(), &root, &paths(&manifest(), &root).iter().collect::<Vec<_>>()).unwrap();
        // Half a tree that somebody left is no hindrance.
        fs::remove_file(root.join("etc/d")).unwrap();
        fs::write(root.join("usr/bin/left"), "").unwrap();
        lay_out(&manifest(), &root, copy(&root)).unwrap();
        check(&manifest(), &root).unwrap();
    }

    #[test]
    fn a_content_that_is_another_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tree");
        let bad = |expected: &BlobHash, target: &Path| {
            fs::write(target, "")?;
            Ok(*expected != hash("/usr/lib/l.so"))
        };
        let error = lay_out(&manifest(), &root, bad).unwrap_err();
        assert!(matches!(&error, TreeError::Differs { path } if path == "/usr/lib/l.so"), "{error}");
    }

    #[test]
    fn every_change_is_told_by_its_path() {
        let changed = |change: &dyn Fn(&Path) -> io::Result<()>, expect: &str| {
            let (_directory, root) = laid_out();
            change(&root).unwrap();
            match check(&manifest(), &root) {
                Err(TreeError::Differs { path }) => assert_eq!(path, expect),
                other => panic!("{expect}: {other:?}"),
            }
        };
        let lax = || Permissions::from_mode(0o777);
        changed(&|root| fs::remove_file(root.join("etc/d")), "/etc/d");
        changed(&|root| fs::set_permissions(root.join("usr/bin/p"), lax()), "/usr/bin/p");
        changed(&|root| fs::write(root.join("usr/bin/added"), ""), "/usr/bin/added");
        changed(&|root| fs::create_dir(root.join("added")), "/added");
        changed(&|root| fs::remove_dir(root.join("var/empty")), "/var/empty");
        let rewritten = |root: &Path| {
            let library = root.join("usr/lib/l.so");
            let before = fs::metadata(&library)?.permissions();
            fs::set_permissions(&library, lax())?;
            fs::write(&library, "/usr/lib/L.so")?;
            fs::set_permissions(&library, before)
        };
        changed(&rewritten, "/usr/lib/l.so");
        let relinked = |root: &Path| {
            fs::remove_file(root.join("bin"))?;
            symlink("etc", root.join("bin"))
        };
        changed(&relinked, "/bin");
    }
}
