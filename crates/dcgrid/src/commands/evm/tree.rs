//! An application's files laid out below a directory, as a client does, and checked again later.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use model::BlobHash;
use protocol::manifest::{Entry, Manifest};
use wrap::Source;

use crate::exit::{Exit, fault};

/// Copies an application below `root`, which must not hold anything yet.
///
/// # Errors
/// A source that is not what the manifest says, or a disk that fails.
pub fn lay_out(wrapped: &wrap::Wrapped, root: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(root).with_context(|| format!("can't make '{}'", root.display()))?;
    for (path, entry) in &wrapped.manifest.entries {
        let target = place(root, path);
        let context = || format!("can't write '{}'", target.display());
        fs::create_dir_all(target.parent().unwrap_or(root)).with_context(context)?;
        match entry {
            Entry::Directory => fs::create_dir_all(&target).with_context(context)?,
            Entry::Symlink { target: to } => symlink(to, &target).with_context(context)?,
            Entry::File { hash, kind, .. } => {
                let source = &wrapped.sources[hash];
                if copy_hashed(source, &target).with_context(context)? != *hash {
                    let message = format!("the source of '{path}' changed while it was read");
                    return Err(fault(Exit::Usage, message, "try again when nothing writes to it"));
                }
                let mode = Permissions::from_mode(kind.mode());
                fs::set_permissions(&target, mode).with_context(context)?;
            }
        }
    }
    Ok(())
}

/// Every path of a laid out application, directories included, so that a file that was added is seen too.
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

/// Whether a laid out application is what its manifest says, and nothing else, by every byte of it.
pub fn is_intact(manifest: &Manifest, root: &Path) -> bool {
    let expected = paths(manifest, root);
    manifest.entries.iter().all(|(path, entry)| is_entry(entry, &place(root, path)))
        && found(root).is_ok_and(|found| found == expected)
}

/// Whether the given paths of a laid out application have the content that the manifest says.
pub fn are_intact(manifest: &Manifest, root: &Path, paths: &[&PathBuf]) -> bool {
    paths.iter().all(|path| {
        let inside = path.strip_prefix(root).ok().and_then(Path::to_str).map(|inside| format!("/{inside}"));
        match inside.and_then(|inside| manifest.entries.get(&inside)) {
            Some(entry) => is_entry(entry, path),
            None => fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()),
        }
    })
}

fn is_entry(entry: &Entry, target: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(target) else { return false };
    match entry {
        Entry::Directory => metadata.is_dir(),
        Entry::Symlink { target: to } => fs::read_link(target).is_ok_and(|link| link == Path::new(to)),
        Entry::File { hash, size, kind } => {
            metadata.is_file()
                && metadata.len() == *size
                && metadata.permissions().mode() & 0o7777 == kind.mode()
                && copy_hashed_to(target, &mut io::sink()).is_ok_and(|found| found == *hash)
        }
    }
}

/// All that is below a directory, and itself, sorted.
fn found(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                found.push(entry?.path());
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn place(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn copy_hashed(from: &Source, to: &Path) -> io::Result<BlobHash> {
    let mut target = File::create_new(to)?;
    match from {
        Source::File(path) => copy_hashed_to(path, &mut target),
        Source::Rewritten { .. } | Source::BuiltIn(_) => {
            let bytes = from.read()?;
            io::Write::write_all(&mut target, &bytes)?;
            Ok(BlobHash(*blake3::hash(&bytes).as_bytes()))
        }
    }
}

/// Copies and hashes in one go, so that what is hashed is what was copied.
fn copy_hashed_to(from: &Path, to: &mut impl io::Write) -> io::Result<BlobHash> {
    let mut file = File::open(from)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(BlobHash(*hasher.finalize().as_bytes()));
        }
        hasher.update(&buffer[..length]);
        to.write_all(&buffer[..length])?;
    }
}
