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
pub const MANIFEST_VERSION: u32 = 1;

/// Most entries one application may have: bounds what a client must hold and check.
pub const MAX_ENTRIES: usize = 200_000;

/// Most links on the way to one entry, as in the kernel (path_resolution(7)).
pub const MAX_LINKS: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    /// For people: the program's name.
    pub name: String,
    /// Absolute path, inside the application, of the program that `command[0]` of a job names: an executable file,
    /// or a link to one, for programs that go by the name under which they are called.
    pub program: String,
    /// Absolute path → what is there. Parent directories are implied and need no entry.
    pub entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    File {
        hash: BlobHash,
        size: u64,
        /// Whether it may be executed or mapped executable.
        executable: bool,
    },
    /// `target` is as in the link itself: absolute or relative, read inside the application's root.
    Symlink { target: String },
    /// An empty directory that the program expects.
    Directory,
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
    #[error("the manifest's program '{path}' does not lead to one of its executable files")]
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
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| ManifestError::Malformed { why: e.to_string() })?;
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
            Some((_, Entry::File { executable: true, .. })) => Ok(()),
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
    use super::*;

    fn manifest(entries: &[(&str, Entry)]) -> Manifest {
        Manifest {
            version: MANIFEST_VERSION,
            name: "true".into(),
            program: "/bin/true".into(),
            entries: entries.iter().map(|(path, entry)| ((*path).to_owned(), entry.clone())).collect(),
        }
    }

    fn file(executable: bool) -> Entry {
        Entry::File { hash: BlobHash([7; 32]), size: 3, executable }
    }

    fn check(entries: &[(&str, Entry)], expect: impl Into<Option<ManifestError>>) {
        assert_eq!(Manifest::decode(&manifest(entries).encode()).err(), expect.into());
    }

    #[test]
    fn a_manifest_can_only_name_places_inside_its_own_root() {
        check(&[("/bin/true", file(true))], None);
        for path in ["bin/true", "/bin/../etc/passwd", "/bin//true", "/bin/.", "/", "/a\0b"] {
            let expect = ManifestError::Path { path: path.into() };
            check(&[("/bin/true", file(true)), (path, file(false))], expect);
        }
    }

    #[test]
    fn paths_and_targets_are_as_long_as_they_can_be_on_a_disk() {
        let link = |target: String| Entry::Symlink { target };
        check(&[("/bin/true", file(true)), ("/l", link("x".repeat(4_095)))], None);
        for target in [String::new(), "x".repeat(4_096), "a\0b".to_owned()] {
            check(
                &[("/bin/true", file(true)), ("/l", link(target))],
                Some(ManifestError::Link { path: "/l".into() }),
            );
        }
        let deep = "/d".repeat(100_000);
        check(
            &[("/bin/true", file(true)), (&deep, file(false))],
            Some(ManifestError::Path { path: deep.clone() }),
        );
    }

    #[test]
    fn nothing_lies_below_a_link_or_a_file() {
        let link = Entry::Symlink { target: "/etc".into() };
        check(
            &[("/bin/true", file(true)), ("/x", link), ("/x/passwd", file(false))],
            ManifestError::BelowFile { path: "/x/passwd".into(), parent: "/x".into() },
        );
    }

    #[test]
    fn the_program_must_be_an_executable_file_of_the_manifest() {
        let expect = || ManifestError::Program { path: "/bin/true".into() };
        check(&[("/bin/true", file(false))], expect());
        check(&[("/bin/false", file(true))], expect());
    }

    #[test]
    fn the_program_may_be_a_link_to_its_file() {
        let link = |target: &str| Entry::Symlink { target: target.into() };
        let expect = || ManifestError::Program { path: "/bin/true".into() };
        check(
            &[("/bin", link("usr/bin")), ("/usr/bin/true", link("../lib/t")), ("/usr/lib/t", file(true))],
            None,
        );
        check(&[("/bin/true", link("/x/y")), ("/x", link("//z/.")), ("/z/y", file(true))], None);
        check(&[("/bin/true", link("true"))], expect());
        check(&[("/bin/true", link("../nowhere"))], expect());
        check(&[("/bin/true", link("/t")), ("/t", file(false))], expect());
    }

    #[test]
    fn an_unknown_field_or_version_is_refused() {
        let mut newer = manifest(&[("/bin/true", file(true))]);
        newer.version = 2;
        assert_eq!(Manifest::decode(&newer.encode()), Err(ManifestError::Version { found: 2 }));
        assert!(matches!(
            Manifest::decode(br#"{"version":1,"name":"","program":"/a","entries":{},"extra":1}"#),
            Err(ManifestError::Malformed { .. })
        ));
    }
}
