//! The last step: hashes what has been gathered, registers it, puts the portal loader before its programs, and
//! writes the manifest.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use model::{BlobHash, ByteSize};
use portal_loader::{DIRECTORY, JIT, LOADER, NEXT};
use protocol::manifest::{Entry, FileKind, MANIFEST_VERSION, Manifest};

use crate::Wrapped;
use crate::application::Planned;
use crate::error::WrapError;
use crate::hash::{Hashed, Looks, hash_files};
use crate::host::{Host, split};
use crate::loader::Loader;
use crate::redirect::{Kept, redirect};
use crate::register::{Candidate, Registered, Rules, register};
use crate::report::{IncludedFile, Reason, Report, Warning};
use crate::source::Source;

/// Everything that sealing needs besides the entries.
pub(crate) struct Sealer<'a> {
    pub host: &'a Host,
    pub loader: &'a mut Loader,
    pub rules: &'a Rules,
}

/// The content of files, by their paths on the host.
struct Contents {
    hashed: HashMap<String, (Hashed, PathBuf)>,
}

/// A program with the portal loader before it.
#[derive(Clone, Debug)]
struct Rewritten {
    hash: BlobHash,
    source: Source,
}

impl Sealer<'_> {
    /// Makes the application of its entries.
    ///
    /// # Errors
    /// A file that can't be read or is being changed, or that no sandbox would run; too many entries.
    pub fn seal(
        mut self,
        entries: BTreeMap<String, Planned>,
        program: &str,
        warnings: Vec<Warning>,
    ) -> Result<Wrapped, WrapError> {
        let contents = Contents::read(self.host, &entries)?;
        let files = entries.iter().filter_map(|(place, planned)| match planned {
            Planned::File { source, executable, .. } => {
                let looks = contents.hashed[source].0.looks;
                Some(Candidate { place, source, executable: *executable, looks })
            }
            Planned::Link { .. } | Planned::Directory => None,
        });
        let mut registered = register(self.host, self.loader, self.rules, files)?;
        registered.warnings.splice(0..0, warnings);
        let mut doors = Doors::default();
        let rewritten = self.rewrite(&entries, &contents, &mut registered, &mut doors)?;
        write(entries, &contents, registered, &rewritten, &doors, program)
    }

    /// Puts the portal loader before every program.
    fn rewrite(
        &mut self,
        entries: &BTreeMap<String, Planned>,
        contents: &Contents,
        registered: &mut Registered,
        doors: &mut Doors,
    ) -> Result<BTreeMap<String, Rewritten>, WrapError> {
        let mut done: HashMap<(String, String), Result<Rewritten, Kept>> = HashMap::new();
        let mut rewritten = BTreeMap::new();
        for (place, planned) in entries {
            let Planned::File { source, .. } = planned else { continue };
            let kind = registered.kinds[place];
            if !kind.is_program() || contents.hashed[source].0.looks != Looks::Elf {
                continue;
            }
            let Ok(elf) = self.loader.elf(self.host, source)? else { continue };
            let door = doors.of(elf.interpreter.as_deref(), kind == FileKind::JitProgram);
            let key = (source.clone(), door);
            if !done.contains_key(&key) {
                let result = contents.rewrite(source, &key.1)?;
                done.insert(key.clone(), result);
            }
            match done[&key].clone() {
                Ok(program) => {
                    doors.open(key.1, elf.interpreter.clone());
                    rewritten.insert(place.clone(), program);
                }
                Err(Kept(why)) => {
                    let path = place.clone();
                    registered.warnings.push(Warning::NotRewritten { path, why: why.to_owned() });
                    if elf.interpreter.is_some() {
                        self.let_loaders_start(entries, registered);
                    }
                }
            }
        }
        Ok(rewritten)
    }

    /// For a program that could not be changed the kernel must start the loader that it names.
    fn let_loaders_start(&self, entries: &BTreeMap<String, Planned>, registered: &mut Registered) {
        for (place, planned) in entries {
            if matches!(planned, Planned::File { source, .. } if self.rules.loaders.contains(source)) {
                registered.kinds.insert(place.clone(), FileKind::Program);
            }
        }
    }
}

impl Contents {
    fn read(host: &Host, entries: &BTreeMap<String, Planned>) -> Result<Self, WrapError> {
        let sources = entries.values().filter_map(|planned| match planned {
            Planned::File { source, .. } => Some(source.clone()),
            Planned::Link { .. } | Planned::Directory => None,
        });
        let mut sources: Vec<String> = sources.collect();
        sources.sort_unstable();
        sources.dedup();
        let paths: Vec<PathBuf> = sources.iter().map(|source| host.real(source)).collect();
        let hashes = hash_files(&paths)?;
        let hashed = sources.into_iter().zip(hashes.into_iter().zip(paths)).collect();
        Ok(Contents { hashed })
    }

    /// Has the program at `source` start through `door`.
    fn rewrite(&self, source: &str, door: &str) -> Result<Result<Rewritten, Kept>, WrapError> {
        let (hashed, path) = &self.hashed[source];
        let read = |error| WrapError::Read { path: source.into(), source: error };
        let bytes = fs::read(path).map_err(read)?;
        if blake3::hash(&bytes).as_bytes() != &hashed.hash.0 {
            return Err(WrapError::Changed { path: source.into() });
        }
        let patches = match redirect(&bytes[..], door) {
            Ok(patches) => patches,
            Err(kept) => return Ok(Err(kept)),
        };
        let source = Source::Rewritten { path: path.clone(), patches };
        let changed = source.read().map_err(read)?;
        Ok(Ok(Rewritten { hash: BlobHash(*blake3::hash(&changed).as_bytes()), source }))
    }
}

/// The paths by which programs name the portal loader: one for each loader of their own that it must go on to,
/// and for static programs one that leads on to nothing, each also for programs that make code.
#[derive(Debug, Default)]
struct Doors {
    interpreters: Vec<String>,
    /// Those that a program uses, with the loader behind.
    open: BTreeMap<String, Option<String>>,
}

/// Where the loader itself lies.
const LOADER_NAME: &str = "loader";

impl Doors {
    fn of(&mut self, interpreter: Option<&str>, makes_code: bool) -> String {
        let jit = if makes_code { JIT.to_string() } else { String::new() };
        let Some(interpreter) = interpreter else { return format!("{DIRECTORY}/{jit}s") };
        let known = self.interpreters.iter().position(|known| known == interpreter);
        let number = known.unwrap_or_else(|| {
            self.interpreters.push(interpreter.to_owned());
            self.interpreters.len() - 1
        });
        format!("{DIRECTORY}/{jit}{number}")
    }

    fn open(&mut self, door: String, interpreter: Option<String>) {
        self.open.insert(door, interpreter);
    }

    /// The entries for the doors that are used, and for the loader behind them.
    fn entries(&self) -> BTreeMap<String, Entry> {
        let mut entries = BTreeMap::new();
        for (door, interpreter) in &self.open {
            entries.insert(door.clone(), Entry::Symlink { target: LOADER_NAME.to_owned() });
            if let Some(interpreter) = interpreter {
                entries.insert(format!("{door}{NEXT}"), Entry::Symlink { target: interpreter.clone() });
            }
        }
        if !entries.is_empty() {
            let hash = BlobHash(*blake3::hash(LOADER).as_bytes());
            let size = LOADER.len() as u64;
            let kind = FileKind::Program;
            entries.insert(format!("{DIRECTORY}/{LOADER_NAME}"), Entry::File { hash, size, kind });
        }
        entries
    }
}

fn write(
    planned: BTreeMap<String, Planned>,
    contents: &Contents,
    registered: Registered,
    rewritten: &BTreeMap<String, Rewritten>,
    doors: &Doors,
    program: &str,
) -> Result<Wrapped, WrapError> {
    let Registered { kinds, jit, warnings } = registered;
    let mut report = Report { warnings, jit, ..Report::default() };
    let mut entries = doors.entries();
    let mut sources = BTreeMap::new();
    for (path, entry) in &entries {
        match entry {
            Entry::File { hash, size, .. } => {
                sources.insert(*hash, Source::BuiltIn(LOADER));
                let file = IncludedFile {
                    source: "(built in)".to_owned(),
                    size: ByteSize(*size),
                    reason: Reason::PortalLoader,
                };
                report.files.insert(path.clone(), file);
            }
            Entry::Symlink { .. } | Entry::Directory => report.links += 1,
        }
    }
    for (path, planned) in planned {
        let entry = match planned {
            Planned::Link { target } => {
                report.links += 1;
                Entry::Symlink { target }
            }
            Planned::Directory => Entry::Directory,
            Planned::File { source, reason, .. } => {
                let (Hashed { hash, size, .. }, real) = &contents.hashed[&source];
                let (hash, content) = match rewritten.get(&path) {
                    Some(program) => (program.hash, program.source.clone()),
                    None => (*hash, Source::File(real.clone())),
                };
                sources.insert(hash, content);
                report.files.insert(path.clone(), IncludedFile { source, size: ByteSize(*size), reason });
                Entry::File { hash, size: *size, kind: kinds[&path] }
            }
        };
        entries.insert(path, entry);
    }
    let name = split(program).1.to_owned();
    let manifest = Manifest { version: MANIFEST_VERSION, name, program: program.into(), entries };
    manifest.check()?;
    report.bytes = ByteSize(manifest.blobs().values().sum());
    Ok(Wrapped { manifest, sources, report })
}
