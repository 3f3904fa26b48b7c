//! rename(2) and renameat2(2), with their many cases.

use rustix::io::Errno;

use super::{Dead, Tree, check_name, touch};
use crate::operations::{Ino, ROOT, Rename, Time};

/// One end of a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: &'a [u8],
}

impl Tree {
    /// Gives an inode another name; what had that name before is handed back if nothing else leads to it.
    pub(crate) fn rename(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        how: Rename,
        now: Time,
    ) -> Result<Option<Dead>, Errno> {
        check_name(from.name)?;
        check_name(to.name)?;
        let ino = self.find(from.parent, from.name)?;
        let there = match self.find(to.parent, to.name) {
            Ok(there) => Some(there),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        if self.node(to.parent)?.links == 0 {
            return Err(Errno::NOENT);
        }
        self.check_no_loop(ino, to.parent)?;
        match (how, there) {
            (Rename::Exchange, Some(there)) => {
                self.check_no_loop(there, from.parent)?;
                self.exchange((from, ino), (to, there), now)?;
                Ok(None)
            }
            (Rename::Exchange, None) => Err(Errno::NOENT),
            (Rename::Keep, Some(_)) => Err(Errno::EXIST),
            // Two names of one file: nothing happens (POSIX).
            (Rename::Replace, Some(there)) if there == ino => Ok(None),
            (Rename::Replace | Rename::Keep, there) => self.move_name(from, ino, to, there, now),
        }
    }

    fn move_name(
        &mut self,
        from: Place<'_>,
        ino: Ino,
        to: Place<'_>,
        there: Option<Ino>,
        now: Time,
    ) -> Result<Option<Dead>, Errno> {
        let is_directory = self.node(ino)?.is_directory();
        if let Some(there) = there {
            let is_replacing_directory = self.node(there)?.is_directory();
            match (is_directory, is_replacing_directory) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.directory(there)?.is_empty() => return Err(Errno::NOTEMPTY),
                _ => {}
            }
        }
        self.directory_mut(from.parent)?.remove(from.name);
        self.directory_mut(to.parent)?.set(to.name, ino);
        if is_directory {
            self.settle(ino, from.parent, to.parent)?;
        }
        for parent in [from.parent, to.parent] {
            touch(self.node_mut(parent)?, now);
        }
        self.node_mut(ino)?.meta.changed = now;
        let Some(there) = there else { return Ok(None) };
        if is_directory {
            self.node_mut(to.parent)?.links -= 1;
            Ok(self.removed_directory(there, now))
        } else {
            Ok(self.unlinked(there, now))
        }
    }

    fn exchange(&mut self, one: (Place<'_>, Ino), other: (Place<'_>, Ino), now: Time) -> Result<(), Errno> {
        let ((one, first), (other, second)) = (one, other);
        self.directory_mut(one.parent)?.set(one.name, second);
        self.directory_mut(other.parent)?.set(other.name, first);
        for (ino, from, to) in [(first, one.parent, other.parent), (second, other.parent, one.parent)] {
            if self.node(ino)?.is_directory() {
                self.settle(ino, from, to)?;
            }
            self.node_mut(ino)?.meta.changed = now;
            touch(self.node_mut(to)?, now);
        }
        Ok(())
    }

    /// Notes that a directory has moved.
    fn settle(&mut self, ino: Ino, from: Ino, to: Ino) -> Result<(), Errno> {
        self.directory_mut(ino)?.parent = to;
        self.node_mut(from)?.links -= 1;
        self.node_mut(to)?.links += 1;
        Ok(())
    }

    /// A directory can't be moved into itself or into what it holds.
    fn check_no_loop(&self, ino: Ino, target: Ino) -> Result<(), Errno> {
        let mut at = target;
        while at != ino {
            if at == ROOT {
                return Ok(());
            }
            at = self.directory(at)?.parent;
        }
        Err(Errno::INVAL)
    }
}
