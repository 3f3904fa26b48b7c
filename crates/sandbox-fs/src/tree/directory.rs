//! The names in one directory. Each has a number of its own for as long as it stays, so that a listing that is
//! read in parts goes on where it was, whatever comes and goes in between.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::operations::Ino;

/// Numbers of `.` and `..`.
pub(crate) const SELF: u64 = 1;
pub(crate) const PARENT: u64 = 2;
const FIRST: u64 = 3;

#[derive(Debug)]
pub(crate) struct Directory {
    /// The directory that this one is in; the root is in itself.
    pub(crate) parent: Ino,
    names: HashMap<Arc<[u8]>, Place>,
    order: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    ino: Ino,
}

impl Directory {
    pub(crate) fn new(parent: Ino) -> Self {
        Directory { parent, names: HashMap::new(), order: BTreeMap::new(), next: FIRST }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Ino> {
        self.names.get(name).map(|place| place.ino)
    }

    /// Adds a name, or has it mean something else.
    pub(crate) fn set(&mut self, name: &[u8], ino: Ino) {
        if let Some(place) = self.names.get_mut(name) {
            place.ino = ino;
            return;
        }
        let name: Arc<[u8]> = name.into();
        self.names.insert(Arc::clone(&name), Place { number: self.next, ino });
        self.order.insert(self.next, name);
        self.next += 1;
    }

    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Ino> {
        let Place { number, ino } = self.names.remove(name)?;
        self.order.remove(&number);
        Some(ino)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Number, name and inode of all names behind a number, in order.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = (u64, &[u8], Ino)> {
        let range = self.order.range(number.saturating_add(1)..);
        range.filter_map(|(number, name)| Some((*number, &**name, self.get(name)?)))
    }
}
