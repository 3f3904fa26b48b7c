//! A file system of maps and vectors.

use std::collections::BTreeMap;

use rustix::io::Errno;
use sandbox_fs::operations::{Allocate, Ino, ROOT, Rename, SetXattr};

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    File(Vec<u8>),
    Directory(BTreeMap<String, Ino>),
    Symlink(Vec<u8>),
}

impl Kind {
    pub(crate) fn directory() -> Kind {
        Kind::Directory(BTreeMap::new())
    }
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// What the file system under test calls it.
    called: Ino,
    /// Directories that were removed stay, as those that somebody has open.
    removed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    nodes: BTreeMap<Ino, Node>,
    next: Ino,
}

type Result<T> = std::result::Result<T, Errno>;

impl Model {
    pub(crate) fn new() -> Self {
        let mut model = Model { nodes: BTreeMap::new(), next: ROOT };
        model.make_unnamed(Kind::directory());
        model
    }

    pub(crate) fn all(&self) -> Vec<Ino> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn kind(&self, ino: Ino) -> &Kind {
        &self.nodes[&ino].kind
    }

    pub(crate) fn is_directory(&self, ino: Ino) -> bool {
        matches!(self.kind(ino), Kind::Directory(_))
    }

    pub(crate) fn call(&mut self, ino: Ino, called: Ino) {
        let node = self.nodes.get_mut(&ino).unwrap();
        assert!(node.called == 0 || node.called == called, "an inode has two numbers");
        node.called = called;
    }

    pub(crate) fn forget_calls(&mut self) {
        self.nodes.values_mut().for_each(|node| node.called = 0);
    }

    pub(crate) fn called(&self, ino: Ino) -> Ino {
        let called = self.nodes[&ino].called;
        assert_ne!(called, 0, "an inode that was never met");
        called
    }

    fn directory(&self, ino: Ino) -> Result<&BTreeMap<String, Ino>> {
        match &self.nodes[&ino].kind {
            Kind::Directory(names) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn directory_mut(&mut self, ino: Ino) -> &mut BTreeMap<String, Ino> {
        match &mut self.nodes.get_mut(&ino).unwrap().kind {
            Kind::Directory(names) => names,
            _ => panic!("{ino} is no directory"),
        }
    }

    fn file_mut(&mut self, ino: Ino) -> Result<&mut Vec<u8>> {
        match &mut self.nodes.get_mut(&ino).unwrap().kind {
            Kind::File(bytes) => Ok(bytes),
            Kind::Directory(_) => Err(Errno::ISDIR),
            Kind::Symlink(_) => Err(Errno::INVAL),
        }
    }

    pub(crate) fn names(&self, ino: Ino) -> Vec<(String, Ino)> {
        let names = self.directory(ino).unwrap();
        names.iter().map(|(name, inside)| (name.clone(), *inside)).collect()
    }

    pub(crate) fn names_of(&self, ino: Ino) -> Vec<(Ino, String)> {
        let directories = self.all().into_iter().filter(|at| self.is_directory(*at));
        directories
            .flat_map(|at| self.names(at).into_iter().map(move |(name, inside)| (at, name, inside)))
            .filter(|(_, _, inside)| *inside == ino)
            .map(|(at, name, _)| (at, name))
            .collect()
    }

    pub(crate) fn links(&self, ino: Ino) -> u32 {
        match self.kind(ino) {
            Kind::Directory(_) if self.nodes[&ino].removed => 0,
            Kind::Directory(names) => {
                2 + names.values().filter(|inside| self.is_directory(**inside)).count() as u32
            }
            _ => self.names_of(ino).len() as u32,
        }
    }

    pub(crate) fn size(&self, ino: Ino) -> Option<u64> {
        match self.kind(ino) {
            Kind::File(bytes) => Some(bytes.len() as u64),
            Kind::Symlink(target) => Some(target.len() as u64),
            Kind::Directory(_) => None,
        }
    }

    /// Inodes but the root, and names of files that are not their first.
    pub(crate) fn counted_inodes(&self) -> u64 {
        let names = self.all().into_iter().filter(|ino| !self.is_directory(*ino));
        let more: usize = names.map(|ino| self.names_of(ino).len().saturating_sub(1)).sum();
        (self.nodes.len() - 1 + more) as u64
    }

    pub(crate) fn directory_xattr_bytes(&self) -> u64 {
        let directories = self.nodes.values().filter(|node| matches!(node.kind, Kind::Directory(_)));
        let bytes = directories.flat_map(|node| &node.xattrs).map(|(name, value)| name.len() + value.len());
        bytes.sum::<usize>() as u64
    }

    /// Takes out what has no name, and says how it was called.
    pub(crate) fn take_unnamed(&mut self) -> Vec<(Ino, Ino)> {
        let all = self.all().into_iter().filter(|ino| *ino != ROOT && self.names_of(*ino).is_empty());
        let unnamed: Vec<(Ino, Ino)> = all.map(|ino| (ino, self.called(ino))).collect();
        for (ino, _) in &unnamed {
            self.nodes.remove(ino);
        }
        unnamed
    }

    pub(crate) fn make_unnamed(&mut self, kind: Kind) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, Node { kind, xattrs: BTreeMap::new(), called: 0, removed: false });
        ino
    }

    fn check_new(&self, parent: Ino, name: &str) -> Result<()> {
        if self.directory(parent)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        if self.nodes[&parent].removed { Err(Errno::NOENT) } else { Ok(()) }
    }

    pub(crate) fn make(&mut self, parent: Ino, name: &str, kind: Kind) -> Result<Ino> {
        self.check_new(parent, name)?;
        let ino = self.make_unnamed(kind);
        self.directory_mut(parent).insert(name.to_owned(), ino);
        Ok(ino)
    }

    fn find(&self, parent: Ino, name: &str) -> Result<Ino> {
        self.directory(parent)?.get(name).copied().ok_or(Errno::NOENT)
    }

    pub(crate) fn link(&mut self, ino: Ino, parent: Ino, name: &str) -> Result<()> {
        if self.is_directory(ino) {
            return Err(Errno::PERM);
        }
        self.check_new(parent, name)?;
        self.directory_mut(parent).insert(name.to_owned(), ino);
        Ok(())
    }

    pub(crate) fn unlink(&mut self, parent: Ino, name: &str) -> Result<()> {
        let ino = self.find(parent, name)?;
        if self.is_directory(ino) {
            return Err(Errno::ISDIR);
        }
        self.directory_mut(parent).remove(name);
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, parent: Ino, name: &str) -> Result<()> {
        let ino = self.find(parent, name)?;
        if !self.directory(ino)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.directory_mut(parent).remove(name);
        self.nodes.get_mut(&ino).unwrap().removed = true;
        Ok(())
    }

    fn is_inside(&self, directory: Ino, of: Ino) -> bool {
        directory == of
            || self.is_directory(of)
                && self.names(of).into_iter().any(|(_, inside)| self.is_inside(directory, inside))
    }

    pub(crate) fn rename(&mut self, from: (Ino, &str), to: (Ino, &str), how: Rename) -> Result<()> {
        let ino = self.find(from.0, from.1)?;
        let there = self.find(to.0, to.1).ok();
        if self.nodes[&to.0].removed {
            return Err(Errno::NOENT);
        }
        if self.is_inside(to.0, ino) {
            return Err(Errno::INVAL);
        }
        match (how, there) {
            (Rename::Exchange, None) => return Err(Errno::NOENT),
            (Rename::Exchange, Some(there)) => {
                if self.is_inside(from.0, there) {
                    return Err(Errno::INVAL);
                }
                self.directory_mut(from.0).insert(from.1.to_owned(), there);
                self.directory_mut(to.0).insert(to.1.to_owned(), ino);
                return Ok(());
            }
            (Rename::Keep, Some(_)) => return Err(Errno::EXIST),
            (Rename::Replace, Some(there)) if there == ino => return Ok(()),
            (Rename::Replace, Some(there)) => match (self.is_directory(ino), self.is_directory(there)) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.directory(there)?.is_empty() => return Err(Errno::NOTEMPTY),
                (true, true) => self.nodes.get_mut(&there).unwrap().removed = true,
                (false, false) => {}
            },
            (_, None) => {}
        }
        self.directory_mut(from.0).remove(from.1);
        self.directory_mut(to.0).insert(to.1.to_owned(), ino);
        Ok(())
    }

    pub(crate) fn read(&self, ino: Ino, offset: u64, length: u64) -> Result<Vec<u8>> {
        match self.kind(ino) {
            Kind::File(bytes) => {
                let from = (offset as usize).min(bytes.len());
                Ok(bytes[from..(from + length as usize).min(bytes.len())].to_vec())
            }
            Kind::Directory(_) => Err(Errno::ISDIR),
            Kind::Symlink(_) => Err(Errno::INVAL),
        }
    }

    pub(crate) fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<()> {
        let (file, offset) = (self.file_mut(ino)?, offset as usize);
        let end = offset + data.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[offset..end].copy_from_slice(data);
        Ok(())
    }

    pub(crate) fn truncate(&mut self, ino: Ino, size: u64) -> Result<()> {
        self.file_mut(ino)?.resize(size as usize, 0);
        Ok(())
    }

    pub(crate) fn allocate(&mut self, ino: Ino, how: Allocate, offset: u64, length: u64) -> Result<()> {
        let file = self.file_mut(ino)?;
        let (from, end) = (offset as usize, (offset + length) as usize);
        if matches!(how, Allocate::PunchHole | Allocate::ZeroRange | Allocate::ZeroRangeKeepSize) {
            let present = from.min(file.len())..end.min(file.len());
            file[present].fill(0);
        }
        if matches!(how, Allocate::Grow | Allocate::ZeroRange) && file.len() < end {
            file.resize(end, 0);
        }
        Ok(())
    }

    pub(crate) fn copy(&mut self, from: (Ino, u64), to: (Ino, u64), length: u64) -> Result<u64> {
        self.read(from.0, 0, 0)?;
        self.file_mut(to.0)?;
        let bytes = self.read(from.0, from.1, length)?;
        if !bytes.is_empty() {
            self.write(to.0, to.1, &bytes)?;
        }
        Ok(bytes.len() as u64)
    }

    pub(crate) fn xattr(&self, ino: Ino, name: &str) -> Result<Vec<u8>> {
        self.nodes[&ino].xattrs.get(name).cloned().ok_or(Errno::NODATA)
    }

    pub(crate) fn set_xattr(&mut self, ino: Ino, name: &str, value: &[u8], how: SetXattr) -> Result<()> {
        let xattrs = &mut self.nodes.get_mut(&ino).unwrap().xattrs;
        match (how, xattrs.contains_key(name)) {
            (SetXattr::Create, true) => Err(Errno::EXIST),
            (SetXattr::Replace, false) => Err(Errno::NODATA),
            _ => {
                xattrs.insert(name.to_owned(), value.to_vec());
                Ok(())
            }
        }
    }

    pub(crate) fn remove_xattr(&mut self, ino: Ino, name: &str) -> Result<()> {
        let xattrs = &mut self.nodes.get_mut(&ino).unwrap().xattrs;
        xattrs.remove(name).map(|_| ()).ok_or(Errno::NODATA)
    }
}
