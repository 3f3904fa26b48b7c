//! The application as it grows: what is at which path inside it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use crate::error::WrapError;
use crate::host::{Found, Link, normalize, split};
use crate::report::{Reason, Warning};
use crate::seal::Sealer;
use crate::{Wrapped, host};

/// Most links followed inside the application, as in the kernel.
const MAX_LINKS: usize = 40;

/// The entries of an application before its files are hashed.
#[derive(Debug, Default)]
pub(crate) struct Application {
    entries: BTreeMap<String, Planned>,
    /// Files whose place depends on links that may still be added: [`Application::place`] puts them at the end.
    moved: BTreeMap<String, Planned>,
    /// Links that only fill a gap: a file found at the same place goes before.
    fallback_links: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Planned {
    File { source: String, executable: bool, reason: Reason },
    Link { target: String },
    Directory,
}

/// Whether an entry was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    Known,
}

impl Application {
    /// Adds a file at the place that it has on the host, with every link that leads to it.
    pub fn add(&mut self, found: &Found, reason: Reason) -> Added {
        self.add_links(&found.links);
        if self.entries.contains_key(&found.path) {
            return Added::Known;
        }
        self.entries.insert(found.path.clone(), Planned::file(found, reason));
        Added::New
    }

    /// Adds a file at another place than on the host.
    ///
    /// # Errors
    /// Another file is there already.
    pub fn place(&mut self, place: &str, found: &Found, reason: Reason) -> Result<(), WrapError> {
        match self.moved.get(place) {
            Some(Planned::File { source, .. }) if *source != found.path => {
                return Err(collision(place, source, &found.path));
            }
            Some(_) => {}
            None => {
                self.moved.insert(place.to_owned(), Planned::file(found, reason));
            }
        }
        Ok(())
    }

    pub fn add_links(&mut self, links: &[Link]) {
        for link in links {
            self.add_link(&link.path, &link.target);
        }
    }

    pub fn add_link(&mut self, path: &str, target: &str) {
        if !self.entries.contains_key(path) {
            self.entries.insert(path.to_owned(), Planned::Link { target: target.to_owned() });
        }
    }

    /// Adds a link unless something else turns out to be at its place.
    pub fn add_fallback_link(&mut self, path: &str, target: &str) {
        self.fallback_links.insert(path.to_owned(), target.to_owned());
    }

    pub fn add_directory(&mut self, path: &str) {
        self.entries.entry(path.to_owned()).or_insert(Planned::Directory);
    }

    /// How many entries there are so far.
    pub fn len(&self) -> usize {
        self.entries.len() + self.moved.len()
    }

    /// The last parts of the paths of all entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().chain(self.moved.keys()).map(|path| split(path).1)
    }

    /// Settles where everything lies, and has it sealed.
    ///
    /// # Errors
    /// Two files for one place; else as [`Sealer::seal`].
    pub fn finish(
        mut self,
        sealer: Sealer<'_>,
        program: &str,
        warnings: Vec<Warning>,
    ) -> Result<Wrapped, WrapError> {
        self.put_moved()?;
        for (path, target) in std::mem::take(&mut self.fallback_links) {
            let path = self.through_links(&path);
            self.entries.entry(path).or_insert(Planned::Link { target });
        }
        self.drop_implied_directories();

        sealer.seal(self.entries, program, warnings)
    }

    fn put_moved(&mut self) -> Result<(), WrapError> {
        for (place, planned) in std::mem::take(&mut self.moved) {
            let place = self.through_links(&place);
            if let (Some(Planned::File { source: first, .. }), Planned::File { source, .. }) =
                (self.entries.get(&place), &planned)
                && first != source
            {
                return Err(collision(&place, first, source));
            }
            self.entries.insert(place, planned);
        }
        Ok(())
    }

    /// `path` with every link of the application above it followed, because a manifest has nothing below a link.
    fn through_links(&self, path: &str) -> String {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let link =
                path.match_indices('/').skip(1).find_map(|(end, _)| match self.entries.get(&path[..end]) {
                    Some(Planned::Link { target }) => Some((end, target)),
                    _ => None,
                });
            let Some((end, target)) = link else { break };
            let target = match target.strip_prefix('/') {
                Some(_) => target.clone(),
                None => format!("{}/{target}", split(&path[..end]).0),
            };
            path = normalize(&format!("{target}{}", &path[end..]));
        }
        path
    }

    /// Parents of entries need no entry of their own.
    fn drop_implied_directories(&mut self) {
        let mut next: Option<String> = None;
        let mut implied = Vec::new();
        for (path, planned) in self.entries.iter().rev() {
            if matches!(planned, Planned::Directory)
                && next.as_deref().is_some_and(|next| host::is_below(next, path))
            {
                implied.push(path.clone());
            }
            next = Some(path.clone());
        }
        for path in implied {
            self.entries.remove(&path);
        }
    }
}

impl Planned {
    fn file(found: &Found, reason: Reason) -> Self {
        let executable = found.metadata.permissions().mode() & 0o111 != 0;
        Planned::File { source: found.path.clone(), executable, reason }
    }
}

fn collision(place: &str, first: &str, second: &str) -> WrapError {
    WrapError::Collision { place: place.into(), first: first.into(), second: second.into() }
}
