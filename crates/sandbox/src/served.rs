//! Files that come from a process of their own: a file system (FUSE) that init mounts in the subjob's mount namespace
//! and somebody outside of it serves. What serves it, and how its files lie on the disk, is not this crate's business.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::ByteSize;

use crate::filter;

/// Largest file of an application that is read back for the names of functions in a crash.
pub(crate) const MAX_MODULE: u64 = 64 << 20;

/// A mount that holds all files of a subjob: those paths of a [`crate::Spec`] that lie below `at` are paths in it.
#[derive(Clone, Debug)]
pub struct Served {
    /// An empty directory of the host, upon which init mounts, where only the subjob sees it.
    pub at: PathBuf,
    pub server: Arc<dyn FileServer>,
}

/// Whoever serves a mount.
pub trait FileServer: fmt::Debug + Send + Sync {
    /// A stream socket to the server. Init sends it the device of the mount, with a byte that carries the descriptor, and
    /// then four bytes: the user and group id of the subjob as the mount sees them, little-endian. The server answers with
    /// one byte when it serves.
    fn socket(&self) -> BorrowedFd<'_>;

    /// How the files fare. It is asked several times a second.
    ///
    /// # Errors
    /// When the server doesn't answer: the files are lost then.
    fn state(&self) -> io::Result<FileState>;

    /// All of a file below the mount, if it is there and has at most so many bytes.
    fn load(&self, path: &Path, most: u64) -> Option<Vec<u8>>;
}

/// How the files of a subjob fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileState {
    /// Space that they take.
    pub used: ByteSize,
    /// Size of the larger of the two streams, if they go to files.
    pub stream: ByteSize,
    /// Processor time that serving them took.
    pub cpu: Duration,
    pub trouble: Option<FileTrouble>,
}

/// What the subjob's program must not go on after, whether it has noticed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileTrouble {
    /// It wanted more space than it has.
    OutOfSpace,
    /// What was read from the disk is not what was written there.
    Tampered,
    /// The desktop's disk is full or has failed, or the server is gone.
    Lost,
}

/// For the process that serves the files, once it has opened what it needs and before it starts a thread: from here on
/// it can read and write what is open, and do nothing else to the machine. It must have `no_new_privs`.
///
/// # Errors
/// What the kernel says.
pub fn confine_file_server() -> io::Result<()> {
    filter::install(&filter::compile_file_server())
}

/// Where the application's files can be read from outside.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Directory(PathBuf),
    Served { server: Arc<dyn FileServer>, root: PathBuf },
}

impl Tree {
    pub(crate) fn of(spec: &crate::Spec) -> Self {
        let inside = spec.served.as_ref().and_then(|served| {
            let root = spec.root.strip_prefix(&served.at).ok()?;
            Some(Tree::Served { server: Arc::clone(&served.server), root: root.to_owned() })
        });
        inside.unwrap_or_else(|| Tree::Directory(spec.root.clone()))
    }
}
