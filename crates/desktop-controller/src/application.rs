//! The application tree: the root directory that a subjob sees, made from its manifest and nothing else.
//!
//! A tree is made once per application and then shared, read-only, by all subjobs that run it. It appears under
//! its name only when it is complete, and it is made of copies, so that evicting a blob can't hollow it out.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};

use link::ClientLink;
use link::keys::verify;
use model::BlobHash;
use protocol::client_link::{Lease, manifest_text};
use protocol::manifest::{Manifest, ManifestError};
use sandbox::Code;
use sandbox_fs::blob_name;
use sandbox_fs::seal::StoreKey;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::ControllerError;
use crate::cache::{Cache, CacheError, Held, Unsealed, copy_verified, touch};
use crate::clear::remove_tree;
use crate::identity::make_directory;
use crate::stamp::{Changed, Stamps};
use crate::tree::{self, TreeError};

/// Largest manifest that is read.
const MAX_MANIFEST: u64 = 64 << 20;

/// Application trees kept; the least recently used of those that nobody uses go.
const MAX_TREES: usize = 16;

#[derive(Debug, Error)]
pub(crate) enum ApplicationError {
    #[error("the manifest {manifest} is not signed by the grid")]
    Signature { manifest: BlobHash },
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("a manifest of {size} bytes, at most {MAX_MANIFEST}")]
    TooLarge { size: u64 },
    #[error("{0}")]
    Cache(#[from] CacheError),
    #[error("the client's disk failed at '{}': {source}", path.display())]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("'{path}' of the application was changed on this client's disk")]
    Tampered { path: String },
}

impl From<TreeError> for ApplicationError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Differs { path } => ApplicationError::Tampered { path },
            TreeError::Disk { path, source } => ApplicationError::Disk { path, source },
        }
    }
}

#[derive(Debug)]
pub(crate) struct Applications {
    directory: PathBuf,
    grid_key: BlobHash,
    /// One tree is made at a time; whoever wants the same one waits and finds it.
    making: Mutex<()>,
    /// The trees that this run of the client has verified.
    verified: std::sync::Mutex<HashMap<BlobHash, Stamps>>,
    /// The trees that subjobs run from.
    in_use: std::sync::Mutex<HashMap<PathBuf, Weak<()>>>,
}

/// What of an application the sandbox is told.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Where it is inside the application.
    pub(crate) path: String,
    /// Paths inside the application of the files that may be executed or mapped executable.
    pub(crate) executables: Vec<PathBuf>,
    pub(crate) code: Code,
}

impl Program {
    fn of(manifest: &Manifest) -> Self {
        Program {
            path: manifest.program.clone(),
            executables: manifest.code().map(PathBuf::from).collect(),
            code: if manifest.makes_code() { Code::Generated } else { Code::Fixed },
        }
    }
}

/// A tree that is ready.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    manifest: BlobHash,
    pub(crate) root: PathBuf,
    pub(crate) program: Program,
    /// Keeps the tree from being removed.
    _in_use: Arc<()>,
}

impl Applications {
    pub(crate) fn open(directory: PathBuf, grid_key: BlobHash) -> Result<Self, ControllerError> {
        // The subjob's own user must be able to pass through, and to see nothing else on the way.
        make_directory(&directory, 0o711)?;
        Ok(Applications {
            directory,
            grid_key,
            making: Mutex::new(()),
            verified: std::sync::Mutex::default(),
            in_use: std::sync::Mutex::default(),
        })
    }

    /// The tree of a lease's application, made if it is not there.
    pub(crate) async fn tree(
        &self,
        link: &mut ClientLink,
        cache: &Cache,
        lease: &Lease,
    ) -> Result<Tree, ApplicationError> {
        self.check_signature(lease)?;
        let manifest_hash = lease.application;
        let _making = self.making.lock().await;
        let manifest_path = cache.fetch(link, &manifest_hash, lease.application_size).await?;
        let bytes = fs::read(&manifest_path).map_err(disk(&manifest_path))?;
        if blake3::hash(&bytes).as_bytes() != &manifest_hash.0 {
            // Changed on the disk: what is fetched anew will be right.
            let _ = fs::remove_file(&manifest_path);
            return Err(ApplicationError::Tampered { path: "the manifest".to_owned() });
        }
        let manifest = Manifest::decode(&bytes)?;
        let root = self.directory.join(manifest_hash.to_string());
        let in_use = self.hold(&root);
        let verified = self.stamps(&manifest_hash).is_some();
        if root.is_dir() && !verified {
            // Made by an earlier run of this client, or changed since: trusted only after a look at every byte.
            let (checked, below) = (manifest.clone(), root.clone());
            let looked = tokio::task::spawn_blocking(move || tree::check(&checked, &below)).await;
            if let Err(error) = looked.expect("looking at a tree does not panic") {
                tracing::warn!(%error, tree = %root.display(), "an application on this disk was changed");
                remove_tree(&root).map_err(disk(&root))?;
            }
        }
        let present = root.is_dir();
        if !present {
            cache.admit(manifest.blobs().into_values())?;
            for (hash, size) in manifest.blobs() {
                cache.fetch(link, &hash, size).await?;
            }
            self.make(&manifest, &root, cache).await?;
            self.evict();
        }
        if !(verified && present) {
            let stamps = Stamps::take(&manifest, &root).map_err(disk(&root))?;
            self.verified().insert(manifest_hash, stamps);
        }
        touch_directory(&root);
        Ok(Tree { manifest: manifest_hash, root, program: Program::of(&manifest), _in_use: in_use })
    }

    /// The application of a lease whose files are not to lie here as they are, not even its manifest, which has their
    /// names: all of it is in the sealed cache then.
    pub(crate) async fn sealed(
        &self,
        link: &mut ClientLink,
        cache: &Cache,
        key: &StoreKey,
        lease: &Lease,
    ) -> Result<(Manifest, Program, Held), ApplicationError> {
        self.check_signature(lease)?;
        let (hash, size) = (lease.application, lease.application_size);
        cache.fetch_sealed(link, key, &hash, size).await?;
        let Unsealed::Whole(bytes) = cache.read_sealed(key, &hash, size)? else {
            return Err(ApplicationError::Tampered { path: "the manifest".to_owned() });
        };
        let manifest = Manifest::decode(&bytes)?;
        let blobs = manifest.blobs();
        let held = cache.hold(blobs.keys().map(|hash| blob_name(key, &hash.0)));
        for (hash, size) in blobs {
            cache.fetch_sealed(link, key, &hash, size).await?;
        }
        let program = Program::of(&manifest);
        Ok((manifest, program, held))
    }

    fn check_signature(&self, lease: &Lease) -> Result<(), ApplicationError> {
        if !verify(&self.grid_key, &manifest_text(&lease.application), &lease.application_signature) {
            return Err(ApplicationError::Signature { manifest: lease.application });
        }
        if lease.application_size > MAX_MANIFEST {
            return Err(ApplicationError::TooLarge { size: lease.application_size });
        }
        Ok(())
    }

    /// Removes all trees: none of them will be used.
    pub(crate) fn forget(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            if let Err(error) = remove_tree(&entry.path()) {
                tracing::warn!(%error, tree = %entry.path().display(), "can't remove an application");
            }
        }
    }

    /// Makes sure that the code in a tree is still what was verified, at a moment as late as possible.
    ///
    /// # Errors
    /// A file that somebody has changed. The tree is then made anew when it is wanted the next time.
    pub(crate) async fn check(&self, tree: &Tree) -> Result<(), ApplicationError> {
        let path = || tree.root.display().to_string();
        let stamps =
            self.stamps(&tree.manifest).ok_or_else(|| ApplicationError::Tampered { path: path() })?;
        let root = tree.root.clone();
        let checked = tokio::task::spawn_blocking(move || stamps.check(&root)).await;
        match checked.expect("looking at files does not panic") {
            Ok(stamps) => {
                self.verified().insert(tree.manifest, stamps);
                Ok(())
            }
            Err(Changed(path)) => {
                tracing::warn!(path, tree = %tree.root.display(), "an application's file was changed on this disk");
                self.verified().remove(&tree.manifest);
                Err(ApplicationError::Tampered { path })
            }
        }
    }

    fn stamps(&self, manifest: &BlobHash) -> Option<Stamps> {
        self.verified().get(manifest).cloned()
    }

    /// A panic while the lock is held leaves whole entries behind.
    fn verified(&self) -> std::sync::MutexGuard<'_, HashMap<BlobHash, Stamps>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, manifest: &Manifest, root: &Path, cache: &Cache) -> Result<(), ApplicationError> {
        let fresh = root.with_extension("new");
        let (manifest, building) = (manifest.clone(), fresh.clone());
        let sources: HashMap<BlobHash, PathBuf> =
            manifest.blobs().into_keys().map(|hash| (hash, cache.path(&hash))).collect();
        // The name of a blob in the cache says what it was when it came; a disk can be changed since.
        let copy = move |hash: &BlobHash, target: &Path| copy_verified(&sources[hash], target, hash);
        let laid_out = tokio::task::spawn_blocking(move || tree::lay_out(&manifest, &building, copy)).await;
        laid_out.expect("laying out a tree does not panic")?;
        fs::rename(&fresh, root).map_err(disk(root))
    }

    /// Marks a tree as used for as long as the mark is kept.
    fn hold(&self, root: &Path) -> Arc<()> {
        let mut trees = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        trees.retain(|_, mark| mark.strong_count() > 0);
        if let Some(mark) = trees.get(root).and_then(Weak::upgrade) {
            return mark;
        }
        let mark = Arc::new(());
        trees.insert(root.to_owned(), Arc::downgrade(&mark));
        mark
    }

    fn is_in_use(&self, root: &Path) -> bool {
        let trees = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        trees.get(root).is_some_and(|mark| mark.strong_count() > 0)
    }

    /// Removes the trees that were used longest ago, down to the limit. One that a subjob runs from stays: it would
    /// find files gone that it has not opened yet.
    fn evict(&self) {
        let entries: Vec<_> = fs::read_dir(&self.directory).into_iter().flatten().flatten().collect();
        let surplus = entries.len().saturating_sub(MAX_TREES);
        let mut trees: Vec<_> = entries
            .iter()
            .filter(|entry| !self.is_in_use(&entry.path()))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        trees.sort();
        for (_, tree) in trees.into_iter().take(surplus) {
            if let Err(error) = remove_tree(&tree) {
                tracing::warn!(%error, tree = %tree.display(), "can't remove an old application");
            }
        }
    }
}

fn disk(path: &Path) -> impl Fn(io::Error) -> ApplicationError {
    let path = path.to_owned();
    move |source| ApplicationError::Disk { path: path.clone(), source }
}

fn touch_directory(root: &Path) {
    touch(root);
    if let Ok(directory) = File::open(root) {
        // Only the order of eviction depends on it.
        let _ = directory.set_modified(std::time::SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_tree_that_a_subjob_runs_from_is_not_evicted() {
        let directory = tempfile::tempdir().unwrap();
        let applications = Applications::open(directory.path().to_owned(), BlobHash([0; 32])).unwrap();
        let tree = |number: u64| directory.path().join(format!("tree{number}"));
        let trees = MAX_TREES as u64 + 3;
        for number in 0..trees {
            fs::create_dir(tree(number)).unwrap();
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
            File::open(tree(number)).unwrap().set_modified(used).unwrap();
        }
        let oldest = applications.hold(&tree(0));
        let again = applications.hold(&tree(0));
        drop(oldest);
        applications.evict();
        let left: Vec<u64> = (0..trees).filter(|number| tree(*number).exists()).collect();
        assert_eq!(left, [0].into_iter().chain(4..trees).collect::<Vec<_>>());

        drop(again);
        fs::create_dir(tree(trees)).unwrap();
        applications.evict();
        assert!(!tree(0).exists() && tree(4).exists());
    }
}
