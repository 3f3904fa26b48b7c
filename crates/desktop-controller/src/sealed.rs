//! A subjob's files, sealed on the disk (§4.4): a file server of its own, and how a sandbox is told of it.
//!
//! ```text
//! place/store    sealed blocks: all that lies on the disk
//! place/files    where the subjob's mount namespace has the mount; empty for everybody else
//!        app/    the application, read-only            → /
//!        work/   inputs, and what the program writes   → /work
//!        stdout, stderr
//! ```

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::ByteSize;
use protocol::manifest::{Entry, FileKind, Manifest};
use rustix::fs::{CWD, Mode, OFlags, openat};
use sandbox::{FileState, FileTrouble, Output, Served, Spec};
use sandbox_fs::operations::Time;
use sandbox_fs::seal::StoreKey;
use sandbox_fs::server::{
    FileServer, Found, Layer, LayerEntry, LayerKind, Listed, ServedFile, ServerError, ServerOptions,
};
use sandbox_fs::{Quota, Rate, Trouble};
use thiserror::Error;

/// Names at the top of the mount.
const APPLICATION: &str = "app";
const WORK: &str = "work";
const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";

/// Threads that serve a subjob's files: one that works while the other one waits for the disk.
const THREADS: u32 = 2;

/// Bytes of the quota for each inode, as ext4 has it, and the bounds of what comes of it: an inode takes memory of the
/// server's.
const BYTES_PER_INODE: u64 = 16 << 10;
const LEAST_INODES: u64 = 16_384;
const MOST_INODES: u64 = 1_000_000;

/// Why a subjob's files can't be sealed.
#[derive(Debug, Error)]
pub enum SealedError {
    #[error("can't make '{}'", path.display())]
    Place {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// What a subjob finds when it begins.
#[derive(Debug)]
pub struct Contents {
    /// Entries below the root of the application.
    pub application: Vec<LayerEntry>,
    /// Entries below `/work`.
    pub inputs: Vec<LayerEntry>,
    /// What [`LayerKind::Plain`] counts.
    pub directories: Vec<OwnedFd>,
    /// Where [`LayerKind::Blob`]s are, and their key.
    pub blobs: Option<(OwnedFd, Arc<StoreKey>)>,
}

/// The files of one subjob. They are gone when this is.
#[derive(Debug)]
pub struct SealedFiles {
    server: FileServer,
    at: PathBuf,
}

impl SealedFiles {
    /// Makes a store below `place`, a directory of this subjob alone, and starts a server.
    ///
    /// # Errors
    /// What the disk says, or the server.
    pub fn start(
        place: &Path,
        contents: Contents,
        key: StoreKey,
        disk: ByteSize,
        io_rate: Option<ByteSize>,
    ) -> Result<Arc<Self>, SealedError> {
        let (store, at) = (place.join("store"), place.join("files"));
        let run_as = sandbox::service_id();
        let made = |path: &Path, source| SealedError::Place { path: path.to_owned(), source };
        for directory in [&store, &at] {
            fs::DirBuilder::new().mode(0o700).create(directory).map_err(|source| made(directory, source))?;
        }
        if run_as.is_some() {
            chown(&store, run_as, run_as).map_err(|source| made(&store, source))?;
        }
        let opened = openat(CWD, &store, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let Contents { application, inputs, directories, blobs } = contents;
        let layer = |at: &str, entries| {
            let top = LayerEntry {
                path: "".into(),
                mode: 0o755,
                modified: Time::default(),
                kind: LayerKind::Directory,
            };
            Layer { at: at.into(), entries: std::iter::once(top).chain(entries).collect() }
        };
        let inodes = (disk.0 / BYTES_PER_INODE).clamp(LEAST_INODES, MOST_INODES);
        let entries = (application.len() + inputs.len()) as u64;
        let rate = io_rate.map(|rate| rate.0);
        let server = FileServer::start(&ServerOptions {
            command: ServerOptions::own_command(),
            quota: Quota { bytes: disk.0, inodes: inodes.saturating_add(2 * entries) },
            rate: Rate { read: rate, write: rate },
            run_as,
            threads: THREADS,
            layers: vec![layer(APPLICATION, application), layer(WORK, inputs)],
            store: opened.map_err(|error| made(&store, error.into()))?,
            key,
            blobs,
            directories,
        })?;
        Ok(Arc::new(SealedFiles { server, at }))
    }

    /// Has a sandbox take all its files from here.
    pub fn apply(self: &Arc<Self>, spec: &mut Spec) {
        spec.root = self.at.join(APPLICATION);
        spec.work = self.at.join(WORK);
        for (output, name) in [(&mut spec.stdout, STDOUT), (&mut spec.stderr, STDERR)] {
            if let Output::File(path) = output {
                *path = self.at.join(name);
            }
        }
        let server: Arc<dyn sandbox::FileServer> = Arc::<Self>::clone(self);
        spec.served = Some(Served { at: self.at.clone(), server });
    }

    /// What is at a path below `/work`.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn find(&self, path: &Path) -> Result<Found, ServerError> {
        self.server.find(&Path::new(WORK).join(path))
    }

    /// What is in a directory below `/work`, if it is one.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn list(&self, path: &Path) -> Result<Option<Vec<Listed>>, ServerError> {
        self.server.list(&Path::new(WORK).join(path))
    }

    /// Reads a file that was found.
    pub fn read(&self, ino: u64) -> ServedFile<'_> {
        ServedFile::new(&self.server, ino)
    }

    /// Reads from a file that was found, and returns how many bytes there were.
    ///
    /// # Errors
    /// [`ServerError::Unreadable`], or when the server is gone.
    pub fn read_at(&self, ino: u64, offset: u64, buffer: &mut [u8]) -> Result<usize, ServerError> {
        self.server.read(ino, offset, buffer)
    }

    /// What a program wrote to its standard output or standard error, `stdout` and `stderr`.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn stream(&self, name: &str) -> Result<Found, ServerError> {
        self.server.find(Path::new(name))
    }

    fn stream_size(&self, name: &str) -> io::Result<u64> {
        match self.stream(name).map_err(io::Error::other)? {
            Found::File { size, .. } => Ok(size),
            _ => Ok(0),
        }
    }
}

impl sandbox::FileServer for SealedFiles {
    fn socket(&self) -> BorrowedFd<'_> {
        self.server.mount()
    }

    fn state(&self) -> io::Result<FileState> {
        let report = self.server.report().map_err(io::Error::other)?;
        let stream = self.stream_size(STDOUT)?.max(self.stream_size(STDERR)?);
        Ok(FileState {
            used: ByteSize(report.usage.peak_bytes),
            stream: ByteSize(stream),
            cpu: report.cpu,
            trouble: report.trouble.map(|trouble| match trouble {
                Trouble::OutOfSpace => FileTrouble::OutOfSpace,
                Trouble::Tampered { .. } => FileTrouble::Tampered,
                Trouble::DiskFull | Trouble::Storage { .. } => FileTrouble::Lost,
            }),
        })
    }

    fn load(&self, path: &Path, most: u64) -> Option<Vec<u8>> {
        let Found::File { ino, size, .. } = self.server.find(path).ok()? else { return None };
        let size = usize::try_from(size).ok().filter(|size| *size as u64 <= most)?;
        let mut bytes = Vec::with_capacity(size);
        io::Read::read_to_end(&mut self.read(ino), &mut bytes).ok()?;
        Some(bytes)
    }
}

/// The entries of an application, their contents where `content` says.
pub fn application_entries(
    manifest: &Manifest,
    mut content: impl FnMut(&str, &model::BlobHash, u64) -> LayerKind,
) -> Vec<LayerEntry> {
    let entry = |(path, entry): (&String, &Entry)| {
        let (mode, kind) = match entry {
            Entry::Directory => (0o755, LayerKind::Directory),
            Entry::Symlink { target } => (0o777, LayerKind::Symlink { target: target.into() }),
            Entry::File { hash, size, kind } => (FileKind::mode(*kind), content(path, hash, *size)),
        };
        LayerEntry { path: path.trim_start_matches('/').into(), mode, modified: Time::default(), kind }
    };
    manifest.entries.iter().map(entry).collect()
}
