//! The names and inodes of a file system, all in memory.
//!
//! A name of a lower layer that is removed is simply no longer there: no whiteout or opaque directory is needed,
//! because the layers were merged when the tree was made. Nothing here touches a disk or looks at a clock; contents
//! that no name leads to any more are handed to the caller to be released.

mod directory;
mod node;
mod rename;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use rustix::io::Errno;

pub(crate) use directory::{Directory, PARENT, SELF};
pub(crate) use node::{DIRECTORY, KIND, Kind, Meta, Node, PERMISSIONS, REGULAR, SET_GID, SYMLINK, Xattrs};
pub(crate) use rename::Place;
pub use state::StateError;

use crate::contents::Contents;
use crate::operations::{Attributes, Ino, ROOT, Time};
use crate::store::BlockRef;

/// Longest name, in bytes, as `NAME_MAX` has it.
pub(crate) const MAX_NAME: usize = 255;

/// Most names of one inode, as in ext4.
const MAX_LINKS: u32 = 65_000;

pub(crate) struct Tree {
    nodes: HashMap<Ino, Node>,
    next: Ino,
    /// Names of files that are not their first.
    more_names: u64,
}

/// An inode that nothing leads to any more, taken out of the tree.
#[must_use = "its space has to be given back"]
pub(crate) struct Dead(pub(crate) Node);

impl Tree {
    /// A tree that has a root directory and nothing else.
    pub(crate) fn new(root: Meta) -> Self {
        let mut nodes = HashMap::new();
        let mut node = Node::new(root, 2, Kind::Directory(Directory::new(ROOT)));
        // The kernel never looks it up.
        node.lookups = 1;
        nodes.insert(ROOT, node);
        Tree { nodes, next: ROOT + 1, more_names: 0 }
    }

    pub(crate) fn node(&self, ino: Ino) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::NOENT)
    }

    pub(crate) fn node_mut(&mut self, ino: Ino) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::NOENT)
    }

    pub(crate) fn give_to(&mut self, uid: u32, gid: u32) {
        self.nodes.values_mut().for_each(|node| (node.meta.uid, node.meta.gid) = (uid, gid));
    }

    /// Inodes, the root included.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Names of files that are not their first.
    pub(crate) fn more_names(&self) -> u64 {
        self.more_names
    }

    /// Where all blocks of all files lie.
    pub(crate) fn places(&self) -> Vec<BlockRef> {
        self.files().flat_map(|contents| contents.places()).collect()
    }

    /// What all inodes take of what a quota counts in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let files: u64 = self.files().map(|contents| contents.charged()).sum();
        files + self.nodes.values().map(Node::bytes).sum::<u64>()
    }

    fn files(&self) -> impl Iterator<Item = &Arc<Contents>> {
        self.nodes.values().filter_map(|node| match &node.kind {
            Kind::File(contents) => Some(contents),
            _ => None,
        })
    }

    pub(crate) fn contents(&self, ino: Ino) -> Result<Arc<Contents>, Errno> {
        match &self.node(ino)?.kind {
            Kind::File(contents) => Ok(Arc::clone(contents)),
            Kind::Directory(_) => Err(Errno::ISDIR),
            Kind::Symlink(_) | Kind::Special => Err(Errno::INVAL),
        }
    }

    pub(crate) fn directory(&self, ino: Ino) -> Result<&Directory, Errno> {
        match &self.node(ino)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn directory_mut(&mut self, ino: Ino) -> Result<&mut Directory, Errno> {
        match &mut self.node_mut(ino)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// What a name means.
    pub(crate) fn find(&self, parent: Ino, name: &[u8]) -> Result<Ino, Errno> {
        if name.len() > MAX_NAME {
            return Err(Errno::NAMETOOLONG);
        }
        let directory = self.directory(parent)?;
        match name {
            b"." => Ok(parent),
            b".." => Ok(directory.parent),
            name => directory.get(name).ok_or(Errno::NOENT),
        }
    }

    /// Attributes of an inode that the kernel is being told of.
    pub(crate) fn look_up(&mut self, ino: Ino) -> Result<Attributes, Errno> {
        let node = self.node_mut(ino)?;
        node.lookups = node.lookups.saturating_add(1);
        Ok(node.attributes(ino))
    }

    pub(crate) fn forget(&mut self, ino: Ino, count: u64) -> Option<Dead> {
        if ino == ROOT {
            return None;
        }
        let node = self.nodes.get_mut(&ino)?;
        node.lookups = node.lookups.saturating_sub(count);
        self.bury(ino)
    }

    /// The number that the next inode gets.
    pub(crate) fn number(&mut self) -> Ino {
        let ino = self.next;
        self.next += 1;
        ino
    }

    /// Whether a name may be made: the directory is still there and the name is new and proper.
    pub(crate) fn check_new(&self, parent: Ino, name: &[u8]) -> Result<(), Errno> {
        check_name(name)?;
        if self.directory(parent)?.get(name).is_some() {
            return Err(Errno::EXIST);
        }
        // A directory that was removed while somebody is in it takes no more names.
        if self.node(parent)?.links == 0 { Err(Errno::NOENT) } else { Ok(()) }
    }

    /// Adds an inode under a name that [`Tree::check_new`] found free.
    pub(crate) fn add(
        &mut self,
        parent: Ino,
        name: &[u8],
        ino: Ino,
        mut node: Node,
        now: Time,
    ) -> Result<(), Errno> {
        self.check_new(parent, name)?;
        let is_directory = node.is_directory();
        node.links = if is_directory { 2 } else { 1 };
        self.directory_mut(parent)?.set(name, ino);
        self.nodes.insert(ino, node);
        let above = self.node_mut(parent)?;
        above.links += u32::from(is_directory);
        touch(above, now);
        Ok(())
    }

    /// Adds an inode without a name. It lives as long as the kernel knows it.
    pub(crate) fn add_unnamed(&mut self, ino: Ino, mut node: Node) {
        node.links = 0;
        self.nodes.insert(ino, node);
    }

    pub(crate) fn link(&mut self, ino: Ino, parent: Ino, name: &[u8], now: Time) -> Result<(), Errno> {
        let node = self.node(ino)?;
        if node.is_directory() {
            return Err(Errno::PERM);
        }
        if node.links >= MAX_LINKS {
            return Err(Errno::MLINK);
        }
        self.check_new(parent, name)?;
        self.directory_mut(parent)?.set(name, ino);
        touch(self.node_mut(parent)?, now);
        let node = self.nodes.get_mut(&ino).ok_or(Errno::NOENT)?;
        self.more_names += u64::from(node.links > 0);
        node.links += 1;
        node.meta.changed = now;
        Ok(())
    }

    pub(crate) fn unlink(&mut self, parent: Ino, name: &[u8], now: Time) -> Result<Option<Dead>, Errno> {
        let ino = self.find(parent, name)?;
        if self.node(ino)?.is_directory() {
            return Err(Errno::ISDIR);
        }
        self.remove_name(parent, name, now)?;
        Ok(self.unlinked(ino, now))
    }

    pub(crate) fn remove_directory(
        &mut self,
        parent: Ino,
        name: &[u8],
        now: Time,
    ) -> Result<Option<Dead>, Errno> {
        check_name(name)?;
        let ino = self.find(parent, name)?;
        if !self.directory(ino)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.remove_name(parent, name, now)?;
        self.node_mut(parent)?.links -= 1;
        Ok(self.removed_directory(ino, now))
    }

    fn remove_name(&mut self, parent: Ino, name: &[u8], now: Time) -> Result<(), Errno> {
        self.directory_mut(parent)?.remove(name).ok_or(Errno::NOENT)?;
        touch(self.node_mut(parent)?, now);
        Ok(())
    }

    /// After one of an inode's names is gone.
    fn unlinked(&mut self, ino: Ino, now: Time) -> Option<Dead> {
        let node = self.nodes.get_mut(&ino)?;
        self.more_names -= u64::from(node.links > 1);
        node.links = node.links.saturating_sub(1);
        node.meta.changed = now;
        self.bury(ino)
    }

    /// After the name of an empty directory is gone.
    fn removed_directory(&mut self, ino: Ino, now: Time) -> Option<Dead> {
        let node = self.nodes.get_mut(&ino)?;
        node.links = 0;
        node.meta.changed = now;
        self.bury(ino)
    }

    /// Takes an inode out when neither a name nor the kernel knows it.
    fn bury(&mut self, ino: Ino) -> Option<Dead> {
        let node = self.nodes.get(&ino)?;
        if node.links > 0 || node.lookups > 0 {
            return None;
        }
        self.nodes.remove(&ino).map(Dead)
    }
}

/// A name that a file can have.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"" | b"." | b".." => Err(Errno::INVAL),
        name if name.len() > MAX_NAME => Err(Errno::NAMETOOLONG),
        name if name.iter().any(|byte| matches!(byte, 0 | b'/')) => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

/// Notes that a directory's names have changed.
fn touch(node: &mut Node, now: Time) {
    (node.meta.modified, node.meta.changed) = (now, now);
}
