//! What went into an application and why, for the person who submits it.

use std::collections::BTreeMap;
use std::fmt;

use model::ByteSize;

/// The account of one wrapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every file, by its path inside the application.
    pub files: BTreeMap<String, IncludedFile>,
    pub links: usize,
    /// What a client that has nothing must fetch: equal contents counted once.
    pub bytes: ByteSize,
    /// What may be missing although the program itself has all it needs to start.
    pub warnings: Vec<Warning>,
    /// Programs that may make code while they run, with the reason: the engine that they load.
    pub jit: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncludedFile {
    /// The file on the submitter's machine.
    pub source: String,
    pub size: ByteSize,
    pub reason: Reason,
}

/// Why a file is part of an application: the first rule that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is the program.
    Program,
    /// The submitter named it, or a directory that it lies in.
    Included,
    /// A program's loader or a script's `#!`.
    Interpreter { of: String },
    /// DT_NEEDED.
    Library { needed_by: String },
    /// glibc opens it by itself when it is asked for certain services.
    OpenedByLibc,
    /// A word of a script that is a command's name.
    Command { named_in: String },
    /// An absolute path in a script.
    Path { named_in: String },
    /// It belongs to the program's package or to one that it depends on.
    Package { name: String },
    /// It is ours, and runs before each of the programs.
    PortalLoader,
    /// It is part of the private display, or what programs with windows read.
    Display,
    /// A link inside an included directory leads to it.
    LinkTarget { of: String },
}

impl Reason {
    fn origin(&self) -> &str {
        match self {
            Reason::Program => "(the program)",
            Reason::Included => "(asked for)",
            Reason::Interpreter { .. } | Reason::OpenedByLibc | Reason::Library { .. } => {
                "(loader and libraries)"
            }
            Reason::Command { .. } | Reason::Path { .. } => "(named in scripts)",
            Reason::Package { name } => name,
            Reason::PortalLoader => "(portal loader)",
            Reason::Display => "(private display)",
            Reason::LinkTarget { .. } => "(targets of links)",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Program => f.write_str("the program"),
            Reason::Included => f.write_str("asked for"),
            Reason::Interpreter { of } => write!(f, "interpreter of {of}"),
            Reason::Library { needed_by } => write!(f, "library needed by {needed_by}"),
            Reason::OpenedByLibc => f.write_str("opened by the C library when needed"),
            Reason::Command { named_in } => write!(f, "command named in {named_in}"),
            Reason::Path { named_in } => write!(f, "path named in {named_in}"),
            Reason::Package { name } => write!(f, "part of package {name}"),
            Reason::PortalLoader => f.write_str("the portal loader, which runs before every program"),
            Reason::Display => f.write_str("part of the private display"),
            Reason::LinkTarget { of } => write!(f, "target of the link {of}"),
        }
    }
}

/// Something that a run may miss, or may never ask for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// A script runs a command that is not in PATH.
    CommandNotFound { command: String, script: String },
    /// A plugin, or another file that came along, needs a library that is not there.
    LibraryNotFound { library: String, needed_by: String },
    /// The interpreter of a script that came along is not there.
    InterpreterNotFound { interpreter: String, script: String },
    /// A package depends on one that is for building programs: a compiler or headers.
    PackageLeftOut { package: String, needed_by: String },
    /// A file that came along can't be read by the submitter, or not by everyone and so may hold a secret.
    LeftOut { path: String, why: String },
    /// A file that came along is there to be read only: it can be neither executed nor loaded.
    NotRegistered { path: String, why: String },
    /// A program that starts without the portal loader: its crashes come without a backtrace.
    NotRewritten { path: String, why: String },
    /// There is no font for a program's windows.
    NoFont { looked_in: Vec<String> },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::CommandNotFound { command, script } => {
                write!(f, "{script} mentions the command '{command}', which is not on this machine")
            }
            Warning::LibraryNotFound { library, needed_by } => {
                write!(f, "{needed_by} can't be loaded: {library} is not on this machine")
            }
            Warning::InterpreterNotFound { interpreter, script } => {
                // A line of a file from Windows ends in a character that would not be seen otherwise.
                write!(f, "{script} can't be run: {} is not on this machine", interpreter.escape_debug())
            }
            Warning::PackageLeftOut { package, needed_by } => write!(
                f,
                "{package}, which {needed_by} depends on, is left out because it is for building programs: if the \
                 program needs it to run, include deb:{package}"
            ),
            Warning::NotRegistered { path, why } => write!(f, "{path} can't be executed or loaded: {why}"),
            Warning::NotRewritten { path, why } => {
                write!(
                    f,
                    "{path} starts without the portal loader, so its crashes come without a backtrace: {why}"
                )
            }
            Warning::NoFont { looked_in } => write!(
                f,
                "no font in {}: text in windows may show as boxes; install fonts-dejavu-core",
                looked_in.join(", ")
            ),
            Warning::LeftOut { path, why } => write!(f, "{path} is left out: {why}"),
        }
    }
}

impl Report {
    /// Number of files and bytes for each package, and for each kind of reason of the files that came without one.
    /// For a summary.
    pub fn by_origin(&self) -> BTreeMap<&str, (usize, ByteSize)> {
        let mut groups: BTreeMap<&str, (usize, ByteSize)> = BTreeMap::new();
        for file in self.files.values() {
            let (count, size) = groups.entry(file.reason.origin()).or_default();
            *count += 1;
            size.0 += file.size.0;
        }
        groups
    }
}

impl fmt::Display for Report {
    /// One line: `14 files and 9 links, 5.1 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files and {} links, {}", self.files.len(), self.links, self.bytes)
    }
}
