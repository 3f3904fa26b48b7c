//! `--sealed`: the program's files come from a file server of their own, and what lies on the disk is sealed.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use desktop_controller::sealed::{Contents, SealedFiles, application_entries};
use sandbox_fs::operations::Time;
use sandbox_fs::seal::StoreKey;
use sandbox_fs::server::{Found, LayerEntry, LayerKind, Listed};

use super::cache::Application;
use super::files::{self, Content, MAX_DEPTH, make_directory, open_directory, write_changed};
use super::place::Place;
use crate::args::EvmRunArgs;
use crate::exit::{Exit, fault};

/// Starts a file server with the program's application and inputs.
pub fn start(
    args: &EvmRunArgs,
    application: &Application,
    place: &Place,
) -> anyhow::Result<Arc<SealedFiles>> {
    let mut inputs =
        Inputs { entries: BTreeMap::new(), directories: vec![open_directory(&application.root)?] };
    if let Some(directory) = &args.workdir {
        let number = inputs.add_directory(directory)?;
        let left = inputs.add_all(number, directory, Path::new(""), 0)?;
        if left > 0 {
            tracing::warn!("{left} entries of '{}' are no files and were left out", directory.display());
        }
    }
    for input in &args.inputs {
        let to = files::place_of(input).ok_or_else(|| {
            fault(Exit::Usage, format!("the input '{}' has no name", input.display()), "name a file")
        })?;
        inputs.add_file(input, to)?;
    }
    let entries = application_entries(&application.manifest, |path, _, size| LayerKind::Plain {
        directory: 0,
        path: path.trim_start_matches('/').into(),
        size,
    });
    let contents = Contents {
        application: entries,
        inputs: inputs.entries.into_values().collect(),
        directories: inputs.directories,
        blobs: None,
    };
    let key = StoreKey::random().context("can't make a key in locked memory")?;
    let limits = &args.limits;
    Ok(SealedFiles::start(place.directory(), contents, key, limits.disk, limits.io_rate)?)
}

/// Inputs by their place below /work: who comes later takes the place of who came before.
struct Inputs {
    entries: BTreeMap<PathBuf, LayerEntry>,
    directories: Vec<OwnedFd>,
}

impl Inputs {
    fn add_directory(&mut self, path: &Path) -> anyhow::Result<u32> {
        self.directories.push(open_directory(path)?);
        Ok(u32::try_from(self.directories.len() - 1)?)
    }

    fn add_file(&mut self, from: &Path, to: PathBuf) -> anyhow::Result<()> {
        let shown = from.display();
        let found = fs::metadata(from).with_context(|| format!("can't copy '{shown}' to /work"))?;
        anyhow::ensure!(found.is_file(), "'{shown}' is not a regular file; --workdir takes directories");
        let real = from.canonicalize().with_context(|| format!("can't copy '{shown}' to /work"))?;
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            anyhow::bail!("'{shown}' has no name");
        };
        let directory = self.add_directory(parent)?;
        let kind = LayerKind::Plain { directory, path: name.to_owned(), size: found.len() };
        self.add(to, &found, kind);
        Ok(())
    }

    /// Adds what is below a directory; returns how many entries are nothing that can be taken.
    fn add_all(&mut self, number: u32, top: &Path, below: &Path, depth: u32) -> anyhow::Result<u64> {
        if depth > MAX_DEPTH {
            return Ok(1);
        }
        let directory = top.join(below);
        let failed = || format!("can't read '{}'", directory.display());
        let mut left = 0;
        for entry in fs::read_dir(&directory).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let path = below.join(entry.file_name());
            let found = entry.metadata().with_context(failed)?;
            if found.is_dir() {
                self.add(path.clone(), &found, LayerKind::Directory);
                left += self.add_all(number, top, &path, depth + 1)?;
            } else if found.is_symlink() {
                let target = fs::read_link(entry.path()).with_context(failed)?.into();
                self.add(path, &found, LayerKind::Symlink { target });
            } else if found.is_file() {
                let kind =
                    LayerKind::Plain { directory: number, path: path.clone().into(), size: found.len() };
                self.add(path, &found, kind);
            } else {
                left += 1;
            }
        }
        Ok(left)
    }

    fn add(&mut self, path: PathBuf, found: &fs::Metadata, kind: LayerKind) {
        // As copies of ours would have it.
        let mode = match kind {
            LayerKind::Directory => 0o755,
            _ if found.permissions().mode() & 0o100 != 0 => 0o755,
            _ => 0o644,
        };
        let nanoseconds = u32::try_from(found.mtime_nsec()).unwrap_or(0);
        let modified = Time { seconds: found.mtime(), nanoseconds };
        self.entries.insert(path.clone(), LayerEntry { path: path.into(), mode, modified, kind });
    }
}

/// A file of the program's, as it is read back.
struct Output<'a> {
    files: &'a SealedFiles,
    ino: u64,
    size: u64,
    mode: u32,
}

impl Content for Output<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    fn open(&self) -> io::Result<impl io::Read> {
        Ok(self.files.read(self.ino))
    }
}

/// Copies a file that the program wrote to a path of ours.
///
/// # Errors
/// It is not there, or nothing that can be taken.
pub fn copy_out(sealed: &SealedFiles, path: &str) -> anyhow::Result<()> {
    let shown = path.escape_debug();
    let target = Path::new(path);
    let parent = target.parent().unwrap_or(Path::new(""));
    let (ino, size) = match sealed.find(target)? {
        Found::File { ino, size, .. } => (ino, size),
        Found::Nothing => anyhow::bail!("the program did not write '{shown}'"),
        Found::Symlink => anyhow::bail!("'{shown}' is or goes through a symbolic link"),
        Found::Directory | Found::Other => anyhow::bail!("'{shown}' is not a regular file"),
    };
    let name = target.file_name().context("an output has a name")?;
    let listed = sealed.list(parent)?.unwrap_or_default();
    let mode = listed.iter().find(|listed| listed.name == name).map_or(0, |listed| listed.mode);
    let context = || format!("can't write '{shown}'");
    let parent = if parent == Path::new("") { Path::new(".") } else { parent };
    fs::create_dir_all(parent).with_context(context)?;
    let output = Output { files: sealed, ino, size, mode };
    write_changed(&output, &open_directory(parent)?, &c_name(name)?).with_context(context)
}

/// Copies all of /work into a directory of ours, but for links. Returns how many entries were left behind.
pub fn copy_all(sealed: &SealedFiles, to: &OwnedFd) -> anyhow::Result<u64> {
    copy_level(sealed, Path::new(""), to, 0).context("can't copy /work")
}

fn copy_level(sealed: &SealedFiles, from: &Path, to: &OwnedFd, depth: u32) -> anyhow::Result<u64> {
    if depth > MAX_DEPTH {
        return Ok(1);
    }
    let mut left = 0;
    for Listed { name, mode, found, .. } in sealed.list(from)?.unwrap_or_default() {
        match found {
            Found::Directory => {
                let below = make_directory(to, &c_name(&name)?)?;
                left += copy_level(sealed, &from.join(&name), &below, depth + 1)?;
            }
            Found::File { ino, size, .. } => {
                write_changed(&Output { files: sealed, ino, size, mode }, to, &c_name(&name)?)?;
            }
            Found::Symlink | Found::Other | Found::Nothing => left += 1,
        }
    }
    Ok(left)
}

fn c_name(name: &OsStr) -> anyhow::Result<CString> {
    Ok(CString::new(name.as_bytes())?)
}
