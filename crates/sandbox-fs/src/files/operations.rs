//! The operations of a mount, on [`Files`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{COPY, Files, MAX_TARGET, now};
use crate::contents::Contents;
use crate::operations::{
    Allocate, Attributes, Caller, Changes, Direction, Ino, Listing, Name, Operations, Rename, SetTime,
    SetXattr, Space, Take,
};
use crate::store::BLOCK;
use crate::tree::{
    DIRECTORY, Directory, KIND, Kind, Node, PARENT, PERMISSIONS, Place, REGULAR, SELF, SET_GID, SYMLINK,
};

/// Kinds that mknod(2) makes besides regular files: named pipe, character device, block device, socket.
const SPECIAL: [u32; 4] = [0o010_000, 0o020_000, 0o060_000, 0o140_000];

/// Most inodes that statfs tells of.
const MAX_TOLD: u64 = 1 << 51;

impl Operations for Files {
    fn look_up(&self, parent: Ino, name: &OsStr) -> Result<Attributes, Errno> {
        let mut tree = self.tree();
        let ino = tree.find(parent, name.as_bytes())?;
        tree.look_up(ino)
    }

    fn forget(&self, ino: Ino, count: u64) {
        let dead = self.tree().forget(ino, count);
        self.bury(dead);
    }

    fn attributes(&self, ino: Ino) -> Result<Attributes, Errno> {
        Ok(self.tree().node(ino)?.attributes(ino))
    }

    fn change(&self, caller: Caller, ino: Ino, changes: &Changes) -> Result<Attributes, Errno> {
        let now = now();
        if let Some(size) = changes.size {
            let contents = self.contents(ino)?;
            let _writing = self.writing();
            contents.truncate(self.backing(), size).map_err(|error| self.failed(error))?;
        }
        let mut tree = self.tree();
        let node = tree.node_mut(ino)?;
        let is_directory = node.is_directory();
        let meta = &mut node.meta;
        if let Some(mode) = changes.mode {
            let mut mode = mode & PERMISSIONS;
            // Who is not in the file's group can't have it run for that group (chmod(2)).
            if caller.uid != 0 && caller.gid != meta.gid && !is_directory {
                mode &= !SET_GID;
            }
            meta.mode = (meta.mode & KIND) | mode;
        }
        if changes.uid.is_some() || changes.gid.is_some() {
            meta.uid = changes.uid.unwrap_or(meta.uid);
            meta.gid = changes.gid.unwrap_or(meta.gid);
            meta.drop_set_id();
        }
        if changes.drops_set_id {
            meta.drop_set_id();
        }
        if changes.size.is_some() {
            meta.modified = now;
        }
        let at = |time| match time {
            SetTime::Now => now,
            SetTime::To(time) => time,
        };
        meta.accessed = changes.accessed.map_or(meta.accessed, at);
        meta.modified = changes.modified.map_or(meta.modified, at);
        meta.changed = changes.changed.unwrap_or(now);
        Ok(node.attributes(ino))
    }

    fn make_node(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        device: u32,
    ) -> Result<Attributes, Errno> {
        let kind = match mode & KIND {
            0 | REGULAR => REGULAR,
            kind if SPECIAL.contains(&kind) => kind,
            _ => return Err(Errno::INVAL),
        };
        let mode = kind | (mode & PERMISSIONS);
        self.make(caller, (parent, name), mode, device, |store, ino| match kind {
            REGULAR => Kind::File(Contents::empty(store.file_key(ino)).into()),
            _ => Kind::Special,
        })
    }

    fn make_directory(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
    ) -> Result<Attributes, Errno> {
        let mode = DIRECTORY | (mode & PERMISSIONS);
        self.make(caller, (parent, name), mode, 0, |_, _| Kind::Directory(Directory::new(parent)))
    }

    fn make_symlink(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        target: &[u8],
    ) -> Result<Attributes, Errno> {
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if target.len() > MAX_TARGET {
            return Err(Errno::NAMETOOLONG);
        }
        self.account.take_bytes(target.len() as u64)?;
        let made = self.make(caller, (parent, name), SYMLINK | 0o777, 0, |_, _| Kind::Symlink(target.into()));
        if made.is_err() {
            self.account.give_bytes(target.len() as u64);
        }
        made
    }

    fn make_unnamed(&self, caller: Caller, parent: Ino, mode: u32) -> Result<Attributes, Errno> {
        let mut tree = self.tree();
        tree.directory(parent)?;
        let meta = self.inherited(&tree, caller, parent, REGULAR | (mode & PERMISSIONS), 0, now())?;
        self.account.take_inode()?;
        let ino = tree.number();
        let contents = Contents::empty(self.store.file_key(ino));
        tree.add_unnamed(ino, Node::new(meta, 0, Kind::File(contents.into())));
        tree.look_up(ino)
    }

    fn read_symlink(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        match &self.tree().node(ino)?.kind {
            Kind::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::INVAL),
        }
    }

    fn link(&self, ino: Ino, parent: Ino, name: &OsStr) -> Result<Attributes, Errno> {
        let mut tree = self.tree();
        let before = tree.more_names();
        self.account.take_inode()?;
        let linked = tree.link(ino, parent, name.as_bytes(), now());
        if tree.more_names() == before {
            // Refused, or the first name of a file that had none.
            self.account.give_inode();
        }
        linked?;
        tree.look_up(ino)
    }

    fn unlink(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        let dead = {
            let mut tree = self.tree();
            self.uncounting_names(&mut tree, |tree| tree.unlink(parent, name.as_bytes(), now()))?
        };
        self.bury(dead);
        Ok(())
    }

    fn remove_directory(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        let dead = self.tree().remove_directory(parent, name.as_bytes(), now())?;
        self.bury(dead);
        Ok(())
    }

    fn rename(
        &self,
        parent: Ino,
        name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
        how: Rename,
    ) -> Result<(), Errno> {
        let from = Place { parent, name: name.as_bytes() };
        let to = Place { parent: new_parent, name: new_name.as_bytes() };
        let dead = {
            let mut tree = self.tree();
            self.uncounting_names(&mut tree, |tree| tree.rename(from, to, how, now()))?
        };
        self.bury(dead);
        Ok(())
    }

    fn read_names(
        &self,
        ino: Ino,
        cookie: u64,
        listing: Listing,
        take: &mut dyn FnMut(Name<'_>) -> Take,
    ) -> Result<(), Errno> {
        let mut tree = self.tree();
        let parent = tree.directory(ino)?.parent;
        for (number, name, of) in [(SELF, ".", ino), (PARENT, "..", parent)] {
            // The directory above one that was removed may be gone too.
            let Ok(node) = tree.node(of) else { continue };
            let attributes = node.attributes(of);
            let name = Name { name: OsStr::new(name), cookie: number, attributes: &attributes };
            if number > cookie && take(name) == Take::Full {
                return Ok(());
            }
        }
        let mut taken = Vec::new();
        for (number, name, of) in tree.directory(ino)?.after(cookie.max(PARENT)) {
            let attributes = tree.node(of)?.attributes(of);
            let name = Name { name: OsStr::from_bytes(name), cookie: number, attributes: &attributes };
            if take(name) == Take::Full {
                break;
            }
            taken.push(of);
        }
        if listing == Listing::LookedUp {
            for of in taken {
                tree.look_up(of)?;
            }
        }
        Ok(())
    }

    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let contents = self.contents(ino)?;
        contents.read(&self.store, offset, buffer).map_err(|error| self.failed(error))
    }

    fn write(&self, ino: Ino, offset: u64, data: &mut [u8], drops_set_id: bool) -> Result<(), Errno> {
        let contents = self.contents(ino)?;
        if drops_set_id {
            self.drop_set_id(ino)?;
        }
        let _writing = self.writing();
        contents.write(self.backing(), offset, data).map_err(|error| self.failed(error))
    }

    fn sync(&self, ino: Ino) -> Result<(), Errno> {
        self.tree().node(ino)?;
        self.store.sync().map_err(|error| self.failed(error.into()))
    }

    fn allocate(&self, ino: Ino, how: Allocate, offset: u64, length: u64) -> Result<(), Errno> {
        let contents = self.contents(ino)?;
        if length == 0 {
            return Err(Errno::INVAL);
        }
        let _writing = self.writing();
        let backing = self.backing();
        let done = match how {
            Allocate::Grow => contents.reserve(backing, offset, length, true),
            Allocate::KeepSize => contents.reserve(backing, offset, length, false),
            Allocate::PunchHole => contents.punch(backing, offset, length),
            Allocate::ZeroRange | Allocate::ZeroRangeKeepSize => {
                let grows = how == Allocate::ZeroRange;
                contents
                    .punch(backing, offset, length)
                    .and_then(|()| contents.reserve(backing, offset, length, grows))
            }
        };
        done.map_err(|error| self.failed(error))?;
        let mut tree = self.tree();
        let meta = &mut tree.node_mut(ino)?.meta;
        (meta.modified, meta.changed) = (now(), now());
        Ok(())
    }

    fn copy(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, length: u64) -> Result<u64, Errno> {
        let (source, target) = (self.contents(from)?, self.contents(to)?);
        let mut buffer = vec![0; COPY.min(usize::try_from(length).unwrap_or(COPY))];
        let mut copied = 0;
        while copied < length {
            let wanted = buffer.len().min(usize::try_from(length - copied).unwrap_or(COPY));
            let at = |offset: u64| offset.checked_add(copied).ok_or(Errno::INVAL);
            let found = source
                .read(&self.store, at(from_offset)?, &mut buffer[..wanted])
                .map_err(|error| self.failed(error))?;
            if found == 0 {
                break;
            }
            let _writing = self.writing();
            target
                .write(self.backing(), at(to_offset)?, &mut buffer[..found])
                .map_err(|error| self.failed(error))?;
            copied += found as u64;
        }
        let mut tree = self.tree();
        let meta = &mut tree.node_mut(to)?.meta;
        (meta.modified, meta.changed) = (now(), now());
        Ok(copied)
    }

    fn xattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>, Errno> {
        self.get_xattr(ino, name.as_bytes())
    }

    fn set_xattr(&self, ino: Ino, name: &OsStr, value: &[u8], how: SetXattr) -> Result<(), Errno> {
        self.put_xattr(ino, name.as_bytes(), value, how)
    }

    fn xattr_names(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        self.list_xattrs(ino)
    }

    fn remove_xattr(&self, ino: Ino, name: &OsStr) -> Result<(), Errno> {
        self.take_xattr(ino, name.as_bytes())
    }

    fn space(&self) -> Space {
        let (quota, usage) = (self.account.quota(), self.account.usage());
        let blocks = |bytes: u64| (bytes / BLOCK as u64).min(MAX_TOLD);
        let inodes = quota.inodes.min(MAX_TOLD);
        Space {
            block: BLOCK as u32,
            blocks: blocks(quota.bytes),
            free: blocks(quota.bytes.saturating_sub(usage.bytes)),
            inodes,
            free_inodes: inodes.saturating_sub(usage.inodes),
        }
    }

    fn pace(&self, direction: Direction, bytes: usize) -> Duration {
        self.pacer.pace(direction, bytes, Instant::now)
    }
}
