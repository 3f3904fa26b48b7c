//! A tree as bytes, for a checkpoint of the store, and back.
//!
//! What comes back was sealed by us, so it is checked for sense rather than for malice: a state that contradicts
//! itself is refused as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::node::{DIRECTORY, KIND, REGULAR, SYMLINK};
use super::{Directory, Kind, Meta, Node, Tree, Xattrs, check_name};
use crate::contents::{BlockMap, Contents, Lower, Parts, Ranges, Source};
use crate::operations::{Ino, ROOT};
use crate::store::FileKey;

/// All of a tree. Inodes without a name are not in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    next: Ino,
    nodes: Vec<NodeRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NodeRecord {
    ino: Ino,
    meta: Meta,
    xattrs: Xattrs,
    kind: KindRecord,
}

#[derive(Debug, Serialize, Deserialize)]
enum KindRecord {
    File { size: u64, map: BlockMap, reserved: Ranges, lower: Option<LowerRecord> },
    Directory { names: Names },
    Symlink { target: Box<[u8]> },
    Special,
}

type Names = Vec<(Box<[u8]>, Ino)>;

#[derive(Debug, Serialize, Deserialize)]
struct LowerRecord {
    identity: [u8; 32],
    visible: u64,
    hidden: Ranges,
}

/// Why a state is no tree.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state can't be read")]
    Malformed,
    #[error("the state contradicts itself at inode {ino}")]
    Inconsistent { ino: Ino },
    #[error("the state needs a file of a lower layer that is not there, at inode {ino}")]
    NoSource { ino: Ino },
}

/// What contents of lower layers there are, by [`Source::identity`].
pub(crate) type Sources = HashMap<[u8; 32], Arc<dyn Source>>;

impl Tree {
    pub(crate) fn record(&self) -> Record {
        let mut nodes: Vec<NodeRecord> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.links > 0)
            .map(|(ino, node)| NodeRecord {
                ino: *ino,
                meta: node.meta,
                xattrs: node.xattrs.clone(),
                kind: KindRecord::of(&node.kind),
            })
            .collect();
        nodes.sort_unstable_by_key(|node| node.ino);
        Record { next: self.next, nodes }
    }

    /// # Errors
    /// When the record is no tree, or `sources` lacks what it names.
    pub(crate) fn from_record(
        record: Record,
        sources: &Sources,
        mut key: impl FnMut(Ino) -> FileKey,
    ) -> Result<Tree, StateError> {
        let mut names = Vec::new();
        let mut nodes = HashMap::with_capacity(record.nodes.len());
        for NodeRecord { ino, meta, xattrs, kind } in record.nodes {
            let inconsistent = || StateError::Inconsistent { ino };
            let (kind, wanted) = match kind {
                KindRecord::File { size, map, reserved, lower } => {
                    let lower = lower.map(|lower| lower.find(ino, sources)).transpose()?;
                    let parts = Parts { size, map, reserved, lower };
                    (Kind::File(Arc::new(Contents::from_parts(key(ino), parts))), Some(REGULAR))
                }
                KindRecord::Directory { names: inside } => {
                    names.push((ino, inside));
                    (Kind::Directory(Directory::new(ROOT)), Some(DIRECTORY))
                }
                KindRecord::Symlink { target } => (Kind::Symlink(target), Some(SYMLINK)),
                KindRecord::Special => (Kind::Special, None),
            };
            let found = meta.mode & KIND;
            let fits = match wanted {
                Some(wanted) => found == wanted,
                None => ![REGULAR, DIRECTORY, SYMLINK].contains(&found),
            };
            if !fits || ino == 0 || ino >= record.next {
                return Err(inconsistent());
            }
            let mut node = Node::new(meta, 0, kind);
            node.xattrs = xattrs;
            if nodes.insert(ino, node).is_some() {
                return Err(inconsistent());
            }
        }
        let mut tree = Tree { nodes, next: record.next, more_names: 0 };
        tree.put_names(names)?;
        Ok(tree)
    }

    fn put_names(&mut self, names: Vec<(Ino, Names)>) -> Result<(), StateError> {
        let root = self.nodes.get_mut(&ROOT).filter(|root| root.is_directory());
        let root = root.ok_or(StateError::Inconsistent { ino: ROOT })?;
        (root.links, root.lookups) = (2, 1);
        for (parent, inside) in names {
            let inconsistent = |_| StateError::Inconsistent { ino: parent };
            for (name, ino) in inside {
                check_name(&name).map_err(inconsistent)?;
                let node = self.node_mut(ino).map_err(inconsistent)?;
                let is_directory = node.is_directory();
                // A directory has one name; the root has none.
                if is_directory && node.links > 0 {
                    return Err(StateError::Inconsistent { ino });
                }
                node.links += if is_directory { 2 } else { 1 };
                if let Kind::Directory(directory) = &mut node.kind {
                    directory.parent = parent;
                }
                let directory = self.directory_mut(parent).map_err(inconsistent)?;
                if directory.get(&name).is_some() {
                    return Err(StateError::Inconsistent { ino: parent });
                }
                directory.set(&name, ino);
            }
        }
        self.count_directories()
    }

    /// Adds the links that directories have from those inside, and checks that all hang together.
    fn count_directories(&mut self) -> Result<(), StateError> {
        let mut reached = 0;
        let mut waiting = vec![ROOT];
        while let Some(at) = waiting.pop() {
            reached += 1;
            let inside: Vec<Ino> = match self.directory(at) {
                Ok(directory) => directory.after(0).map(|(_, _, ino)| ino).collect(),
                Err(_) => return Err(StateError::Inconsistent { ino: at }),
            };
            let before = waiting.len();
            waiting.extend(inside.into_iter().filter(|ino| self.node(*ino).is_ok_and(Node::is_directory)));
            let directories = (waiting.len() - before) as u32;
            let node = self.node_mut(at).map_err(|_| StateError::Inconsistent { ino: at })?;
            node.links += directories;
        }
        let lost = self.nodes.iter().find(|(_, node)| node.links == 0).map(|(ino, _)| *ino);
        let directories = self.nodes.values().filter(|node| node.is_directory()).count();
        let files = self.nodes.values().filter(|node| !node.is_directory());
        self.more_names = files.map(|node| u64::from(node.links.saturating_sub(1))).sum();
        match lost {
            Some(ino) => Err(StateError::Inconsistent { ino }),
            // Directories that hold each other hang on nothing.
            None if directories != reached => Err(StateError::Inconsistent { ino: ROOT }),
            None => Ok(()),
        }
    }
}

impl KindRecord {
    fn of(kind: &Kind) -> Self {
        match kind {
            Kind::File(contents) => {
                let Parts { size, map, reserved, lower } = contents.parts();
                let lower = lower.map(|Lower { source, visible, hidden }| LowerRecord {
                    identity: source.identity(),
                    visible,
                    hidden,
                });
                KindRecord::File { size, map, reserved, lower }
            }
            Kind::Directory(directory) => KindRecord::Directory {
                names: directory.after(0).map(|(_, name, ino)| (name.into(), ino)).collect(),
            },
            Kind::Symlink(target) => KindRecord::Symlink { target: target.clone() },
            Kind::Special => KindRecord::Special,
        }
    }
}

impl LowerRecord {
    fn find(self, ino: Ino, sources: &Sources) -> Result<Lower, StateError> {
        let LowerRecord { identity, visible, hidden } = self;
        let source = sources.get(&identity).ok_or(StateError::NoSource { ino })?;
        if visible > source.size() {
            return Err(StateError::Inconsistent { ino });
        }
        Ok(Lower { source: Arc::clone(source), visible, hidden })
    }
}
