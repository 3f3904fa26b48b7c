//! The manifest of a sandboxed application (§4.1.2): every file a program may see, by content.
//!
//! `wrap` writes it, the server signs its encoded bytes, the client checks the signature and builds the
//! subjob's root directory from nothing else. The bytes that are hashed and signed are [`Manifest::encode`]'s.

use std::collections::BTreeMap;

use model::BlobHash;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::spec::{MAX_PATH, check_path};

/// Version of the encoding; a client refuses a manifest of another version.
pub const MANIFEST_VERSION: u32 = 2;

/// Most entries one application may have: bounds what a client must hold and check.
pub const MAX_ENTRIES: usize = 200_000;

/// Where the X server is in an application with a private display.
pub const DISPLAY_SERVER: &str = "/usr/bin/Xvfb";

/// Most links on the way to one entry, as in the kernel (path_resolution(7)).
pub const MAX_LINKS: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    /// For people: the program's name.
    pub name: String,
    /// Absolute path, inside the application, of the program that `command[0]` of a job names, or of a link to it,
    /// for programs that go by the name under which they are called.
    pub program: String,
    /// Absolute path → what is there. Parent directories are implied and need no entry.
    pub entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    File {
        hash: BlobHash,
        size: u64,
        kind: FileKind,
    },
    /// `target` is as in the link itself: absolute or relative, read inside the application's root.
    Symlink {
        target: String,
    },
    /// An empty directory that the program expects.
    Directory,
}

/// What a file of an application may be used for besides being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Nothing else.
    Data,
    /// A program may map it as code; it can't be executed itself, not even as another file's loader.
    Library,
    /// It may be executed: a program, or a script with its interpreter.
    Program,
    /// A program that makes code while it runs, as a Java virtual machine does.
    JitProgram,
}

impl FileKind {
    /// Whether a process may begin with this file.
    pub fn is_program(self) -> bool {
        matches!(self, FileKind::Program | FileKind::JitProgram)
    }

    /// Whether its bytes may become code: programs and libraries.
    pub fn is_code(self) -> bool {
        self != FileKind::Data
    }

    /// Its permissions on a client's disk. Only programs have an `x`, so that a library, which every loader is too,
    /// can't be started.
    pub fn mode(self) -> u32 {
        if self.is_program() { 0o555 } else { 0o444 }
    }
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ManifestError {
    #[error("the manifest can't be read: {why}")]
    Malformed { why: String },
    #[error("the manifest has version {found}, this program reads version {MANIFEST_VERSION}")]
    Version { found: u32 },
    #[error("the manifest has {found} entries, more than {MAX_ENTRIES}")]
    TooManyEntries { found: usize },
    #[error("the manifest's path '{path}' is not an absolute path without '.', '..' and empty parts")]
    Path { path: String },
    #[error("the manifest's link '{path}' has an empty target, or one that no link can have")]
    Link { path: String },
    #[error("the manifest's path '{path}' lies below '{parent}', which is not a directory")]
    BelowFile { path: String, parent: String },
    #[error("the manifest's program '{path}' does not lead to one of its programs")]
    Program { path: String },
}

impl Manifest {
    /// The bytes that are stored, hashed and signed.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest holds only strings and numbers")
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Anything that would let an application place a file outside its own root or leave a path ambiguous.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| unreadable(bytes, &e))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The files with their hash and size, each hash once.
    pub fn blobs(&self) -> BTreeMap<BlobHash, u64> {
        let file = |entry: &Entry| match entry {
            Entry::File { hash, size, .. } => Some((*hash, *size)),
            Entry::Symlink { .. } | Entry::Directory => None,
        };
        self.entries.values().filter_map(file).collect()
    }

    /// Paths of the files that may be executed or mapped executable.
    pub fn code(&self) -> impl Iterator<Item = &str> {
        let is_code = |entry: &Entry| matches!(entry, Entry::File { kind, .. } if kind.is_code());
        self.entries.iter().filter(move |(_, entry)| is_code(entry)).map(|(path, _)| path.as_str())
    }

    /// Whether one of its programs makes code while it runs.
    pub fn makes_code(&self) -> bool {
        let makes_code = |entry: &Entry| matches!(entry, Entry::File { kind: FileKind::JitProgram, .. });
        self.entries.values().any(makes_code)
    }

    /// Checks what [`Manifest::decode`] promises; who writes a manifest calls it before it leaves.
    ///
    /// # Errors
    /// As [`Manifest::decode`].
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.version != MANIFEST_VERSION {
            return Err(ManifestError::Version { found: self.version });
        }
        if self.entries.len() > MAX_ENTRIES {
            return Err(ManifestError::TooManyEntries { found: self.entries.len() });
        }
        for (path, entry) in &self.entries {
            if !is_plain_absolute(path) {
                return Err(ManifestError::Path { path: path.clone() });
            }
            if matches!(entry, Entry::Symlink { target } if !is_target(target)) {
                return Err(ManifestError::Link { path: path.clone() });
            }
            for (end, _) in path.match_indices('/').skip(1) {
                let parent = &path[..end];
                if self.entries.get(parent).is_some_and(|entry| *entry != Entry::Directory) {
                    return Err(ManifestError::BelowFile { path: path.clone(), parent: parent.to_owned() });
                }
            }
        }
        let program = is_plain_absolute(&self.program).then(|| self.resolve(&self.program));
        match program.flatten() {
            Some((_, Entry::File { kind, .. })) if kind.is_program() => Ok(()),
            _ => Err(ManifestError::Program { path: self.program.clone() }),
        }
    }

    /// The entry that `path` leads to when every link is followed inside the application, with its own path.
    pub fn resolve(&self, path: &str) -> Option<(&str, &Entry)> {
        let mut ahead: Vec<&str> = path.rsplit('/').collect();
        let mut here = String::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            match part {
                "" | "." => {}
                ".." => here.truncate(here.rfind('/').unwrap_or(0)),
                name => {
                    let next = format!("{here}/{name}");
                    if let Some(Entry::Symlink { target }) = self.entries.get(&next) {
                        links += 1;
                        if links > MAX_LINKS {
                            return None;
                        }
                        if target.starts_with('/') {
                            here.clear();
                        }
                        ahead.extend(target.rsplit('/'));
                    } else {
                        here = next;
                    }
                }
            }
        }
        self.entries.get_key_value(&here).map(|(path, entry)| (path.as_str(), entry))
    }
}

/// Why bytes are no manifest. One of another version rarely reads as ours, and its version says more than what was
/// found wrong in it.
fn unreadable(bytes: &[u8], error: &serde_json::Error) -> ManifestError {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    match serde_json::from_slice(bytes) {
        Ok(Versioned { version }) if version != MANIFEST_VERSION => ManifestError::Version { found: version },
        _ => ManifestError::Malformed { why: error.to_string() },
    }
}

/// Whether a path is absolute, says where it goes without `.`, `..`, empty parts or a NUL byte, and is not longer
/// than paths can be.
fn is_plain_absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| check_path(rest).is_ok())
}

/// Whether a link can be made with this target, wherever it leads.
fn is_target(target: &str) -> bool {
    (1..MAX_PATH).contains(&target.len()) && !target.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::FileKind::{Data, JitProgram, Library, Program};
    use super::*;

    fn manifest(entries: &[(&str, Entry)]) -> Manifest {
        Manifest {
            version: MANIFEST_VERSION,
            name: "true".into(),
            program: "/bin/true".into(),
            entries: entries.iter().map(|(path, entry)| ((*path).to_owned(), entry.clone())).collect(),
        }
    }

    fn file(kind: FileKind) -> Entry {
        Entry::File { hash: BlobHash([7; 32]), size: 3, kind }
    }

    fn check(entries: &[(&str, Entry)], expect: impl Into<Option<ManifestError>>) {
        assert_eq!(Manifest::decode(&manifest(entries).encode()).err(), expect.into());
    }

    #[test]
    fn a_manifest_can_only_name_places_inside_its_own_root() {
        check(&[("/bin/true", file(Program))], None);
        for path in ["bin/true", "/bin/../etc/passwd", "/bin//true", "/bin/.", "/", "/a\0b"] {
            let expect = ManifestError::Path { path: path.into() };
            check(&[("/bin/true", file(Program)), (path, file(Data))], expect);
        }
    }

    #[test]
    fn paths_and_targets_are_as_long_as_they_can_be_on_a_disk() {
        let link = |target: String| Entry::Symlink { target };
        check(&[("/bin/true", file(Program)), ("/l", link("x".repeat(4_095)))], None);
        for target in [String::new(), "x".repeat(4_096), "a\0b".to_owned()] {
            check(
                &[("/bin/true", file(Program)), ("/l", link(target))],
                Some(ManifestError::Link { path: "/l".into() }),
            );
        }
        let deep = "/d".repeat(100_000);
        check(
            &[("/bin/true", file(Program)), (&deep, file(Data))],
            Some(ManifestError::Path { path: deep.clone() }),
        );
    }

    #[test]
    fn nothing_lies_below_a_link_or_a_file() {
        let link = Entry::Symlink { target: "/etc".into() };
        check(
            &[("/bin/true", file(Program)), ("/x", link), ("/x/passwd", file(Data))],
            ManifestError::BelowFile { path: "/x/passwd".into(), parent: "/x".into() },
        );
    }

    #[test]
    fn only_programs_can_be_executed() {
        let expect = || ManifestError::Program { path: "/bin/true".into() };
        check(&[("/bin/true", file(Data))], expect());
        check(&[("/bin/true", file(Library))], expect());
        check(&[("/bin/false", file(Program))], expect());
        check(&[("/bin/true", file(JitProgram))], None);
    }

    #[test]
    fn the_program_may_be_a_link_to_its_file() {
        let link = |target: &str| Entry::Symlink { target: target.into() };
        let expect = || ManifestError::Program { path: "/bin/true".into() };
        check(
            &[("/bin", link("usr/bin")), ("/usr/bin/true", link("../lib/t")), ("/usr/lib/t", file(Program))],
            None,
        );
        check(&[("/bin/true", link("/x/y")), ("/x", link("//z/.")), ("/z/y", file(Program))], None);
        check(&[("/bin/true", link("true"))], expect());
        check(&[("/bin/true", link("../nowhere"))], expect());
        check(&[("/bin/true", link("/t")), ("/t", file(Data))], expect());
    }

    #[test]
    fn an_unknown_field_or_version_is_refused() {
        let mut newer = manifest(&[("/bin/true", file(Program))]);
        newer.version = 3;
        assert_eq!(Manifest::decode(&newer.encode()), Err(ManifestError::Version { found: 3 }));
        let first = br#"{"version":1,"name":"","program":"/a","entries":{"/a":{"kind":"directory"}}}"#;
        assert_eq!(Manifest::decode(first), Err(ManifestError::Version { found: 1 }));
        assert!(matches!(
            Manifest::decode(br#"{"version":2,"name":"","program":"/a","entries":{},"extra":1}"#),
            Err(ManifestError::Malformed { .. })
        ));
    }
}
