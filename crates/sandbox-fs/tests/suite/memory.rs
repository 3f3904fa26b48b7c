//! A file system in plain memory, without limits: what the kernel's requests are tried on.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use sandbox_fs::operations::{
    Allocate, Attributes, Caller, Changes, Direction, Ino, Listing, Name, Operations, ROOT, Rename, SetTime,
    SetXattr, Space, Take, Time,
};

const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const SET_ID: u32 = 0o6000;

#[derive(Debug)]
pub struct Memory {
    files: Mutex<Files>,
    /// How long each READ and each WRITE waits.
    pub delay: Mutex<Duration>,
}

#[derive(Debug)]
struct Files {
    nodes: HashMap<Ino, Node>,
    next: Ino,
}

#[derive(Debug)]
struct Node {
    attributes: Attributes,
    lookups: u64,
    /// Of a directory.
    parent: Ino,
    names: BTreeMap<OsString, Ino>,
    cookies: BTreeMap<u64, OsString>,
    next_cookie: u64,
    /// Of a regular file; the target of a symlink.
    data: Vec<u8>,
    xattrs: BTreeMap<OsString, Vec<u8>>,
}

/// What the kernel would write: it sends no SETATTR for a file that is written in the tick in which it was made.
fn now() -> Time {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    Time { seconds: now.tv_sec, nanoseconds: now.tv_nsec as u32 }
}

impl Node {
    fn new(ino: Ino, caller: Caller, mode: u32, device: u32) -> Node {
        let now = now();
        let links = if mode & KIND == DIRECTORY { 2 } else { 1 };
        let Caller { uid, gid } = caller;
        let times = Attributes {
            ino,
            mode,
            links,
            uid,
            gid,
            device,
            size: 0,
            blocks: 0,
            accessed: now,
            modified: now,
            changed: now,
        };
        Node {
            attributes: times,
            lookups: 1,
            parent: ROOT,
            names: BTreeMap::new(),
            cookies: BTreeMap::new(),
            next_cookie: 3,
            data: Vec::new(),
            xattrs: BTreeMap::new(),
        }
    }

    fn is_directory(&self) -> bool {
        self.attributes.mode & KIND == DIRECTORY
    }

    fn resize(&mut self, size: u64) {
        self.data.resize(size as usize, 0);
        self.attributes.size = size;
        self.attributes.blocks = size.div_ceil(512);
    }

    fn modify(&mut self) {
        self.attributes.modified = now();
        self.attributes.changed = self.attributes.modified;
    }

    fn insert(&mut self, name: &OsStr, ino: Ino) {
        if self.names.insert(name.to_owned(), ino).is_none() {
            self.cookies.insert(self.next_cookie, name.to_owned());
            self.next_cookie += 1;
        }
        self.modify();
    }

    fn remove(&mut self, name: &OsStr) {
        self.names.remove(name);
        self.cookies.retain(|_, other| other != name);
        self.modify();
    }
}

impl Files {
    fn get(&mut self, ino: Ino) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::NOENT)
    }

    fn find(&mut self, parent: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.get(parent)?.names.get(name).copied().ok_or(Errno::NOENT)
    }

    fn make(
        &mut self,
        parent: Ino,
        name: &OsStr,
        make: impl FnOnce(Ino) -> Node,
    ) -> Result<Attributes, Errno> {
        if self.find(parent, name).is_ok() {
            return Err(Errno::EXIST);
        }
        let ino = self.next;
        self.next += 1;
        let mut node = make(ino);
        node.parent = parent;
        let directory = self.get(parent)?;
        directory.insert(name, ino);
        if node.is_directory() {
            directory.attributes.links += 1;
        }
        let attributes = node.attributes;
        self.nodes.insert(ino, node);
        Ok(attributes)
    }

    /// Takes a name away from what it names.
    fn drop_link(&mut self, ino: Ino) -> Result<(), Errno> {
        let node = self.get(ino)?;
        let links = if node.is_directory() { 2 } else { 1 };
        node.attributes.links -= links;
        node.attributes.changed = now();
        self.reap(ino);
        Ok(())
    }

    fn reap(&mut self, ino: Ino) {
        if self.nodes.get(&ino).is_some_and(|node| node.lookups == 0 && node.attributes.links == 0) {
            self.nodes.remove(&ino);
        }
    }
}

impl Default for Memory {
    fn default() -> Memory {
        let mut root = Node::new(ROOT, Caller { uid: 0, gid: 0 }, DIRECTORY | 0o755, 0);
        root.lookups = u64::MAX / 2;
        let files = Files { nodes: HashMap::from([(ROOT, root)]), next: ROOT + 1 };
        Memory { files: Mutex::new(files), delay: Mutex::new(Duration::ZERO) }
    }
}

impl Memory {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap()
    }

    /// Inodes that live.
    pub fn count(&self) -> usize {
        self.files().nodes.len()
    }
}

impl Operations for Memory {
    fn look_up(&self, parent: Ino, name: &OsStr) -> Result<Attributes, Errno> {
        let mut files = self.files();
        let ino = files.find(parent, name)?;
        let node = files.get(ino)?;
        node.lookups += 1;
        Ok(node.attributes)
    }

    fn forget(&self, ino: Ino, count: u64) {
        let mut files = self.files();
        if let Ok(node) = files.get(ino) {
            node.lookups -= count;
        }
        files.reap(ino);
    }

    fn attributes(&self, ino: Ino) -> Result<Attributes, Errno> {
        Ok(self.files().get(ino)?.attributes)
    }

    fn change(&self, _caller: Caller, ino: Ino, changes: &Changes) -> Result<Attributes, Errno> {
        let mut files = self.files();
        let node = files.get(ino)?;
        let time = |set: SetTime| if let SetTime::To(time) = set { time } else { now() };
        if let Some(size) = changes.size {
            node.resize(size);
            node.modify();
        }
        let attributes = &mut node.attributes;
        attributes.mode = changes.mode.map_or(attributes.mode, |mode| attributes.mode & KIND | mode & !KIND);
        if changes.drops_set_id {
            attributes.mode &= !SET_ID;
        }
        attributes.uid = changes.uid.unwrap_or(attributes.uid);
        attributes.gid = changes.gid.unwrap_or(attributes.gid);
        attributes.accessed = changes.accessed.map_or(attributes.accessed, time);
        attributes.modified = changes.modified.map_or(attributes.modified, time);
        attributes.changed = changes.changed.unwrap_or_else(now);
        Ok(*attributes)
    }

    fn make_node(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        device: u32,
    ) -> Result<Attributes, Errno> {
        self.files().make(parent, name, |ino| Node::new(ino, caller, mode, device))
    }

    fn make_directory(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
    ) -> Result<Attributes, Errno> {
        self.files().make(parent, name, |ino| Node::new(ino, caller, DIRECTORY | mode & !KIND, 0))
    }

    fn make_symlink(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        target: &[u8],
    ) -> Result<Attributes, Errno> {
        self.files().make(parent, name, |ino| {
            let mut node = Node::new(ino, caller, SYMLINK | 0o777, 0);
            node.data = target.to_vec();
            node.attributes.size = target.len() as u64;
            node
        })
    }

    fn make_unnamed(&self, caller: Caller, _parent: Ino, mode: u32) -> Result<Attributes, Errno> {
        let mut files = self.files();
        let ino = files.next;
        files.next += 1;
        let mut node = Node::new(ino, caller, REGULAR | mode & !KIND, 0);
        node.attributes.links = 0;
        let attributes = node.attributes;
        files.nodes.insert(ino, node);
        Ok(attributes)
    }

    fn read_symlink(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        Ok(self.files().get(ino)?.data.clone())
    }

    fn link(&self, ino: Ino, parent: Ino, name: &OsStr) -> Result<Attributes, Errno> {
        let mut files = self.files();
        files.get(parent)?.insert(name, ino);
        let node = files.get(ino)?;
        node.attributes.links += 1;
        node.attributes.changed = now();
        node.lookups += 1;
        Ok(node.attributes)
    }

    fn unlink(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        let mut files = self.files();
        let ino = files.find(parent, name)?;
        files.get(parent)?.remove(name);
        files.drop_link(ino)
    }

    fn remove_directory(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        let mut files = self.files();
        let ino = files.find(parent, name)?;
        if !files.get(ino)?.names.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        let directory = files.get(parent)?;
        directory.remove(name);
        directory.attributes.links -= 1;
        files.drop_link(ino)
    }

    fn rename(
        &self,
        parent: Ino,
        name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
        how: Rename,
    ) -> Result<(), Errno> {
        let mut files = self.files();
        let moved = files.find(parent, name)?;
        let old = files.find(new_parent, new_name).ok();
        if how == Rename::Keep && old.is_some() {
            return Err(Errno::EXIST);
        }
        if let Some(old) = old
            && how == Rename::Replace
            && !files.get(old)?.names.is_empty()
        {
            return Err(Errno::NOTEMPTY);
        }
        let other = if how == Rename::Exchange { Some(old.ok_or(Errno::NOENT)?) } else { None };
        files.get(new_parent)?.insert(new_name, moved);
        match other {
            Some(other) => files.get(parent)?.insert(name, other),
            None => files.get(parent)?.remove(name),
        }
        let placed = [(Some(moved), parent, new_parent), (other, new_parent, parent)];
        for (ino, from, to) in placed {
            let Some(ino) = ino else { continue };
            let node = files.get(ino)?;
            node.parent = to;
            node.attributes.changed = now();
            if node.is_directory() {
                files.get(from)?.attributes.links -= 1;
                files.get(to)?.attributes.links += 1;
            }
        }
        if let (Some(old), Rename::Replace) = (old, how) {
            if files.get(old)?.is_directory() {
                files.get(new_parent)?.attributes.links -= 1;
            }
            files.drop_link(old)?;
        }
        Ok(())
    }

    fn read_names(
        &self,
        ino: Ino,
        cookie: u64,
        listing: Listing,
        take: &mut dyn FnMut(Name<'_>) -> Take,
    ) -> Result<(), Errno> {
        let mut files = self.files();
        let directory = files.get(ino)?;
        let dots = [(1, OsString::from("."), ino), (2, OsString::from(".."), directory.parent)];
        let names =
            directory.cookies.iter().map(|(cookie, name)| (*cookie, name.clone(), directory.names[name]));
        let names: Vec<_> = dots.into_iter().chain(names).filter(|(at, ..)| *at > cookie).collect();
        for (cookie, name, ino) in names {
            let node = files.get(ino)?;
            if take(Name { name: &name, cookie, attributes: &node.attributes }) == Take::Full {
                break;
            }
            if listing == Listing::LookedUp && cookie > 2 {
                node.lookups += 1;
            }
        }
        Ok(())
    }

    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut files = self.files();
        let data = &files.get(ino)?.data;
        let data = data.get(offset as usize..).unwrap_or_default();
        let length = data.len().min(buffer.len());
        buffer[..length].copy_from_slice(&data[..length]);
        Ok(length)
    }

    fn write(&self, ino: Ino, offset: u64, data: &mut [u8], drops_set_id: bool) -> Result<(), Errno> {
        let mut files = self.files();
        let node = files.get(ino)?;
        let end = offset + data.len() as u64;
        if end > node.attributes.size {
            node.resize(end);
        }
        node.data[offset as usize..end as usize].copy_from_slice(data);
        node.modify();
        if drops_set_id {
            node.attributes.mode &= !SET_ID;
        }
        Ok(())
    }

    fn sync(&self, ino: Ino) -> Result<(), Errno> {
        self.files().get(ino).map(|_| ())
    }

    fn allocate(&self, ino: Ino, how: Allocate, offset: u64, length: u64) -> Result<(), Errno> {
        let mut files = self.files();
        let node = files.get(ino)?;
        let end = offset + length;
        if matches!(how, Allocate::Grow | Allocate::ZeroRange) && end > node.attributes.size {
            node.resize(end);
        }
        if !matches!(how, Allocate::Grow | Allocate::KeepSize) {
            let end = end.min(node.attributes.size);
            node.data[offset.min(end) as usize..end as usize].fill(0);
        }
        node.modify();
        Ok(())
    }

    fn copy(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, length: u64) -> Result<u64, Errno> {
        let mut files = self.files();
        let data = &files.get(from)?.data;
        let data = data.get(from_offset as usize..).unwrap_or_default();
        let mut data = data[..data.len().min(length as usize)].to_vec();
        drop(files);
        self.write(to, to_offset, &mut data, false)?;
        Ok(data.len() as u64)
    }

    fn xattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>, Errno> {
        self.files().get(ino)?.xattrs.get(name).cloned().ok_or(Errno::NODATA)
    }

    fn set_xattr(&self, ino: Ino, name: &OsStr, value: &[u8], how: SetXattr) -> Result<(), Errno> {
        let mut files = self.files();
        let xattrs = &mut files.get(ino)?.xattrs;
        match (how, xattrs.contains_key(name)) {
            (SetXattr::Create, true) => return Err(Errno::EXIST),
            (SetXattr::Replace, false) => return Err(Errno::NODATA),
            _ => xattrs.insert(name.to_owned(), value.to_vec()),
        };
        Ok(())
    }

    fn xattr_names(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        let mut files = self.files();
        let names = files.get(ino)?.xattrs.keys();
        Ok(names.flat_map(|name| [name.as_encoded_bytes(), b"\0"].concat()).collect())
    }

    fn remove_xattr(&self, ino: Ino, name: &OsStr) -> Result<(), Errno> {
        self.files().get(ino)?.xattrs.remove(name).map(|_| ()).ok_or(Errno::NODATA)
    }

    fn space(&self) -> Space {
        Space { block: 4096, blocks: 1 << 20, free: 1 << 19, inodes: 1 << 20, free_inodes: 1 << 19 }
    }

    fn pace(&self, _direction: Direction, _bytes: usize) -> Duration {
        *self.delay.lock().unwrap()
    }
}
