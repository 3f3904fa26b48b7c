//! Gathers the files of an application: the rules that say which file asks for which other, applied until nothing
//! new is asked for.
//!
//! `scripts` has the rules for scripts, `packages` those for Debian packages, `trees` those for directories.

mod packages;
mod scripts;
#[cfg(test)]
mod tests;
mod trees;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use protocol::manifest::{MAX_ENTRIES, ManifestError};

use crate::application::Application;
use crate::debian::Debian;
use crate::elf::ElfError;
use crate::error::{MissingLibrary, WrapError};
use crate::host::{Found, Host, split};
use crate::layout::{APP, COMMANDS, is_system, shadowing_mount};
use crate::loader::{Library, Loader, Via};
use crate::report::{Reason, Warning};
use crate::script::{LINE_LIMIT, shebang};
use crate::suggest::nearest;
use crate::{Request, Wrapped};

/// Wraps what `request` asks for, with the files of `host`.
pub(crate) fn collect(host: Host, request: &Request) -> Result<Wrapped, WrapError> {
    let mut collector = Collector::new(host, request)?;
    collector.find_roots(&request.include)?;
    let program = collector.program(&request.program)?;
    // The program's own files go first, so that what it shares with others is put down to it.
    collector.examine_all()?;
    for include in &request.include {
        collector.include(include)?;
    }
    collector.examine_all()?;
    collector.add_what_libc_opens()?;
    collector.finish(&program)
}

/// How far the rules are followed from a file on. Each level does what those before it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// What the kernel and the loader need to start it: interpreter and libraries.
    Start,
    /// If it is a shell script, also the commands that it runs, each as far as `Start`.
    Commands,
    /// Its package and what that depends on.
    Package,
    /// If it is a shell script, its commands as far as `Package`.
    PackagedCommands,
    /// If it is a shell script, all words that may be commands, and the paths that it names.
    Whole,
}

/// What it means when something that a file needs is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The job can't run: an error.
    Required,
    /// The file came along with others and may never be used: a warning.
    Optional,
}

/// A file that has been added and may ask for more.
#[derive(Debug)]
struct Task {
    /// The path by which it was asked for.
    asked: String,
    found: Found,
    /// Its place inside the application.
    place: String,
    depth: Depth,
    need: Need,
    /// How many scripts it is the interpreter of the interpreter of.
    nesting: usize,
}

struct Collector {
    host: Host,
    base_dir: String,
    search_path: Vec<String>,
    loader: Loader,
    debian: Option<Debian>,
    application: Application,
    /// Included directories of the user's own, without links, and their places.
    roots: Vec<(String, String)>,
    queue: VecDeque<Task>,
    examined: HashMap<String, Depth>,
    packages: HashMap<String, Depth>,
    uses_libc: bool,
    missing: Vec<MissingLibrary>,
    missing_optional: BTreeSet<(String, String)>,
    warnings: BTreeSet<Warning>,
}

impl Collector {
    fn new(host: Host, request: &Request) -> Result<Self, WrapError> {
        let base_dir = std::path::absolute(&request.base_dir)
            .map_err(|source| WrapError::Read { path: request.base_dir.clone(), source })?;
        let text = |path: &Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| WrapError::NotUtf8 { path: path.into() })
        };
        let base_dir = text(&base_dir)?;
        let search_path = text(Path::new(&request.search_path))?;
        let search_path = search_path.split(':').map(|part| join(&base_dir, part)).collect();
        Ok(Collector {
            host,
            base_dir,
            search_path,
            loader: Loader::default(),
            debian: None,
            application: Application::default(),
            roots: Vec::new(),
            queue: VecDeque::new(),
            examined: HashMap::new(),
            packages: HashMap::new(),
            uses_libc: false,
            missing: Vec::new(),
            missing_optional: BTreeSet::new(),
            warnings: BTreeSet::new(),
        })
    }

    /// Adds the program; gives its path inside the application.
    fn program(&mut self, name: &str) -> Result<String, WrapError> {
        let path = if name.contains('/') {
            join(&self.base_dir, name)
        } else {
            self.look_up(name).ok_or_else(|| self.unknown_program(name))?
        };
        self.add_executable(&path, APP, Reason::Program, Depth::Whole)
    }

    /// Adds one thing that the submitter has named.
    fn include(&mut self, what: &str) -> Result<(), WrapError> {
        if let Some(package) = what.strip_prefix("deb:") {
            return self.include_package(package);
        }
        let path = join(&self.base_dir, what);
        if !what.contains('/') && self.host.probe(&path).is_none() {
            let path = self.look_up(what).ok_or_else(|| self.unknown_program(what))?;
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
    fn add_executable(
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
    fn add_own(
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

    /// Adds a file at exactly the path by which others call for it.
    fn add_in_place(&mut self, found: &Found, reason: Reason) -> Result<(), WrapError> {
        refuse_special(found)?;
        let places = found.links.iter().map(|link| &link.path).chain([&found.path]);
        for path in places {
            if let Some(mount) = shadowing_mount(path) {
                return Err(WrapError::Shadowed { path: path.clone(), mount });
            }
        }
        self.application.add(found, reason);
        Ok(())
    }

    fn examine_all(&mut self) -> Result<(), WrapError> {
        while let Some(task) = self.queue.pop_front() {
            if self.application.len() > MAX_ENTRIES {
                return Err(ManifestError::TooManyEntries { found: self.application.len() }.into());
            }
            let before = self.examined.get(&task.found.path).copied();
            if before.is_some_and(|before| before >= task.depth) && task.need == Need::Optional {
                continue;
            }
            self.examined.insert(task.found.path.clone(), task.depth.max(before.unwrap_or(Depth::Start)));
            self.examine(&task)?;
        }
        Ok(())
    }

    fn examine(&mut self, task: &Task) -> Result<(), WrapError> {
        let owned = task.depth >= Depth::Package && self.add_packages_of(task)?;
        let path = || task.found.path.clone().into();
        let why = match self.loader.elf(&self.host, &task.found.path)? {
            Ok(elf) => {
                let is_library = elf.interpreter.is_none() && !elf.needed.is_empty();
                if !is_library || task.need == Need::Optional {
                    return self.examine_elf(task, owned);
                }
                "it is a shared library"
            }
            Err(ElfError::NotElf) => {
                let head = self.host.head(&task.found.path, LINE_LIMIT)?;
                if let Some(line) = shebang(&head) {
                    return self.examine_script(task, &line);
                }
                "it begins with neither"
            }
            Err(_) if task.need == Need::Optional => return Ok(()),
            Err(ElfError::Architecture(found)) => {
                return Err(WrapError::Architecture { path: path(), found });
            }
            Err(ElfError::Malformed(why)) => return Err(WrapError::MalformedElf { path: path(), why }),
        };
        match task.need {
            Need::Required => Err(WrapError::NotProgram { path: path(), why }),
            Need::Optional => Ok(()),
        }
    }

    fn examine_elf(&mut self, task: &Task, owned: bool) -> Result<(), WrapError> {
        let Ok(elf) = self.loader.elf(&self.host, &task.found.path)? else { return Ok(()) };
        if let Some(interpreter) = &elf.interpreter {
            let Some(found) = self.host.probe(interpreter) else {
                return self.no_interpreter(task, interpreter);
            };
            self.add_in_place(&found, Reason::Interpreter { of: task.place.clone() })?;
        }
        let closure = self.loader.close(&mut self.host, &task.found.path, &task.place, elf)?;
        for library in &closure.libraries {
            self.add_library(library)?;
        }
        match task.need {
            Need::Required => self.missing.extend(closure.missing),
            Need::Optional => {
                let missing = closure.missing.into_iter().map(|library| (library.name, library.needed_by));
                self.missing_optional.extend(missing);
            }
        }
        // A program from no package still relies on the data and plugins of the libraries that it uses.
        if task.depth >= Depth::Package && !owned {
            for library in &closure.libraries {
                self.add_package_of_library(&library.found)?;
            }
        }
        Ok(())
    }

    fn add_library(&mut self, library: &Library) -> Result<(), WrapError> {
        self.uses_libc |= library.name == "libc.so.6";
        let reason = Reason::Library { needed_by: library.needed_by.clone() };
        if library.in_app != library.on_host {
            return self.application.place(&library.in_app, &library.found, reason);
        }
        if shadowing_mount(&library.found.path).is_some() {
            // A link that leads out of the application: its target's content takes the link's place.
            return self.application.place(&library.in_app, &library.found, reason);
        }
        self.add_passed_directories(&library.on_host);
        self.application.add(&library.found, reason);
        if library.via == Via::Configuration {
            let home = self.loader.home(&mut self.host);
            self.application.add_fallback_link(&format!("{home}/{}", library.name), &library.on_host);
        }
        Ok(())
    }

    /// The kernel walks through `x` in `x/../lib`, so `x` must exist.
    fn add_passed_directories(&mut self, path: &str) {
        for (at, _) in path.match_indices("/../") {
            if let Some(found) = self.host.probe(&path[..at]).filter(|found| found.metadata.is_dir()) {
                self.application.add_links(&found.links);
                self.application.add_directory(&found.path);
            }
        }
    }

    /// Adds what glibc starts or loads without being linked to it: a shell for system(3) and popen(3), and the
    /// unwinder for pthread_exit(3) and backtrace(3).
    fn add_what_libc_opens(&mut self) -> Result<(), WrapError> {
        if !self.uses_libc {
            return Ok(());
        }
        let unwinder = format!("{}/libgcc_s.so.1", self.loader.home(&mut self.host));
        for path in ["/bin/sh", &unwinder] {
            if let Some(found) = self.host.probe(path) {
                self.add_along(path, &found, Reason::OpenedByLibc, Depth::Start)?;
            }
        }
        self.examine_all()
    }

    /// Adds a file that others may need, in its place, and has it examined.
    fn add_along(
        &mut self,
        asked: &str,
        found: &Found,
        reason: Reason,
        depth: Depth,
    ) -> Result<(), WrapError> {
        self.add_in_place(found, reason)?;
        self.examine_later(asked, found, &found.path, depth);
        Ok(())
    }

    fn examine_later(&mut self, asked: &str, found: &Found, place: &str, depth: Depth) {
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
    fn look_up(&mut self, name: &str) -> Option<String> {
        let Collector { host, search_path, .. } = self;
        search_path.iter().map(|directory| format!("{}/{name}", directory.trim_end_matches('/'))).find(
            |path| host.probe(path).is_some_and(|found| found.metadata.is_file() && is_executable(&found)),
        )
    }

    fn unknown_program(&self, name: &str) -> WrapError {
        let mut names: Vec<String> =
            self.search_path.iter().filter_map(|path| self.host.list(path).ok()).flatten().collect();
        names.sort_unstable();
        let mut suggestions = nearest(name, names.iter().map(String::as_str));
        // Who forgets the `./` means the file that lies right here.
        if self.host.metadata(&join(&self.base_dir, name), name).is_ok() {
            suggestions.insert(0, format!("./{name}"));
        }
        WrapError::UnknownProgram { name: name.to_owned(), suggestions }
    }

    fn finish(self, program: &str) -> Result<Wrapped, WrapError> {
        if !self.missing.is_empty() {
            let mut missing = self.missing;
            missing.sort_by(|a, b| (&a.name, &a.needed_by).cmp(&(&b.name, &b.needed_by)));
            missing.dedup();
            return Err(WrapError::MissingLibraries { missing });
        }
        // A plugin often leaves a library to the program that loads it; then it is there under its name.
        let names: HashSet<&str> = self.application.names().collect();
        let mut warnings = self.warnings;
        warnings.extend(
            self.missing_optional
                .into_iter()
                .filter(|(library, _)| !names.contains(library.as_str()))
                .map(|(library, needed_by)| Warning::LibraryNotFound { library, needed_by }),
        );
        drop(names);
        self.application.finish(&self.host, program, warnings.into_iter().collect())
    }
}

/// `path` as it is seen from `base`. A `..` is left for the links before it to decide.
fn join(base: &str, path: &str) -> String {
    let (base, path) = if path.starts_with('/') { ("", path) } else { (base, path) };
    let parts = base.split('/').chain(path.split('/')).filter(|part| !part.is_empty() && *part != ".");
    parts.fold(String::new(), |joined, part| joined + "/" + part)
}

fn is_executable(found: &Found) -> bool {
    found.metadata.is_file() && found.metadata.permissions().mode() & 0o111 != 0
}

fn refuse_special(found: &Found) -> Result<(), WrapError> {
    let kind = found.metadata.file_type();
    let kind = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => return Err(WrapError::IsDirectory { path: found.path.clone().into() }),
        () if kind.is_fifo() => "named pipe",
        () if kind.is_socket() => "socket",
        () => "device",
    };
    Err(WrapError::Special { path: found.path.clone().into(), kind })
}
