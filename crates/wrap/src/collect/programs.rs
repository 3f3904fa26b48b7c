//! What a person names, and where it goes: programs by name or path, files, and all that others ask for by its path.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use super::{Collector, Depth, Need, Task, is_executable, join};
use crate::error::WrapError;
use crate::host::{Found, is_below, split};
use crate::layout::{APP, COMMANDS, is_system, shadowing_mount};
use crate::report::Reason;
use crate::suggest::nearest;

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

impl Collector {
    /// Adds the program; gives its path inside the application.
    pub(super) fn program(&mut self, name: &str) -> Result<String, WrapError> {
        let path = if name.contains('/') {
            join(&self.base_dir, name)
        } else {
            self.look_up(name).ok_or_else(|| self.unknown_program(name))?
        };
        self.add_executable(&path, APP, Reason::Program, Depth::Whole)
    }

    /// Adds one thing that the submitter has named.
    pub(super) fn include(&mut self, what: &str) -> Result<(), WrapError> {
        if let Some(package) = what.strip_prefix("deb:") {
            return self.include_package(package);
        }
        let path = join(&self.base_dir, what);
        if !what.contains('/') && self.host.probe(&path).is_none() {
            let path = self.look_up(what).ok_or_else(|| WrapError::UnknownInclude {
                name: what.to_owned(),
                directory: self.base_dir.clone(),
                suggestions: self.programs_like(what),
            })?;
            return self.add_executable(&path, COMMANDS, Reason::Included, Depth::Whole).map(drop);
        }
        let found = self.host.find(&path)?;
        if found.metadata.is_dir() {
            self.include_directory(&path, &found)
        } else if is_executable(&found) {
            self.add_executable(&path, APP, Reason::Included, Depth::Whole).map(drop)
        } else {
            self.add_own(&path, &found, APP, Reason::Included).map(drop)
        }
    }

    /// Adds an executable that the job can't do without.
    pub(super) fn add_executable(
        &mut self,
        path: &str,
        home: &str,
        reason: Reason,
        depth: Depth,
    ) -> Result<String, WrapError> {
        let found = self.host.find(path)?;
        if found.metadata.is_dir() {
            return Err(WrapError::IsDirectory { path: found.path.into() });
        }
        if found.metadata.is_file() && !is_executable(&found) {
            return Err(WrapError::NotExecutable { path: found.path.into() });
        }
        if found.metadata.permissions().mode() & SET_ID != 0 {
            return Err(WrapError::SetId { path: found.path.into() });
        }
        let place = self.add_own(path, &found, home, reason)?;
        // The place of the file itself is what its `$ORIGIN` is taken from.
        let task_place = if is_system(&found.path) { found.path.clone() } else { place.clone() };
        self.queue.push_back(Task {
            asked: path.to_owned(),
            found,
            place: task_place,
            depth,
            need: Need::Required,
            nesting: 0,
        });
        Ok(place)
    }

    /// Adds a file that was named by a person or found in PATH: in its place if it is the system's, below `home`
    /// if it is the user's own. Gives its path inside the application, which may be that of a link to it.
    pub(super) fn add_own(
        &mut self,
        path: &str,
        found: &Found,
        home: &str,
        reason: Reason,
    ) -> Result<String, WrapError> {
        refuse_special(found)?;
        let (parent, name) = split(path);
        let parent = self.host.find(parent)?.path;
        let named = format!("{}/{name}", parent.trim_end_matches('/'));
        let of_system = is_system(&named);
        let place = match self.in_root(&named) {
            Some(place) => place,
            None if of_system => named,
            None => format!("{home}/{name}"),
        };
        if !is_system(&found.path) {
            self.application.place(&place, found, reason)?;
        } else if of_system {
            self.application.add(found, reason);
        } else {
            // A link of the user's own to a program of the system.
            self.application.add(&Found { links: Vec::new(), ..found.clone() }, reason);
            self.application.add_link(&place, &found.path);
        }
        Ok(place)
    }

    /// Adds a file so that it is found at the path by which others call for it; gives its own place. That is the
    /// same path, except below an included directory, whose old path then becomes a link to its new one.
    pub(super) fn add_in_place(&mut self, found: &Found, reason: Reason) -> Result<String, WrapError> {
        refuse_special(found)?;
        let mut links = Vec::new();
        for link in &found.links {
            // Links inside an included directory come with it.
            if self.link_root_of(&link.path)?.is_none() {
                links.push(link.clone());
            }
        }
        if let Some(place) = self.link_root_of(&found.path)? {
            self.application.add_links(&links);
            self.application.place(&place, found, reason)?;
            return Ok(place);
        }
        self.application.add(&Found { links, ..found.clone() }, reason);
        Ok(found.path.clone())
    }

    /// The new place of a path below an included directory, to which the directory's old path now leads.
    fn link_root_of(&mut self, path: &str) -> Result<Option<String>, WrapError> {
        if let Some(mount) = shadowing_mount(path) {
            return Err(WrapError::Shadowed { path: path.to_owned(), mount });
        }
        // The outermost one: nothing may lie below a link, and what is in an inner one is in it too.
        let roots = self.roots.iter().filter(|tree| is_below(path, &tree.root));
        let Some(tree) = roots.min_by_key(|tree| tree.root.len()) else { return Ok(None) };
        self.application.add_link(&tree.root, &tree.place);
        Ok(Some(tree.place_of(path)))
    }

    /// Adds a file that others may need, in its place, and has it examined.
    pub(super) fn add_along(
        &mut self,
        asked: &str,
        found: &Found,
        reason: Reason,
        depth: Depth,
    ) -> Result<(), WrapError> {
        let place = self.add_in_place(found, reason)?;
        self.examine_later(asked, found, &place, depth);
        Ok(())
    }

    /// Has a file examined if it is one that may ask for others: an executable or a shared library, which Debian
    /// does not make executable.
    pub(super) fn examine_later(&mut self, asked: &str, found: &Found, place: &str, depth: Depth) {
        if is_executable(found) || split(&found.path).1.contains(".so") {
            self.queue.push_back(Task {
                asked: asked.to_owned(),
                found: found.clone(),
                place: place.to_owned(),
                depth,
                need: Need::Optional,
                nesting: 0,
            });
        }
    }

    /// The path of the program `name` in PATH.
    pub(super) fn look_up(&mut self, name: &str) -> Option<String> {
        let Collector { host, search_path, .. } = self;
        search_path.iter().map(|directory| format!("{}/{name}", directory.trim_end_matches('/'))).find(
            |path| host.probe(path).is_some_and(|found| found.metadata.is_file() && is_executable(&found)),
        )
    }

    fn unknown_program(&self, name: &str) -> WrapError {
        let mut suggestions = self.programs_like(name);
        // Who forgets the `./` means the file that lies right here.
        if self.host.metadata(&join(&self.base_dir, name), name).is_ok() {
            suggestions.insert(0, format!("./{name}"));
        }
        WrapError::UnknownProgram { name: name.to_owned(), suggestions }
    }

    fn programs_like(&self, name: &str) -> Vec<String> {
        let directories = self.search_path.iter();
        let names: Vec<String> = directories.filter_map(|path| self.host.list(path).ok()).flatten().collect();
        nearest(name, names.iter().map(String::as_str))
    }
}

/// Refuses what is no plain file: devices, pipes and sockets mean something only on the machine where they are.
pub(super) fn refuse_special(found: &Found) -> Result<(), WrapError> {
    let path = || found.path.clone().into();
    let kind = found.metadata.file_type();
    let kind = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        return Err(WrapError::IsDirectory { path: path() });
    } else if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    };
    Err(WrapError::Special { path: path(), kind })
}
