//! Registration (§4.1.2): decides what each file of an application may be used for, and refuses files that no
//! sandbox would let run.

use std::collections::{BTreeMap, HashSet};

use protocol::manifest::FileKind;

use crate::elf::ElfError;
use crate::engines::{self, Elves};
use crate::error::WrapError;
use crate::hash::Looks;
use crate::host::Host;
use crate::loader::Loader;
use crate::report::Warning;

/// Whether programs of an application may make code while they run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jit {
    /// Those may that are known to: they load an engine such as `libjvm.so`.
    #[default]
    Auto,
    /// All may.
    On,
    /// None may.
    Off,
}

/// What registration needs to know of how an application came together. Paths are the host's.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub jit: Jit,
    /// ELF files without which the application can't start.
    pub essential: HashSet<String>,
    /// Loaders named by programs: the portal loader maps them, so that the kernel need not execute them.
    pub loaders: HashSet<String>,
}

/// A file to be registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// Its path inside the application.
    pub place: &'a str,
    /// Its path on the host.
    pub source: &'a str,
    /// Whether it has an `x` on the host.
    pub executable: bool,
    pub looks: Looks,
}

/// All files of an application by their places.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    pub kinds: BTreeMap<String, FileKind>,
    /// Programs that may make code, with the reason.
    pub jit: BTreeMap<String, String>,
    pub warnings: Vec<Warning>,
}

/// Registers every file.
///
/// # Errors
/// An essential file that needs memory which is writable and executable.
pub(crate) fn register<'a>(
    host: &Host,
    loader: &mut Loader,
    rules: &Rules,
    files: impl IntoIterator<Item = Candidate<'a>>,
) -> Result<Registered, WrapError> {
    let mut registered = Registered::default();
    let mut elves = Elves::new();
    for file in files {
        let kind = match file.looks {
            Looks::Elf => {
                let kind = elf_kind(host, loader, rules, file, &mut registered.warnings)?;
                if let (true, Ok(elf)) = (kind.is_code(), loader.elf(host, file.source)?) {
                    elves.insert(file.place.to_owned(), elf);
                }
                kind
            }
            Looks::Text if file.executable => FileKind::Program,
            Looks::Text | Looks::Other => FileKind::Data,
        };
        registered.kinds.insert(file.place.to_owned(), kind);
    }
    registered.jit = match rules.jit {
        Jit::Off => BTreeMap::new(),
        Jit::Auto => engines::find(&elves),
        Jit::On => {
            let programs = elves.iter().filter(|(_, elf)| elf.is_program);
            programs.map(|(place, _)| (place.clone(), "asked for".to_owned())).collect()
        }
    };
    for place in registered.jit.keys() {
        if let Some(kind) = registered.kinds.get_mut(place).filter(|kind| kind.is_program()) {
            *kind = FileKind::JitProgram;
        }
    }
    Ok(registered)
}

fn elf_kind(
    host: &Host,
    loader: &mut Loader,
    rules: &Rules,
    file: Candidate<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<FileKind, WrapError> {
    let mut leave = |why: String| {
        warnings.push(Warning::NotRegistered { path: file.place.to_owned(), why });
        Ok(FileKind::Data)
    };
    let elf = match loader.elf(host, file.source)? {
        Ok(elf) => elf,
        Err(ElfError::Architecture(found)) if file.executable => return leave(format!("it is for {found}")),
        // Object files, core dumps, firmware.
        Err(_) => return Ok(FileKind::Data),
    };
    if let Some(hazard) = elf.hazard.filter(|_| rules.jit != Jit::On) {
        if rules.essential.contains(file.source) {
            return Err(WrapError::Hazard { path: file.source.into(), why: hazard.text() });
        }
        return leave(hazard.text().to_owned());
    }
    Ok(match (elf.is_program && !rules.loaders.contains(file.source), file.executable) {
        (true, true) => FileKind::Program,
        // Can't be executed on the host either, nor loaded as a library.
        (true, false) => FileKind::Data,
        (false, _) => FileKind::Library,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestElf, Tree};

    const PROGRAM: TestElf<'static> = TestElf {
        interpreter: Some("/lib64/ld.so"),
        needed: &[],
        soname: None,
        rpath: None,
        runpath: None,
        executable_stack: false,
    };

    fn registered(rules: &Rules, files: &[(&str, bool, Looks, &[u8])]) -> Result<Registered, WrapError> {
        let tree = Tree::new();
        files.iter().for_each(|(path, _, _, content)| tree.file(path, content));
        let candidates = files.iter().map(|(path, executable, looks, _)| Candidate {
            place: path,
            source: path,
            executable: *executable,
            looks: *looks,
        });
        register(&tree.host(), &mut Loader::default(), rules, candidates)
    }

    fn check(rules: &Rules, file: (&str, bool, Looks, &[u8]), expect: FileKind) {
        assert_eq!(registered(rules, &[file]).unwrap().kinds[file.0], expect, "{file:?}");
    }

    #[test]
    fn only_programs_and_scripts_can_be_executed() {
        let rules = Rules::default();
        let library = TestElf { soname: Some("l.so"), ..PROGRAM }.bytes();
        let program = PROGRAM.bytes();
        check(&rules, ("/p", true, Looks::Elf, &program), FileKind::Program);
        check(&rules, ("/p", false, Looks::Elf, &program), FileKind::Data);
        check(&rules, ("/l.so", true, Looks::Elf, &library), FileKind::Library);
        check(&rules, ("/l.so", false, Looks::Elf, &library), FileKind::Library);
        check(&rules, ("/s", true, Looks::Text, b"#!/bin/sh"), FileKind::Program);
        check(&rules, ("/s", false, Looks::Text, b"#!/bin/sh"), FileKind::Data);
        check(&rules, ("/x.jar", true, Looks::Other, b"PK\0"), FileKind::Data);
        check(&rules, ("/core", true, Looks::Elf, &program[..40]), FileKind::Data);
        let loaders = Rules { loaders: ["/p".to_owned()].into(), ..Rules::default() };
        check(&loaders, ("/p", true, Looks::Elf, &program), FileKind::Library);
    }

    #[test]
    fn a_file_that_wants_writable_code_is_refused_or_left_unregistered() {
        let bytes = TestElf { executable_stack: true, ..PROGRAM }.bytes();
        let file: (&str, bool, Looks, &[u8]) = ("/p", true, Looks::Elf, &bytes);
        let essential = || ["/p".to_owned()].into();
        let error = registered(&Rules { essential: essential(), ..Rules::default() }, &[file]).unwrap_err();
        assert!(error.to_string().contains("noexecstack"), "{error}");
        let along = registered(&Rules::default(), &[file]).unwrap();
        assert_eq!(along.kinds["/p"], FileKind::Data);
        assert!(matches!(&along.warnings[..], [Warning::NotRegistered { path, .. }] if path == "/p"));
        let on = Rules { jit: Jit::On, essential: essential(), ..Rules::default() };
        check(&on, file, FileKind::JitProgram);
    }

    #[test]
    fn who_makes_code_is_marked_unless_it_was_said() {
        let needed = ["libluajit-5.1.so.2"];
        let program = TestElf { needed: &needed, ..PROGRAM }.bytes();
        let engine = TestElf { interpreter: None, ..PROGRAM }.bytes();
        let files: [(&str, bool, Looks, &[u8]); 3] = [
            ("/p", true, Looks::Elf, &program),
            ("/lib/libluajit-5.1.so.2", false, Looks::Elf, &engine),
            ("/s", true, Looks::Text, b"#!/p"),
        ];
        let kind = |jit| registered(&Rules { jit, ..Rules::default() }, &files).unwrap().kinds;
        assert_eq!(kind(Jit::Auto)["/p"], FileKind::JitProgram);
        assert_eq!(kind(Jit::Off)["/p"], FileKind::Program);
        let on = kind(Jit::On);
        assert_eq!((on["/p"], on["/s"]), (FileKind::JitProgram, FileKind::Program));
        assert_eq!(on["/lib/libluajit-5.1.so.2"], FileKind::Library);
    }
}
