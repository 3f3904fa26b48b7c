//! The file system as a whole: the tree of names over sealed contents, within a quota and a pace.
//!
//! Lock order: the tree, then the contents of one file. Data moves without the tree's lock.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::contents::{Backing, Contents, ContentsError, Source};
use crate::layer::{Entry, EntryKind, LayerError};
use crate::limits::{Account, Pacer, Quota, Rate, Usage};
use crate::operations::{Attributes, Caller, Ino, ROOT, Time};
use crate::store::{Root, Store, StoreError};
use crate::tree::{
    DIRECTORY, Dead, Directory, KIND, Kind, Meta, Node, PERMISSIONS, REGULAR, SET_GID, SYMLINK, StateError,
    Tree,
};
use crate::trouble::{Trouble, Troubles};

mod operations;
mod xattrs;

/// Longest target of a symbolic link, in bytes, as `PATH_MAX` has it.
const MAX_TARGET: usize = 4_095;

/// Bytes that [`Files::copy`] moves at once.
const COPY: usize = 512 << 10;

/// A subjob's files.
pub struct Files {
    store: Store,
    tree: Mutex<Tree>,
    /// Shared by those who change contents, so that a checkpoint can keep them off.
    gate: RwLock<()>,
    account: Account,
    pacer: Pacer,
    troubles: Troubles,
}

/// Why the files of a store can't be had back.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How to make the files.
#[derive(Clone, Copy, Debug)]
pub struct FilesOptions {
    /// User and group of the root directory and of what the layers hold, as the mount sees them.
    pub owner: (u32, u32),
    /// Permissions of the root directory.
    pub mode: u32,
    pub quota: Quota,
    pub rate: Rate,
}

impl fmt::Debug for Files {
    /// What they are called is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Files {
    /// An empty file system over an empty store.
    pub fn new(store: Store, options: FilesOptions) -> Self {
        let root = Meta::new(DIRECTORY | (options.mode & PERMISSIONS), options.owner, 0, now());
        Files::over(store, Tree::new(root), options)
    }

    /// The files of an opened store, as they were at its last checkpoint. `state` is what the store had for it, and
    /// `sources` what its lower layers were made of.
    ///
    /// # Errors
    /// When the state is not a tree's, or a source is missing.
    pub fn open(
        store: Store,
        state: &[u8],
        sources: impl IntoIterator<Item = Arc<dyn Source>>,
        options: FilesOptions,
    ) -> Result<Self, OpenError> {
        let record = postcard::from_bytes(state).map_err(|_| StateError::Malformed)?;
        let sources = sources.into_iter().map(|source| (source.identity(), source)).collect();
        let tree = Tree::from_record(record, &sources, |ino| store.file_key(ino))?;
        store.keep(tree.places())?;
        let files = Files::over(store, tree, options);
        let tree = files.tree();
        files.account.restore(tree.bytes(), tree.len() as u64 - 1 + tree.more_names());
        drop(tree);
        Ok(files)
    }

    fn over(store: Store, tree: Tree, options: FilesOptions) -> Self {
        Files {
            store,
            tree: Mutex::new(tree),
            gate: RwLock::new(()),
            account: Account::new(options.quota),
            pacer: Pacer::new(options.rate, Instant::now()),
            troubles: Troubles::default(),
        }
    }

    /// Puts the entries of a lower layer into the tree, in their order; directories above them are made as needed.
    ///
    /// # Errors
    /// EEXIST when a name is taken by something that is not a directory on both sides, and what a quota says.
    pub fn add_layer(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        owner: (u32, u32),
    ) -> Result<(), LayerError> {
        let mut tree = self.tree();
        for entry in entries {
            let path = entry.path.clone();
            self.add_entry(&mut tree, entry, owner).map_err(|error| LayerError { path, error })?;
        }
        Ok(())
    }

    fn add_entry(&self, tree: &mut Tree, entry: Entry, owner: (u32, u32)) -> Result<(), Errno> {
        let Entry { path, mode, modified, kind } = entry;
        let mut parent = ROOT;
        let mut parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/').peekable();
        while let Some(name) = parts.next() {
            let is_last = parts.peek().is_none();
            match tree.find(parent, name) {
                Ok(ino) if is_last => {
                    // Both are directories: the entry's own attributes count.
                    return match (&kind, tree.node_mut(ino)?) {
                        (EntryKind::Directory, node) if node.is_directory() => {
                            node.meta.mode = DIRECTORY | (mode & PERMISSIONS);
                            Ok(())
                        }
                        _ => Err(Errno::EXIST),
                    };
                }
                Ok(ino) => parent = ino,
                Err(Errno::NOENT) => {
                    let ino = tree.number();
                    let (kind_bits, mode, kind) = match &kind {
                        _ if !is_last => (DIRECTORY, 0o755, Kind::Directory(Directory::new(parent))),
                        EntryKind::Directory => (DIRECTORY, mode, Kind::Directory(Directory::new(parent))),
                        EntryKind::Symlink(target) => {
                            (SYMLINK, 0o777, Kind::Symlink(target.as_bytes().into()))
                        }
                        EntryKind::File(source) => {
                            let contents = Contents::of(Arc::clone(source), self.store.file_key(ino));
                            (REGULAR, mode, Kind::File(Arc::new(contents)))
                        }
                    };
                    let meta = Meta::new(kind_bits | (mode & PERMISSIONS), owner, 0, modified);
                    let node = Node::new(meta, 0, kind);
                    let bytes = node.bytes();
                    self.account.take_inode()?;
                    self.account.take_bytes(bytes)?;
                    tree.add(parent, name, ino, node, modified)?;
                    parent = ino;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What is held, was held at most, and was refused.
    pub fn usage(&self) -> Usage {
        self.account.usage()
    }

    /// The first thing that went wrong with what the disk gave back, if anything did.
    pub fn trouble(&self) -> Option<Trouble> {
        self.troubles.first()
    }

    /// Makes the present state the one that [`Files::open`] finds, and returns what proves it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn checkpoint(&self) -> Result<Root, StoreError> {
        // What is on the disk by now need not be waited for while nobody can write.
        self.store.sync()?;
        let _nobody_writes = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let tree = self.tree();
        let state = postcard::to_stdvec(&tree.record()).expect("a tree in memory can be written to memory");
        self.store.checkpoint(&state)
    }

    /// Makes somebody the owner of all files.
    pub(crate) fn give_to(&self, uid: u32, gid: u32) {
        self.tree().give_to(uid, gid);
    }

    /// Notes that the file system itself has failed.
    pub(crate) fn fail(&self, why: String) {
        self.troubles.keep(Trouble::Storage { why });
    }

    /// What is under a name, without the kernel being told of it.
    pub(crate) fn peek(&self, parent: Ino, name: &OsStr) -> Result<Attributes, Errno> {
        let tree = self.tree();
        let ino = tree.find(parent, name.as_bytes())?;
        Ok(tree.node(ino)?.attributes(ino))
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn backing(&self) -> Backing<'_> {
        Backing { store: &self.store, account: &self.account }
    }

    fn contents(&self, ino: Ino) -> Result<Arc<Contents>, Errno> {
        self.tree().contents(ino)
    }

    /// What a failure of contents is for the program; what it must not go on after is noted.
    fn failed(&self, error: ContentsError) -> Errno {
        self.troubles.note(error)
    }

    fn make(
        &self,
        caller: Caller,
        (parent, name): (Ino, &OsStr),
        mode: u32,
        device: u32,
        kind: impl FnOnce(&Store, Ino) -> Kind,
    ) -> Result<Attributes, Errno> {
        let now = now();
        let mut tree = self.tree();
        tree.check_new(parent, name.as_bytes())?;
        let meta = self.inherited(&tree, caller, parent, mode, device, now)?;
        self.account.take_inode()?;
        let ino = tree.number();
        let node = Node::new(meta, 0, kind(&self.store, ino));
        tree.add(parent, name.as_bytes(), ino, node, now)?;
        tree.look_up(ino)
    }

    /// Attributes of something new: a directory with set-group-id hands on its group (inode(7)).
    fn inherited(
        &self,
        tree: &Tree,
        caller: Caller,
        parent: Ino,
        mode: u32,
        device: u32,
        now: Time,
    ) -> Result<Meta, Errno> {
        let above = tree.node(parent)?.meta;
        let (mut mode, mut gid) = (mode, caller.gid);
        if above.mode & SET_GID != 0 {
            gid = above.gid;
            if mode & KIND == DIRECTORY {
                mode |= SET_GID;
            }
        }
        Ok(Meta::new(mode, (caller.uid, gid), device, now))
    }

    /// Gives back what an inode took.
    fn bury(&self, dead: Option<Dead>) {
        let Some(Dead(node)) = dead else { return };
        self.account.give_bytes(node.bytes());
        if let Kind::File(contents) = node.kind {
            contents.release(self.backing());
        }
        self.account.give_inode();
    }

    /// Takes names away, and gives back what was counted for those that were not an inode's first: they take memory
    /// as inodes do.
    fn uncounting_names<T>(
        &self,
        tree: &mut Tree,
        change: impl FnOnce(&mut Tree) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let before = tree.more_names();
        let result = change(tree);
        for _ in tree.more_names()..before {
            self.account.give_inode();
        }
        result
    }

    fn drop_set_id(&self, ino: Ino) -> Result<(), Errno> {
        self.tree().node_mut(ino)?.meta.drop_set_id();
        Ok(())
    }
}

/// The time that new and changed files get: by the clock that the kernel stamps files with, so that it sees no need to
/// tell us of its own stamp right after.
fn now() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    Time { seconds: now.tv_sec, nanoseconds: u32::try_from(now.tv_nsec).unwrap_or(0) }
}
