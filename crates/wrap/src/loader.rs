//! Finds shared libraries the way ld.so(8) would: breadth first from a program, by DT_RPATH, DT_RUNPATH,
//! /etc/ld.so.conf and the default directories.
//!
//! LD_LIBRARY_PATH and /etc/ld.so.preload belong to the submitter's session and are not regarded; the
//! `glibc-hwcaps` directories hold faster twins of libraries that are found anyway.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::elf::{self, Elf, ElfError};
use crate::error::{MissingLibrary, WrapError};
use crate::host::{Found, Host, normalize, split};
use crate::layout::shadowing_mount;
use crate::ld_conf;

/// Where ld.so looks without a cache: Debian's multiarch directories, then the ones of other distributions.
pub(crate) const DEFAULT_DIRECTORIES: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// Where distributions keep their C library, which is among what their loader searches by default.
const LIBC_DIRECTORIES: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];

/// What `$LIB` may stand for; which one is compiled into the loader.
const LIB_TOKENS: [&str; 3] = ["lib/x86_64-linux-gnu", "lib64", "lib"];

/// A library of a closure.
#[derive(Debug)]
pub(crate) struct Library {
    pub name: String,
    /// The file and the links that lead to it.
    pub found: Found,
    /// Where the loader finds it on this machine, links not followed.
    pub on_host: String,
    /// Where the loader will look for it inside the application.
    pub in_app: String,
    pub needed_by: String,
    pub via: Via,
}

/// Which rule of ld.so(8) found a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// DT_RPATH, DT_RUNPATH, or a path in DT_NEEDED itself.
    Object,
    /// A directory of /etc/ld.so.conf that is not a default one. Applications have no ld.so.cache.
    Configuration,
    Default,
}

/// Everything that a file needs to be loaded.
#[derive(Debug, Default)]
pub(crate) struct Closure {
    pub libraries: Vec<Library>,
    pub missing: Vec<MissingLibrary>,
}

/// The search for libraries, with what it has learned so far.
#[derive(Debug, Default)]
pub(crate) struct Loader {
    configured: Option<Vec<String>>,
    elves: HashMap<String, Result<Rc<Elf>, ElfError>>,
    /// Where names were found that no RPATH or RUNPATH had a say in.
    plain: HashMap<String, Option<(String, Via)>>,
    /// Libraries whose own closure is complete without any inherited RPATH.
    closed: HashSet<String>,
}

/// One loaded file, as ld.so's link map has it.
struct Object {
    on_host: String,
    in_app: String,
    elf: Rc<Elf>,
    loaded_by: Option<usize>,
}

/// A directory to search: where it is now and where it will be in the application. The two differ only for what
/// is relative to a program that moves.
struct Directory {
    on_host: String,
    in_app: String,
    via: Via,
}

impl Loader {
    /// The ELF file at `path`, a path without links.
    pub fn elf(&mut self, host: &Host, path: &str) -> Result<Result<Rc<Elf>, ElfError>, WrapError> {
        if let Some(known) = self.elves.get(path) {
            return Ok(known.clone());
        }
        let read = elf::read(host.open(path)?).map(Rc::new);
        self.elves.insert(path.to_owned(), read.clone());
        Ok(read)
    }

    /// All libraries that the file at `on_host`, to be placed at `in_app`, needs directly and indirectly.
    pub fn close(
        &mut self,
        host: &mut Host,
        on_host: &str,
        in_app: &str,
        elf: Rc<Elf>,
    ) -> Result<Closure, WrapError> {
        let mut loaded: HashSet<String> = elf.soname.iter().cloned().collect();
        let mut objects =
            vec![Object { on_host: on_host.into(), in_app: in_app.into(), elf, loaded_by: None }];
        let mut closure = Closure::default();
        let mut next = 0;
        while next < objects.len() {
            let needing = Rc::clone(&objects[next].elf);
            for name in &needing.needed {
                if !loaded.insert(name.clone()) {
                    continue;
                }
                let needed_by = objects[next].on_host.clone();
                let Some(hit) = self.search(host, name, next, &objects)? else {
                    let searched = self.searched(host, next, &objects);
                    closure.missing.push(MissingLibrary { name: name.clone(), needed_by, searched });
                    continue;
                };
                let library = Library { name: name.clone(), needed_by, ..hit };
                if !inherits_rpath(next, &objects) && self.closed.contains(&library.found.path) {
                    closure.libraries.push(library);
                    continue;
                }
                let elf = self
                    .elf(host, &library.found.path)?
                    .expect("the search takes no file that is not a sound ELF file");
                loaded.extend(elf.soname.clone());
                objects.push(Object {
                    on_host: library.on_host.clone(),
                    in_app: library.in_app.clone(),
                    elf,
                    loaded_by: Some(next),
                });
                closure.libraries.push(library);
            }
            next += 1;
        }
        if closure.missing.is_empty() && objects.iter().all(|object| object.elf.rpath.is_none()) {
            self.closed.extend(closure.libraries.iter().map(|library| library.found.path.clone()));
        }
        Ok(closure)
    }

    fn search(
        &mut self,
        host: &mut Host,
        name: &str,
        needing: usize,
        objects: &[Object],
    ) -> Result<Option<Library>, WrapError> {
        if name.contains('/') {
            // A relative one would depend on the working directory: not found here is the better surprise.
            let directory = split(name).0.to_owned();
            let directory = Directory { on_host: directory.clone(), in_app: directory, via: Via::Object };
            return match name.strip_prefix('/') {
                Some(_) => self.take(host, split(name).1, &directory),
                None => Ok(None),
            };
        }
        for directory in object_directories(needing, objects) {
            if let Some(library) = self.take(host, name, &directory)? {
                return Ok(Some(library));
            }
        }
        if let Some(known) = self.plain.get(name) {
            let Some((directory, via)) = known.clone() else { return Ok(None) };
            return self.take(host, name, &Directory { on_host: directory.clone(), in_app: directory, via });
        }
        let mut hit = None;
        for (directory, via) in self.plain_directories(host) {
            let there = Directory { on_host: directory.clone(), in_app: directory.clone(), via };
            hit = self.take(host, name, &there)?;
            if hit.is_some() {
                self.plain.insert(name.to_owned(), Some((directory, via)));
                return Ok(hit);
            }
        }
        self.plain.insert(name.to_owned(), None);
        Ok(hit)
    }

    /// The library `name` in `directory`, unless it isn't there or is of another architecture: ld.so passes over
    /// those without a word.
    fn take(
        &mut self,
        host: &mut Host,
        name: &str,
        directory: &Directory,
    ) -> Result<Option<Library>, WrapError> {
        let on_host = format!("{}/{name}", directory.on_host);
        let Some(found) = host.probe(&on_host).filter(|found| found.metadata.is_file()) else {
            return Ok(None);
        };
        if self.elf(host, &found.path)?.is_err() {
            return Ok(None);
        }
        let mut in_app = format!("{}/{name}", directory.in_app);
        if shadowing_mount(&in_app).is_some() {
            in_app = format!("{}/{name}", self.home(host));
        }
        let via = directory.via;
        Ok(Some(Library { name: name.into(), found, on_host, in_app, needed_by: String::new(), via }))
    }

    /// The default directory that the loader is sure to search: the one that holds the C library.
    pub fn home(&mut self, host: &mut Host) -> &'static str {
        LIBC_DIRECTORIES
            .into_iter()
            .find(|directory| host.is_file(&format!("{directory}/libc.so.6")))
            .unwrap_or(LIBC_DIRECTORIES[0])
    }

    fn plain_directories(&mut self, host: &Host) -> Vec<(String, Via)> {
        let configured = self.configured.get_or_insert_with(|| ld_conf::directories(host));
        let via = |directory: &String| match DEFAULT_DIRECTORIES.contains(&directory.as_str()) {
            true => Via::Default,
            false => Via::Configuration,
        };
        let configured = configured.iter().map(|directory| (directory.clone(), via(directory)));
        let default = DEFAULT_DIRECTORIES.into_iter().map(|directory| (directory.to_owned(), Via::Default));
        configured.chain(default).collect()
    }

    /// The directories for an error message: each once, and only those that exist or that the file itself names.
    fn searched(&mut self, host: &mut Host, needing: usize, objects: &[Object]) -> Vec<String> {
        let mut searched: Vec<_> =
            object_directories(needing, objects).into_iter().map(|directory| directory.on_host).collect();
        let plain = self.plain_directories(host);
        searched
            .extend(plain.into_iter().map(|(directory, _)| directory).filter(|d| host.probe(d).is_some()));
        let mut seen = HashSet::new();
        searched.retain(|directory| seen.insert(directory.clone()));
        searched
    }
}

/// The directories that files themselves name: the DT_RPATH of the needing file and of those that loaded it, unless
/// it has a DT_RUNPATH, which stands alone and is not inherited.
fn object_directories(needing: usize, objects: &[Object]) -> Vec<Directory> {
    let object = &objects[needing];
    if let Some(runpath) = &object.elf.runpath {
        return expand(runpath, object);
    }
    let mut directories = Vec::new();
    let mut chain = Some(needing);
    while let Some(index) = chain {
        let object = &objects[index];
        directories.extend(object.elf.rpath.iter().flat_map(|rpath| expand(rpath, object)));
        chain = object.loaded_by;
    }
    directories
}

fn inherits_rpath(needing: usize, objects: &[Object]) -> bool {
    let mut chain = Some(needing);
    std::iter::from_fn(|| {
        let object = &objects[chain?];
        chain = object.loaded_by;
        Some(object)
    })
    .any(|object| object.elf.rpath.is_some())
}

/// Expands the tokens of a search path for `object`. Empty and relative parts would mean the working directory and
/// are passed over.
fn expand(path: &str, object: &Object) -> Vec<Directory> {
    let mut directories = Vec::new();
    for part in path.split(':') {
        let variants = if part.contains("LIB") { LIB_TOKENS.as_slice() } else { &LIB_TOKENS[..1] };
        for lib in variants {
            let expand_for = |file: &str| {
                let origin = split(file).0;
                [("ORIGIN", origin), ("LIB", lib), ("PLATFORM", "x86_64")].into_iter().fold(
                    part.to_owned(),
                    |text, (token, value)| {
                        text.replace(&format!("${{{token}}}"), value).replace(&format!("${token}"), value)
                    },
                )
            };
            let (on_host, in_app) = (expand_for(&object.on_host), expand_for(&object.in_app));
            if on_host.starts_with('/') {
                // `..` is left in the host's path, where links decide; inside, the path must be plain.
                let (on_host, in_app) = (on_host.trim_end_matches('/').to_owned(), normalize(&in_app));
                let in_app = if normalize(&on_host) == in_app { on_host.clone() } else { in_app };
                directories.push(Directory { on_host, in_app, via: Via::Object });
            }
        }
    }
    directories
}
