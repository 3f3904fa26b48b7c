//! Wrapped programs, kept so that the second start is quick: `~/.cache/dcgrid/evm`.
//!
//! ```text
//! requests/KEY       which application a request led to, and what the wrapping looked at
//! trees/HASH/        manifest, seal, root/: one application, by its manifest's hash
//! runs/TAG/          one run: lock, work/
//! dialogs/           pictures of dialogs that were closed
//! ```
//! Nothing in it is believed for being there. A request holds while nothing that it looked at has changed, a tree
//! while its [`Seal`] does; else it is hashed again, and what is not as its manifest says is made anew.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use desktop_controller::{remove_tree, tree};
use model::BlobHash;
use protocol::manifest::{Entry, Manifest};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::seal::Seal;
use crate::commands::wrap::lay_out;
use crate::exit::{Exit, fault};
use crate::output;
use crate::settings::user_directory;

/// Applications kept; of those that nobody uses, the ones used longest ago go.
const MAX_TREES: usize = 32;

/// Requests remembered.
const MAX_REQUESTS: usize = 256;

/// Pictures of dialogs kept.
const MAX_PICTURES: usize = 64;

/// What, besides the files of the application themselves, decides what wrapping finds.
const CONSULTED: [&str; 4] =
    ["/var/lib/dpkg/status", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.cache"];

/// A directory of our own, for our own account alone.
pub struct Cache {
    directory: PathBuf,
}

/// An application that is ready to run. It stays as long as this value does.
pub struct Application {
    pub root: PathBuf,
    pub manifest: Manifest,
    /// Keeps it from being evicted.
    _used: File,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    manifest: BlobHash,
    seal: Seal,
    /// What the wrapping looked at.
    consulted: Vec<PathBuf>,
}

impl Cache {
    pub fn open() -> anyhow::Result<Self> {
        let directory = user_directory("XDG_CACHE_HOME", ".cache")?.join("dcgrid/evm");
        for path in
            [directory.clone(), directory.join("requests"), directory.join("trees"), directory.join("runs")]
        {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.with_context(|| format!("can't make '{}'", path.display()))?;
        }
        let found = fs::symlink_metadata(&directory).context("can't look at the cache")?;
        if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
            let message = format!("others than you can write to '{}'", directory.display());
            return Err(fault(Exit::Usage, message, "name a directory of your own in XDG_CACHE_HOME"));
        }
        Ok(Cache { directory })
    }

    /// The directory for runs.
    pub fn runs(&self) -> PathBuf {
        self.directory.join("runs")
    }

    /// The directory for pictures of dialogs, with room for those of one more run.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn dialogs(&self) -> anyhow::Result<PathBuf> {
        let directory = self.directory.join("dialogs");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.with_context(|| format!("can't make '{}'", directory.display()))?;
        for path in surplus(&directory, MAX_PICTURES - sandbox::MAX_DIALOGS, PathBuf::clone)? {
            // Another run may just have removed it.
            let _ = fs::remove_file(path);
        }
        Ok(directory)
    }

    /// The application that a request leads to, wrapped and laid out if it is not there.
    ///
    /// # Errors
    /// What can't be wrapped, and a disk that fails.
    pub fn application(&self, request: &wrap::Request) -> anyhow::Result<Application> {
        // One is made at a time; whoever wants the same one waits and finds it.
        let _turn = lock(&self.directory.join("lock"), FlockOperation::LockExclusive)?;
        let known = self.directory.join("requests").join(key(request)?.to_string());
        if let Some(hash) = still_valid(&known)
            && let Some(application) = self.find(&hash)?
        {
            return Ok(application);
        }
        let wrapped = wrap::wrap(request)?;
        for warning in &wrapped.report.warnings {
            tracing::info!("{warning}");
        }
        let hash = hash_of(&wrapped.manifest);
        let application = match self.find(&hash)? {
            Some(application) => application,
            None => self.make(&hash, &wrapped)?,
        };
        let consulted = consulted(request, &wrapped);
        let seal = Seal::take(&consulted);
        if seal.is_settled() {
            let text = serde_json::to_vec(&Known { manifest: hash, seal, consulted });
            write(&known, &text.expect("paths that were wrapped are text"))?;
        }
        self.evict(&application.root)?;
        Ok(application)
    }

    /// A tree that is there and intact.
    fn find(&self, hash: &BlobHash) -> anyhow::Result<Option<Application>> {
        let directory = self.tree(hash);
        let Ok(bytes) = fs::read(directory.join("manifest")) else { return Ok(None) };
        if blake3::hash(&bytes).as_bytes() != &hash.0 {
            return Ok(None);
        }
        let Ok(manifest) = Manifest::decode(&bytes) else { return Ok(None) };
        let used = lock(&directory.join("used"), FlockOperation::LockShared)?;
        // Only the order of eviction depends on it.
        let _ = used.set_modified(SystemTime::now());
        let root = directory.join("root");
        let paths = tree::paths(&manifest, &root);
        let seal_path = directory.join("seal");
        let seal: Option<Seal> =
            fs::read(&seal_path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let unread = seal.as_ref().and_then(|seal| seal.check(&paths));
        let looked = match &unread {
            Some(unread) if unread.is_empty() => {
                return Ok(Some(Application { root, manifest, _used: used }));
            }
            Some(unread) => tree::check_some(&manifest, &root, unread),
            None => tree::check(&manifest, &root),
        };
        if let Err(error) = looked {
            output::note(&format!("evm: in '{}' {error}: tampering, laid out anew", root.display()));
            return Ok(None);
        }
        seal_tree(&seal_path, &paths)?;
        Ok(Some(Application { root, manifest, _used: used }))
    }

    fn make(&self, hash: &BlobHash, wrapped: &wrap::Wrapped) -> anyhow::Result<Application> {
        let directory = self.tree(hash);
        let fresh = directory.with_extension("new");
        let context = || format!("can't make '{}'", directory.display());
        for old in [&directory, &fresh] {
            remove_tree(old).with_context(context)?;
        }
        lay_out(wrapped, &fresh.join("root"))?;
        fs::write(fresh.join("manifest"), wrapped.manifest.encode()).with_context(context)?;
        fs::rename(&fresh, &directory).with_context(context)?;
        let root = directory.join("root");
        seal_tree(&directory.join("seal"), &tree::paths(&wrapped.manifest, &root))?;
        let used = lock(&directory.join("used"), FlockOperation::LockShared)?;
        Ok(Application { root, manifest: wrapped.manifest.clone(), _used: used })
    }

    fn tree(&self, hash: &BlobHash) -> PathBuf {
        self.directory.join("trees").join(hash.to_string())
    }

    /// Removes what was used longest ago, down to the limits, and nothing that is in use.
    fn evict(&self, keep: &Path) -> anyhow::Result<()> {
        let used = |path: &PathBuf| path.join("used");
        for path in surplus(&self.directory.join("trees"), MAX_TREES, used)? {
            if !keep.starts_with(&path)
                && let Some(_unused) = try_lock(&path.join("used"))
            {
                remove_tree(&path).with_context(|| format!("can't remove '{}'", path.display()))?;
            }
        }
        for path in surplus(&self.directory.join("requests"), MAX_REQUESTS, PathBuf::clone)? {
            fs::remove_file(&path).with_context(|| format!("can't remove '{}'", path.display()))?;
        }
        Ok(())
    }
}

/// The entries of a directory beyond a number, those that were used longest ago. `dated` names the file that tells.
fn surplus(
    directory: &Path,
    limit: usize,
    dated: impl Fn(&PathBuf) -> PathBuf,
) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).context("can't list the cache")?.flatten().map(|entry| entry.path());
    let mut entries: Vec<(SystemTime, PathBuf)> = entries
        .map(|path| {
            let used = fs::metadata(dated(&path)).and_then(|found| found.modified());
            (used.unwrap_or(SystemTime::UNIX_EPOCH), path)
        })
        .collect();
    entries.sort();
    let count = entries.len().saturating_sub(limit);
    Ok(entries.into_iter().take(count).map(|(_, path)| path).collect())
}

fn seal_tree(path: &Path, paths: &[PathBuf]) -> anyhow::Result<()> {
    write(path, &serde_json::to_vec(&Seal::take(paths)).expect("a seal is numbers"))
}

/// What a request, on this machine and by this program, is known by.
fn key(request: &wrap::Request) -> anyhow::Result<BlobHash> {
    let ours = std::env::current_exe().context("can't tell our own file")?;
    let mut hasher = blake3::Hasher::new();
    let seal = serde_json::to_vec(&Seal::take(&[ours])).expect("a seal is numbers");
    // Written for people and unambiguous: texts are quoted, parts are named.
    hasher.update(&seal).update(format!("{request:?}").as_bytes());
    Ok(BlobHash(*hasher.finalize().as_bytes()))
}

/// The application that a request led to, if it would lead there again.
fn still_valid(known: &Path) -> Option<BlobHash> {
    let known: Known = serde_json::from_slice(&fs::read(known).ok()?).ok()?;
    known.seal.holds(&known.consulted).then_some(known.manifest)
}

/// Everything whose change can lead a request to another application: the files themselves, the directories in which
/// others could appear, the search path, and the lists of packages and libraries.
fn consulted(request: &wrap::Request, wrapped: &wrap::Wrapped) -> Vec<PathBuf> {
    let mut paths: BTreeSet<PathBuf> = CONSULTED.iter().map(PathBuf::from).collect();
    for source in wrapped.sources.values().filter_map(wrap::Source::path) {
        paths.extend(source.parent().map(Path::to_owned));
        paths.insert(source.to_owned());
    }
    for (path, entry) in &wrapped.manifest.entries {
        let path = Path::new(path);
        paths.extend(path.parent().map(Path::to_owned));
        if matches!(entry, Entry::Symlink { .. } | Entry::Directory) {
            paths.insert(path.to_owned());
        }
    }
    paths.extend(std::env::split_paths(&request.search_path).map(|path| request.base_dir.join(path)));
    for named in request.include.iter().chain([&request.program]) {
        add_all_below(&request.base_dir.join(named), &mut paths);
    }
    paths.into_iter().collect()
}

/// A named file or directory with the directories in it, where files may appear that are in no manifest yet.
fn add_all_below(path: &Path, paths: &mut BTreeSet<PathBuf>) {
    paths.insert(path.to_owned());
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                add_all_below(&entry.path(), paths);
            }
        }
    }
}

fn hash_of(manifest: &Manifest) -> BlobHash {
    BlobHash(*blake3::hash(&manifest.encode()).as_bytes())
}

/// Writes a file that is either whole or not there.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let written = fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, path));
    written.with_context(|| format!("can't write '{}'", path.display()))
}

/// Waits for a lock; it is held as long as the file is.
fn lock(path: &Path, operation: FlockOperation) -> anyhow::Result<File> {
    let file = open_lock(path).with_context(|| format!("can't open '{}'", path.display()))?;
    rustix::fs::flock(&file, operation).with_context(|| format!("can't lock '{}'", path.display()))?;
    Ok(file)
}

/// Takes a lock that nobody else has.
pub fn try_lock(path: &Path) -> Option<File> {
    let file = open_lock(path).ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
