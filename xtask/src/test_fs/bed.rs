//! Where the suites run: a sealed mount, and a plain directory beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Extent;
use crate::mount::{Mount, Mounter, Place};
use crate::workspace::Workspace;

/// Kept from suite to suite: what [`super::programs::git`] leaves for [`super::programs::reopen`].
pub(super) const CLONE: &str = "clone";

/// The directories, and what the suites are told.
#[derive(Debug)]
pub(super) struct Bed {
    pub workspace: PathBuf,
    pub target: PathBuf,
    pub extent: Extent,
    mounter: Mounter,
    // Unmounted before the place is removed: fields are dropped in this order.
    mount: Option<Mount>,
    place: Place,
}

impl Bed {
    /// Mounts.
    ///
    /// # Errors
    /// The server does not build, or can't mount.
    pub(super) fn make(workspace: &Workspace, extent: Extent) -> Result<Self> {
        let mounter = Mounter::build(workspace)?;
        let place = Place::new("test-fs")?;
        let mut bed = Bed {
            workspace: workspace.root.clone(),
            target: workspace.target.clone(),
            extent,
            mounter,
            mount: None,
            place,
        };
        for directory in [bed.plain(), bed.scratch()] {
            fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        }
        bed.mount(None)?;
        Ok(bed)
    }

    /// The mount.
    pub(super) fn sealed(&self) -> PathBuf {
        self.place.0.join("sealed")
    }

    /// The plain directory.
    pub(super) fn plain(&self) -> PathBuf {
        self.place.0.join("plain")
    }

    /// Where suites have what they need beside the two.
    pub(super) fn scratch(&self) -> PathBuf {
        self.place.0.join("scratch")
    }

    /// Empties both directories, but for [`CLONE`].
    pub(super) fn clear(&self) -> Result<()> {
        for directory in [self.sealed(), self.plain()] {
            clear(&directory).with_context(|| directory.display().to_string())?;
        }
        Ok(())
    }

    /// Unmounts with a checkpoint, and mounts that.
    ///
    /// # Errors
    /// What the server says.
    pub(super) fn reopen(&mut self) -> Result<()> {
        let mount = self.mount.take().context("it is not mounted")?;
        let (root, _) = mount.end()?;
        self.mount(Some(&root))
    }

    /// Unmounts for good.
    ///
    /// # Errors
    /// What the server says.
    pub(super) fn end(mut self) -> Result<()> {
        self.mount.take().map_or(Ok(()), |mount| mount.end().map(drop))
    }

    fn mount(&mut self, root: Option<&str>) -> Result<()> {
        let store = self.place.0.join("store");
        self.mount = Some(Mount::start(&self.mounter, &store, &self.sealed(), root)?);
        Ok(())
    }
}

fn clear(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() == CLONE {
            continue;
        }
        let is_directory = entry.file_type()?.is_dir();
        let path = entry.path();
        if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}
