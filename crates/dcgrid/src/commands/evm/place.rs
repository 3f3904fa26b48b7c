//! The place of one run: a directory that becomes /work, gone at the end however that comes about.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use desktop_controller::remove_tree;
use rustix::fs::FlockOperation;

use super::cache::try_lock;

/// A directory below `runs`, its name also the tag of the run's control groups.
pub struct Place {
    pub tag: String,
    directory: PathBuf,
    lock: PathBuf,
    /// Held as long as we live: what nobody holds was left by somebody who was killed.
    _held: File,
}

impl Place {
    /// Makes a place, after clearing what killed ones before us have left.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn new(runs: &Path) -> anyhow::Result<Self> {
        let turn_path = runs.join("lock");
        let turn = File::options().write(true).create(true).truncate(false).open(&turn_path);
        let turn = turn.with_context(|| format!("can't open '{}'", turn_path.display()))?;
        rustix::fs::flock(&turn, FlockOperation::LockExclusive)
            .context("can't lock the directory for runs")?;
        clear_leftovers(runs);
        let tag = format!("evm{}x{:08x}", std::process::id(), random()?);
        let (directory, lock) = (runs.join(&tag), runs.join(format!("{tag}.lock")));
        let held = try_lock(&lock).with_context(|| format!("can't lock '{}'", lock.display()))?;
        let work = directory.join("work");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&work);
        made.with_context(|| format!("can't make '{}'", work.display()))?;
        Ok(Place { tag, directory, lock, _held: held })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match remove_tree(&self.directory) {
            Ok(()) => drop(fs::remove_file(&self.lock)),
            Err(error) => {
                tracing::warn!(%error, directory = %self.directory.display(), "can't clear up; the next run tries again");
            }
        }
    }
}

/// Removes what runs that were killed have left; what can't be removed is tried again at the next start.
fn clear_leftovers(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(tag) = name.to_str().and_then(|name| name.strip_suffix(".lock")) else { continue };
        if let Some(_held) = try_lock(&entry.path()) {
            let cleared = sandbox::remove_leftovers(tag).is_ok() && remove_tree(&runs.join(tag)).is_ok();
            if cleared {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn random() -> anyhow::Result<u32> {
    getrandom::u32().map_err(|error| anyhow::anyhow!("the kernel gives no random numbers: {error}"))
}
