//! What the tests mount: sealed files in a directory that goes with them.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};
use sandbox_fs::operations::Operations;
use sandbox_fs::seal::{StoreKey, Suite};
use sandbox_fs::store::Store;
use sandbox_fs::{Files, FilesOptions, Quota, Rate};
use tempfile::TempDir;

/// Files with room for all that is done to them.
pub struct Sealed {
    files: Arc<Files>,
    _directory: TempDir,
}

impl Sealed {
    pub fn new(rate: Rate) -> Sealed {
        let directory = TempDir::new().unwrap();
        let files = files(directory.path(), rate);
        Sealed { files: Arc::new(files), _directory: directory }
    }

    pub fn operations(&self) -> Arc<dyn Operations> {
        Arc::clone(&self.files) as _
    }
}

impl Deref for Sealed {
    type Target = Files;

    fn deref(&self) -> &Files {
        &self.files
    }
}

/// Files in a store in the empty directory `at`.
pub fn files(at: &Path, rate: Rate) -> Files {
    let directory = openat(CWD, at, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let store = Store::create(directory, StoreKey::random().unwrap(), Suite::best()).unwrap();
    let quota = Quota { bytes: 4 << 30, inodes: 1 << 20 };
    Files::new(store, FilesOptions { owner: (0, 0), mode: 0o755, quota, rate })
}
