//! One inode: what inode(7) lists, and what its kind adds.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use crate::contents::Contents;
use crate::operations::{Attributes, Ino, Time};

/// Bits of `st_mode` that tell the kind.
pub(crate) const KIND: u32 = 0o170_000;
pub(crate) const REGULAR: u32 = 0o100_000;
pub(crate) const DIRECTORY: u32 = 0o040_000;
pub(crate) const SYMLINK: u32 = 0o120_000;
pub(crate) const SET_UID: u32 = 0o4_000;
pub(crate) const SET_GID: u32 = 0o2_000;
const GROUP_EXECUTES: u32 = 0o010;
/// What chmod(2) changes.
pub(crate) const PERMISSIONS: u32 = 0o7_777;

/// What a directory's names are counted as, in `st_size`.
const NAME_SIZE: u64 = 32;

pub(crate) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

pub(crate) struct Node {
    pub(crate) meta: Meta,
    /// Names that lead here; two and one for each directory inside for a directory.
    pub(crate) links: u32,
    /// How often the kernel has been told of it and has not forgotten.
    pub(crate) lookups: u64,
    pub(crate) xattrs: Xattrs,
    pub(crate) kind: Kind,
}

/// What every inode has, whatever its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) device: u32,
    pub(crate) accessed: Time,
    pub(crate) modified: Time,
    pub(crate) changed: Time,
}

pub(crate) enum Kind {
    File(Arc<Contents>),
    Directory(Directory),
    Symlink(Box<[u8]>),
    /// A named pipe, socket or device.
    Special,
}

impl Meta {
    pub(crate) fn new(mode: u32, (uid, gid): (u32, u32), device: u32, now: Time) -> Self {
        Meta { mode, uid, gid, device, accessed: now, modified: now, changed: now }
    }

    /// What happens to a file that somebody else writes to or takes over: it no longer lends its owner's rights.
    /// Set-group-id on a file that its group can't execute stays, as the kernel has it.
    pub(crate) fn drop_set_id(&mut self) {
        if self.mode & KIND == DIRECTORY {
            return;
        }
        self.mode &= !SET_UID;
        if self.mode & GROUP_EXECUTES != 0 {
            self.mode &= !SET_GID;
        }
    }
}

impl Node {
    pub(crate) fn new(meta: Meta, links: u32, kind: Kind) -> Self {
        Node { meta, links, lookups: 0, xattrs: Xattrs::new(), kind }
    }

    pub(crate) fn attributes(&self, ino: Ino) -> Attributes {
        let (size, blocks) = match &self.kind {
            Kind::File(contents) => (contents.size(), contents.used() * 8),
            Kind::Directory(directory) => (directory.len() as u64 * NAME_SIZE, 0),
            Kind::Symlink(target) => (target.len() as u64, 0),
            Kind::Special => (0, 0),
        };
        Attributes {
            ino,
            mode: self.meta.mode,
            links: self.links,
            uid: self.meta.uid,
            gid: self.meta.gid,
            device: self.meta.device,
            size,
            blocks,
            accessed: self.meta.accessed,
            modified: self.meta.modified,
            changed: self.meta.changed,
        }
    }

    /// What it takes besides blocks, of what a quota counts.
    pub(crate) fn bytes(&self) -> u64 {
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let target = if let Kind::Symlink(target) = &self.kind { target.len() } else { 0 };
        (xattrs + target) as u64
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }
}
