//! Gathers the files of an application: the rules that say which file asks for which other, applied until nothing
//! new is asked for.
//!
//! `programs` has the rules for what a person names, `libraries` those for ELF files, `scripts` those for scripts,
//! `packages` those for Debian packages, `trees` those for directories.

mod display;
mod libraries;
mod packages;
mod programs;
mod scripts;
#[cfg(test)]
mod tests;
mod trees;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use protocol::manifest::{MAX_ENTRIES, ManifestError};

use crate::application::Application;
use crate::debian::Debian;
use crate::elf::ElfError;
use crate::error::{MissingLibrary, WrapError};
use crate::host::{Found, Host};
use crate::loader::Loader;
use crate::register::Rules;
use crate::report::Warning;
use crate::script::{LINE_LIMIT, shebang};
use crate::seal::Sealer;
use crate::{Display, Request, Wrapped};
use trees::Tree;

/// Wraps what `request` asks for, with the files of `host`.
pub(crate) fn collect(host: Host, request: &Request) -> Result<Wrapped, WrapError> {
    let mut collector = Collector::new(host, request)?;
    collector.find_roots(&request.include)?;
    let program = collector.program(&request.program)?;
    if let Some(text) = &request.shell_text {
        collector.add_commands_of(text)?;
    }
    // The program's own files go first, so that what it shares with others is put down to it.
    collector.examine_all()?;
    for include in &request.include {
        collector.include(include)?;
    }
    if request.display == Display::Private {
        collector.add_display()?;
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
    /// Included directories of the user's own.
    roots: Vec<Tree>,
    queue: VecDeque<Task>,
    examined: HashMap<String, Depth>,
    packages: HashMap<String, Depth>,
    uses_libc: bool,
    missing: Vec<MissingLibrary>,
    missing_optional: BTreeSet<(String, String)>,
    warnings: BTreeSet<Warning>,
    rules: Rules,
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
            rules: Rules { jit: request.jit, ..Rules::default() },
        })
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
                if elf.is_program || task.need == Need::Optional {
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

    fn finish(mut self, program: &str) -> Result<Wrapped, WrapError> {
        if !self.missing.is_empty() {
            let mut missing = self.missing;
            missing.sort_by(|a, b| (&a.name, &a.needed_by).cmp(&(&b.name, &b.needed_by)));
            missing.dedup();
            return Err(WrapError::MissingLibraries { missing });
        }
        // A plugin often leaves a library to the program that loads it; then it is there under its name.
        let names: HashSet<&str> = self.application.names().collect();
        self.missing_optional.retain(|(library, _)| !names.contains(library.as_str()));
        let missing = self.missing_optional.into_iter();
        let mut warnings = self.warnings;
        warnings.extend(missing.map(|(library, needed_by)| Warning::LibraryNotFound { library, needed_by }));
        let warnings = warnings.into_iter().collect();
        let sealer = Sealer { host: &self.host, loader: &mut self.loader, rules: &self.rules };
        self.application.finish(sealer, program, warnings)
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
