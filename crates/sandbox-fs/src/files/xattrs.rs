//! Extended attributes (xattr(7)): those of programs and of administrators. Access control lists and security labels
//! are the kernel's business and mean nothing in here.

use rustix::io::Errno;

use super::{Files, now};
use crate::operations::{Ino, SetXattr};
use crate::tree::Node;

/// Name spaces that are kept.
const KEPT: [&[u8]; 2] = [b"user.", b"trusted."];

/// `XATTR_NAME_MAX` and `XATTR_SIZE_MAX` of the kernel.
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 65_536;

/// Bytes of names and values of one inode: what listxattr can return, `XATTR_LIST_MAX`.
const MAX_TOTAL: usize = 65_536;

impl Files {
    pub(super) fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Errno> {
        check(name)?;
        let tree = self.tree();
        let value = tree.node(ino)?.xattrs.get(name).ok_or(Errno::NODATA)?;
        Ok(value.to_vec())
    }

    pub(super) fn put_xattr(&self, ino: Ino, name: &[u8], value: &[u8], how: SetXattr) -> Result<(), Errno> {
        check(name)?;
        if value.len() > MAX_VALUE {
            return Err(Errno::TOOBIG);
        }
        let mut tree = self.tree();
        let node = tree.node_mut(ino)?;
        let old = node.xattrs.get(name).map(|old| name.len() + old.len());
        match (how, old) {
            (SetXattr::Create, Some(_)) => return Err(Errno::EXIST),
            (SetXattr::Replace, None) => return Err(Errno::NODATA),
            _ => {}
        }
        let (old, new) = (old.unwrap_or(0), name.len() + value.len());
        if total(node) - old + new > MAX_TOTAL {
            return Err(Errno::NOSPC);
        }
        self.account.take_bytes(new as u64)?;
        self.account.give_bytes(old as u64);
        node.xattrs.insert(name.into(), value.into());
        node.meta.changed = now();
        Ok(())
    }

    pub(super) fn list_xattrs(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        let tree = self.tree();
        let names = tree.node(ino)?.xattrs.keys();
        Ok(names.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    pub(super) fn take_xattr(&self, ino: Ino, name: &[u8]) -> Result<(), Errno> {
        check(name)?;
        let mut tree = self.tree();
        let node = tree.node_mut(ino)?;
        let value = node.xattrs.remove(name).ok_or(Errno::NODATA)?;
        node.meta.changed = now();
        self.account.give_bytes((name.len() + value.len()) as u64);
        Ok(())
    }
}

fn check(name: &[u8]) -> Result<(), Errno> {
    if name.len() > MAX_NAME {
        return Err(Errno::RANGE);
    }
    match KEPT.iter().find(|prefix| name.starts_with(prefix)) {
        Some(prefix) if name.len() > prefix.len() => Ok(()),
        Some(_) => Err(Errno::INVAL),
        None => Err(Errno::OPNOTSUPP),
    }
}

fn total(node: &Node) -> usize {
    node.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
}
