//! Why a program can't be made into a sandboxed application: all of it known before anything is submitted.

use std::fmt;
use std::io;
use std::path::PathBuf;

use protocol::manifest::ManifestError;
use thiserror::Error;

/// Why [`crate::wrap`] gave up.
#[derive(Debug, Error)]
pub enum WrapError {
    #[error("there is no program '{name}' in PATH{}", did_you_mean(.suggestions))]
    UnknownProgram { name: String, suggestions: Vec<String> },
    #[error("'{name}' is neither a file of {directory} nor a program in PATH{}", did_you_mean(.suggestions))]
    UnknownInclude { name: String, directory: String, suggestions: Vec<String> },
    #[error("there is no installed package '{name}'{}", did_you_mean(.suggestions))]
    UnknownPackage { name: String, suggestions: Vec<String> },
    #[error("'{}' does not exist", .path.display())]
    Absent { path: PathBuf },
    #[error("'{}' is not executable: chmod +x it", .path.display())]
    NotExecutable { path: PathBuf },
    #[error("'{}' is neither a program nor a script that begins with '#!': {why}", .path.display())]
    NotProgram { path: PathBuf, why: &'static str },
    #[error("'{}' is for {found}; the grid's clients are x86-64 with 64 bits", .path.display())]
    Architecture { path: PathBuf, found: String },
    #[error("the program file '{}' is damaged: {why}", .path.display())]
    MalformedElf { path: PathBuf, why: &'static str },
    #[error("'{}' can't run in a sandbox: {why}; or allow its application to make code at run time", .path.display())]
    Hazard { path: PathBuf, why: &'static str },
    #[error(
        "'{}' runs with the rights of its owner or group, and no subjob ever gets rights: name a copy without that \
         (cp, then chmod ug-s)",
        .path.display()
    )]
    SetId { path: PathBuf },
    #[error("shared libraries are missing on this machine:{}", list(.missing))]
    MissingLibraries { missing: Vec<MissingLibrary> },
    #[error("'{}' needs '{interpreter}', which is not on this machine", .path.display())]
    MissingInterpreter { path: PathBuf, interpreter: String },
    #[error("the script '{}' has interpreters nested deeper than the kernel allows", .path.display())]
    InterpreterLoop { path: PathBuf },
    #[error("the links of '{}' go round in a circle", .path.display())]
    LinkLoop { path: PathBuf },
    #[error("'{}' is a {kind}; an application holds only files, directories and links", .path.display())]
    Special { path: PathBuf, kind: &'static str },
    #[error("'{}' is a directory, not a program", .path.display())]
    IsDirectory { path: PathBuf },
    #[error("can't read '{}'", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("'{}' changed while it was read: wrap again when nothing writes to it", .path.display())]
    Changed { path: PathBuf },
    #[error("the path '{}' is not UTF-8", .path.display())]
    NotUtf8 { path: PathBuf },
    #[error("'{first}' and '{second}' would both be '{place}' inside the application: rename one")]
    Collision { place: String, first: String, second: String },
    #[error("'{path}' can't be in an application: there the sandbox mounts its own '{mount}'")]
    Shadowed { path: String, mount: &'static str },
    #[error(
        "a program with windows needs {what}, which is not on this machine: install the package {package}"
    )]
    NoDisplay { what: &'static str, package: &'static str },
    #[error("the application can't be described by a manifest")]
    Manifest(#[from] ManifestError),
}

/// A library that the loader would not find, with all a person needs to look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLibrary {
    /// As in the file that needs it: `libfoo.so.1`.
    pub name: String,
    /// The file that needs it.
    pub needed_by: String,
    /// The directories searched, in the loader's order.
    pub searched: Vec<String>,
}

impl fmt::Display for MissingLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, needed by {} (searched {})", self.name, self.needed_by, self.searched.join(":"))
    }
}

fn list(missing: &[MissingLibrary]) -> String {
    missing.iter().map(|library| format!("\n  {library}")).collect()
}

fn did_you_mean(suggestions: &[String]) -> String {
    match suggestions {
        [] => String::new(),
        [one] => format!("; did you mean '{one}'?"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|name| format!("'{name}'")).collect();
            format!("; did you mean {} or '{last}'?", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_missing_libraries_are_named_at_once() {
        let missing = |name: &str, needed_by: &str| MissingLibrary {
            name: name.into(),
            needed_by: needed_by.into(),
            searched: vec!["/usr/lib".into(), "/lib".into()],
        };
        let error = WrapError::MissingLibraries {
            missing: vec![missing("liba.so.1", "/app/x"), missing("libb.so.2", "/usr/lib/libz.so")],
        };
        assert_eq!(
            error.to_string(),
            "shared libraries are missing on this machine:\
             \n  liba.so.1, needed by /app/x (searched /usr/lib:/lib)\
             \n  libb.so.2, needed by /usr/lib/libz.so (searched /usr/lib:/lib)"
        );
    }

    #[test]
    fn a_misspelled_program_gets_its_neighbors() {
        let check = |suggestions: &[&str], expect: &str| {
            let suggestions = suggestions.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(WrapError::UnknownProgram { name: "lmpp".into(), suggestions }.to_string(), expect);
        };
        check(&[], "there is no program 'lmpp' in PATH");
        check(&["lmp"], "there is no program 'lmpp' in PATH; did you mean 'lmp'?");
        check(&["a", "b", "c"], "there is no program 'lmpp' in PATH; did you mean 'a', 'b' or 'c'?");
    }
}
