//! `wrap`: makes a sandboxed application out of an unmodified program (§4.1).
//!
//! The client's sandbox shows a program only the files of its manifest. So everything that it needs is found here,
//! before it is submitted: the program's loader and shared libraries, the interpreter and the commands of a script,
//! the files of the Debian package that it belongs to and of those that that one depends on. What is missing is said
//! at once, in one error. Signing and storing are the server's part; running is `sandbox`'s.
//!
//! Inside the application, system files are where they are on the submitter's machine, with every link that leads
//! to them; the user's own are below `/app`, and commands from the user's own PATH in `/usr/local/bin`, so a PATH of
//! `/usr/local/bin:/usr/bin:/bin` finds them all. The sandbox mounts its own /dev, /proc, /tmp and /work over it.
//! Set-user-id bits, owners and times are not kept.
#![forbid(unsafe_code)]

mod application;
mod collect;
mod debian;
mod elf;
mod engines;
mod error;
mod hash;
mod host;
mod layout;
mod ld_conf;
mod loader;

mod redirect;
mod register;
mod report;
mod script;
mod seal;
mod shell;
mod source;
mod suggest;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use model::BlobHash;
use protocol::manifest::Manifest;

pub use error::{MissingLibrary, WrapError};
pub use redirect::Patch;
pub use register::Jit;
pub use report::{IncludedFile, Reason, Report, Warning};
pub use source::Source;

/// What to wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A name to be looked up in `search_path`, or a path (it has a `/`), relative to `base_dir`.
    pub program: String,
    /// More files, directories, program names, or packages as `deb:NAME`. A word without a `/` is a file of
    /// `base_dir` if there is one of that name, and else a program.
    pub include: Vec<String>,
    /// Shell text that the program will be given, as in `sh -c TEXT`: the commands in it come along.
    pub shell_text: Option<String>,
    /// The directory that relative paths count from.
    pub base_dir: PathBuf,
    /// As the environment variable PATH.
    pub search_path: OsString,
    /// Which of the programs may make code while they run.
    pub jit: Jit,
    pub display: Display,
}

/// Whether a program opens windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Display {
    #[default]
    None,
    /// On an X server of its own, which comes along: the one installed here.
    Private,
}

/// Whether a program, by its name or path, is a shell, so that text it is given names commands.
pub fn is_shell(program: &str) -> bool {
    script::is_shell_name(host::split(program).1)
}

/// A sandboxed application, ready to be signed and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    pub manifest: Manifest,
    /// What the content of each of the manifest's files is made of. A file may change after this: who sends it must
    /// hash what it sends.
    pub sources: BTreeMap<BlobHash, Source>,
    pub report: Report,
}

/// Finds everything that a program needs and hashes it.
///
/// # Errors
/// Anything that would keep the program from starting on a client; see [`WrapError`].
pub fn wrap(request: &Request) -> Result<Wrapped, WrapError> {
    collect::collect(host::Host::new("/"), request)
}
