//! Where a subjob's files are: on the client's disk as they are, or sealed behind a server of their own (§4.4).
//!
//! Everything that differs between the two is here; an attempt goes the same way with both.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use link::ClientLink;
use model::{BlobHash, ByteSize, FailureReason};
use protocol::client_link::{DeclaredOutput, Lease};
use sandbox::{Bounds, FileServer as _, FileTrouble, Spec};
use sandbox_fs::blob_name;
use sandbox_fs::operations::Time;
use sandbox_fs::seal::StoreKey;
use sandbox_fs::server::{Found, LayerEntry, LayerKind};

use crate::application::{Program, Tree};
use crate::attempt::Shared;
use crate::cache::{Held, copy_verified};
use crate::collect::{collect, collect_sealed};
use crate::lease_keys::LeaseKeys;
use crate::output::{Bytes, Output};
use crate::sealed::{Contents, SealedFiles, application_entries};
use crate::verdict::{SEALED_FILES, application_failure, cache_failure, describe, storage};

/// What was laid out for one attempt.
#[derive(Debug)]
pub(crate) enum Place {
    Plain { directory: PathBuf, tree: Tree },
    Sealed(Sealed),
}

#[derive(Debug)]
pub(crate) struct Sealed {
    directory: PathBuf,
    files: Arc<SealedFiles>,
    program: Program,
    /// What the subjob may read of the cache, and the key of that.
    blobs: BTreeMap<BlobHash, u64>,
    key: Arc<StoreKey>,
    _held: (Held, Held),
}

impl Place {
    /// Fetches what the subjob needs and lays it out.
    ///
    /// # Errors
    /// The reason to report.
    pub(crate) async fn prepare(
        shared: &Shared,
        link: &mut ClientLink,
        lease: &Lease,
        directory: &Path,
    ) -> Result<Self, FailureReason> {
        shared
            .cache
            .admit(lease.inputs.iter().map(|input| input.size))
            .map_err(|error| cache_failure(&error))?;
        let place = match shared.seals(lease) {
            true => Place::Sealed(prepare_sealed(shared, link, lease, directory).await?),
            false => {
                let tree = prepare_plain(shared, link, lease, directory).await?;
                Place::Plain { directory: directory.to_owned(), tree }
            }
        };
        shared.cache.evict();
        Ok(place)
    }

    /// Makes sure that the code is still what was verified, at a moment as late as possible. Of what is sealed each
    /// block is checked when it is read.
    pub(crate) async fn check(&self, shared: &Shared) -> Result<(), FailureReason> {
        match self {
            Place::Plain { tree, .. } => shared.applications.check(tree).await.map_err(application_failure),
            Place::Sealed(_) => Ok(()),
        }
    }

    /// What is to run, from where.
    pub(crate) fn spec(&self, limits: Bounds) -> Spec {
        let (program, root, directory) = match self {
            Place::Plain { directory, tree } => (&tree.program, tree.root.as_path(), directory),
            Place::Sealed(Sealed { directory, program, .. }) => (program, directory.as_path(), directory),
        };
        let mut spec = Spec {
            executables: program.executables.clone(),
            code: program.code,
            ..Spec::new(root, &program.path, directory, limits)
        };
        if let Place::Sealed(Sealed { files, .. }) = self {
            files.apply(&mut spec);
        }
        spec
    }

    /// The declared outputs, in their order. Blocks while they are read.
    ///
    /// # Errors
    /// As [`collect`].
    pub(crate) fn collect(
        &self,
        declared: &[DeclaredOutput],
        limit: ByteSize,
    ) -> Result<Vec<Output>, FailureReason> {
        match self {
            Place::Plain { directory, .. } => collect(&directory.join("work"), declared, limit),
            Place::Sealed(Sealed { files, .. }) => collect_sealed(files, declared, limit),
        }
    }

    /// What was written to the stream of this name, and how much it is.
    ///
    /// # Errors
    /// Why it can't be read.
    pub(crate) fn stream(&self, name: &str) -> Result<(Bytes, u64), FailureReason> {
        match self {
            Place::Plain { directory, .. } => {
                let path = directory.join(name);
                let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
                let (size, file) = opened.map_err(|error| storage(&path, &error))?;
                Ok((Bytes::File(file), size))
            }
            Place::Sealed(Sealed { files, .. }) => match files.stream(name) {
                Ok(Found::File { ino, size, .. }) => {
                    Ok((Bytes::Sealed { files: Arc::clone(files), ino }, size))
                }
                Ok(_) => Ok((Bytes::Memory(Vec::new()), 0)),
                Err(error) => Err(FailureReason::ClientStorage { why: describe(&error) }),
            },
        }
    }

    /// What has become of the files behind the program's back, however it ended.
    pub(crate) fn trouble(&self) -> Option<FailureReason> {
        let Place::Sealed(Sealed { files, .. }) = self else { return None };
        match files.state() {
            Ok(state) => match state.trouble? {
                FileTrouble::Tampered => Some(FailureReason::Tampering { path: SEALED_FILES.to_owned() }),
                FileTrouble::OutOfSpace | FileTrouble::Lost => None,
            },
            Err(error) => Some(FailureReason::ClientStorage { why: error.to_string() }),
        }
    }

    /// Removes what somebody has changed of the cache, after a subjob has met some of it. Blocks while all is read that
    /// the subjob could read.
    pub(crate) fn remove_changed(&self, shared: &Shared) {
        let Place::Sealed(Sealed { blobs, key, .. }) = self else { return };
        for (hash, size) in blobs {
            match shared.cache.check_sealed(key, hash, *size, |_| ()) {
                Ok(true) => {}
                Ok(false) => tracing::warn!("something that was kept sealed on this disk was changed"),
                Err(error) => tracing::warn!(error = describe(&error), "a sealed file can't be checked"),
            }
        }
    }
}

async fn prepare_plain(
    shared: &Shared,
    link: &mut ClientLink,
    lease: &Lease,
    directory: &Path,
) -> Result<Tree, FailureReason> {
    let tree = shared.applications.tree(link, &shared.cache, lease).await.map_err(application_failure)?;
    let work = directory.join("work");
    fs::create_dir_all(&work).map_err(|error| storage(&work, &error))?;
    for input in &lease.inputs {
        let cached =
            shared.cache.fetch(link, &input.hash, input.size).await.map_err(|e| cache_failure(&e))?;
        let target = work.join(&input.path);
        let parent = target.parent().unwrap_or(&work);
        fs::create_dir_all(parent).map_err(|error| storage(parent, &error))?;
        let hash = input.hash;
        let copied = tokio::task::spawn_blocking(move || copy_verified(&cached, &target, &hash)).await;
        let is_intact = copied.expect("copying does not panic").map_err(|error| storage(&work, &error))?;
        if !is_intact {
            return Err(FailureReason::Tampering { path: input.path.clone() });
        }
    }
    Ok(tree)
}

async fn prepare_sealed(
    shared: &Shared,
    link: &mut ClientLink,
    lease: &Lease,
    directory: &Path,
) -> Result<Sealed, FailureReason> {
    let LeaseKeys { store, cache: key } = LeaseKeys::open(&shared.keys.opening, lease)?;
    let cache = &shared.cache;
    let (manifest, program, held) =
        shared.applications.sealed(link, cache, &key, lease).await.map_err(application_failure)?;
    let inputs_held = cache.hold(lease.inputs.iter().map(|input| blob_name(&key, &input.hash.0)));
    for input in &lease.inputs {
        let fetched = cache.fetch_sealed(link, &key, &input.hash, input.size).await;
        fetched.map_err(|error| cache_failure(&error))?;
    }
    let mut blobs = manifest.blobs();
    blobs.extend(lease.inputs.iter().map(|input| (input.hash, input.size)));
    let contents = Contents {
        application: application_entries(&manifest, |_, hash, size| LayerKind::Blob { hash: hash.0, size }),
        inputs: input_entries(lease),
        directories: Vec::new(),
        blobs: Some((cache.sealed_directory().map_err(|e| cache_failure(&e))?, Arc::clone(&key))),
    };
    let made = fs::DirBuilder::new().mode(0o700).create(directory);
    made.map_err(|error| storage(directory, &error))?;
    let (disk, io_rate) = (lease.resources.disk, lease.limits.io_rate);
    let at = directory.to_owned();
    let started =
        tokio::task::spawn_blocking(move || SealedFiles::start(&at, contents, store, disk, io_rate)).await;
    let files = started
        .expect("starting a file server does not panic")
        .map_err(|error| FailureReason::ClientSetup { why: describe(&error) })?;
    Ok(Sealed { directory: directory.to_owned(), files, program, blobs, key, _held: (held, inputs_held) })
}

fn input_entries(lease: &Lease) -> Vec<LayerEntry> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified =
        Time { seconds: i64::try_from(now.as_secs()).unwrap_or(0), nanoseconds: now.subsec_nanos() };
    let entry = |input: &model::plan::Input| LayerEntry {
        path: (&input.path).into(),
        mode: 0o644,
        modified,
        kind: LayerKind::Blob { hash: input.hash.0, size: input.size },
    };
    lease.inputs.iter().map(entry).collect()
}
