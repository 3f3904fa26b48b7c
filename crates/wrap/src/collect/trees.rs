//! Directories that are taken whole: the ones that the submitter includes, and those that a script names.

use protocol::manifest::{MAX_ENTRIES, ManifestError};

use super::programs::refuse_special;
use super::{Collector, Depth, Need};
use crate::error::WrapError;
use crate::host::{Found, is_below, split};
use crate::layout::{APP, is_system, shadowing_mount};
use crate::report::{Reason, Warning};

impl Collector {
    /// Learns where the included directories of the user's own go, before the program, which may lie in one of them.
    pub(super) fn find_roots(&mut self, includes: &[String]) -> Result<(), WrapError> {
        for include in includes.iter().filter(|include| !include.starts_with("deb:")) {
            let path = super::join(&self.base_dir, include);
            let Some(found) = self.host.probe(&path).filter(|found| found.metadata.is_dir()) else {
                continue;
            };
            if is_system(&found.path) {
                continue;
            }
            // `.` and `x/..` have a name only after they are followed.
            let name = match split(&path).1 {
                "." | ".." | "" => split(&found.path).1,
                name => name,
            };
            let place = format!("{APP}/{name}");
            if let Some(taken) = self.roots.iter().find(|tree| tree.place == place && tree.root != found.path)
            {
                return Err(WrapError::Collision { place, first: taken.root.clone(), second: found.path });
            }
            self.roots.push(Tree { root: found.path, place });
        }
        Ok(())
    }

    /// The place of a path below an included directory.
    pub(super) fn in_root(&self, path: &str) -> Option<String> {
        Some(self.root_of(path)?.place_of(path))
    }

    /// The included directory of the user's own that a path lies below.
    pub(super) fn root_of(&self, path: &str) -> Option<&Tree> {
        self.roots.iter().find(|tree| is_below(path, &tree.root))
    }

    /// Adds a directory that the submitter has named.
    pub(super) fn include_directory(&mut self, path: &str, found: &Found) -> Result<(), WrapError> {
        let place = match self.in_root(&found.path) {
            Some(place) => place,
            None => {
                self.application.add_links(&found.links);
                found.path.clone()
            }
        };
        if let Some(mount) = shadowing_mount(&place) {
            return Err(WrapError::Shadowed { path: path.to_owned(), mount });
        }
        self.add_tree(&found.path, &place, &Reason::Included, Depth::Whole, Need::Required)
    }

    /// Adds all that is below `root`, a directory without links in its path, at `place`. With `Need::Optional`, what
    /// can't be part of an application is passed over.
    pub(super) fn add_tree(
        &mut self,
        root: &str,
        place: &str,
        reason: &Reason,
        depth: Depth,
        need: Need,
    ) -> Result<(), WrapError> {
        let tree = Tree { root: root.to_owned(), place: place.to_owned() };
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            if self.application.len() > MAX_ENTRIES {
                return Err(ManifestError::TooManyEntries { found: self.application.len() }.into());
            }
            self.application.add_directory(&tree.place_of(&directory));
            for name in self.host.list(&directory)? {
                let path = format!("{directory}/{name}");
                let metadata = self.host.metadata(&path, &path)?;
                if metadata.is_dir() {
                    directories.push(path);
                } else if metadata.is_symlink() {
                    self.add_tree_link(&tree, &path, reason)?;
                } else {
                    let found = Found { path, links: Vec::new(), metadata };
                    match refuse_special(&found) {
                        Ok(()) => self.add_tree_file(&found, &tree.place_of(&found.path), reason, depth)?,
                        Err(error) if need == Need::Required => return Err(error),
                        Err(_) => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn add_tree_file(
        &mut self,
        found: &Found,
        place: &str,
        reason: &Reason,
        depth: Depth,
    ) -> Result<(), WrapError> {
        if found.path == place {
            self.application.add(found, reason.clone());
        } else {
            self.application.place(place, found, reason.clone())?;
        }
        self.examine_later(&found.path, found, place, depth);
        Ok(())
    }

    /// A link inside a tree stays a link when its end is part of the application too; a file outside that would not
    /// be takes the link's place.
    fn add_tree_link(&mut self, tree: &Tree, path: &str, reason: &Reason) -> Result<(), WrapError> {
        let place = tree.place_of(path);
        let Some(end) = self.host.probe(path) else {
            self.leave_out(path, "it is a link that leads nowhere");
            return Ok(());
        };
        if is_below(&end.path, &tree.root) {
            if place == path {
                self.application.add_links(&end.links);
            } else {
                self.application.add_link(&place, &tree.place_of(&end.path));
            }
            return Ok(());
        }
        if !end.metadata.is_file() {
            self.leave_out(path, "it is a link to what is neither a file nor in the directory");
            return Ok(());
        }
        if is_system(&end.path) {
            self.application.add_link(&place, &end.path);
            let end = Found { links: Vec::new(), ..end };
            return self.add_along(path, &end, Reason::LinkTarget { of: place }, Depth::Commands);
        }
        self.application.place(&place, &end, reason.clone())?;
        self.examine_later(path, &end, &place, Depth::Commands);
        Ok(())
    }

    fn leave_out(&mut self, path: &str, why: &str) {
        self.warnings.insert(Warning::LeftOut { path: path.to_owned(), why: why.to_owned() });
    }
}

/// A directory, and where it goes.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// Its path on the host, without links.
    pub root: String,
    pub place: String,
}

impl Tree {
    /// Where a path below the directory goes.
    pub fn place_of(&self, path: &str) -> String {
        format!("{}{}", self.place, &path[self.root.len()..])
    }
}
