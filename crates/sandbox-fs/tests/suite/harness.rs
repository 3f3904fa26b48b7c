//! What the tests share: a mount that is served by this process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use sandbox_fs::Rate;
use sandbox_fs::fuse::{self, MountOptions, Opcode, Session, SessionOptions};
use sandbox_fs::operations::Operations;
use tempfile::TempDir;

use crate::sealed::Sealed;

/// Says past the harness's capture that a test did not test anything here.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    std::io::stderr().write_all(format!("skipped: {test}: {reason}\n").as_bytes()).unwrap();
}

/// Mounts at `directory` and serves. Nothing when this machine does not let us mount; says so.
pub fn serve(directory: &Path, operations: Arc<dyn Operations>, options: SessionOptions) -> Option<Session> {
    let devices: Result<Vec<_>, _> = (0..options.threads).map(|_| fuse::open_device()).collect();
    let devices = match devices {
        Ok(devices) => devices,
        Err(error) => {
            skip(&format!("/dev/fuse: {error}"));
            return None;
        }
    };
    if let Err(error) = fuse::mount(&devices[0], directory, &MountOptions::default()) {
        skip(&format!("mounting: {error}"));
        return None;
    }
    Some(Session::start(devices, operations, options).unwrap())
}

/// A file system in a directory of its own, unmounted in the end.
pub struct Mount {
    directory: TempDir,
    session: Option<Session>,
    pub files: Sealed,
}

impl Mount {
    /// Nothing when this machine does not let us mount; says so.
    pub fn new(options: SessionOptions) -> Option<Mount> {
        Mount::paced(Rate::default(), options)
    }

    pub fn paced(rate: Rate, options: SessionOptions) -> Option<Mount> {
        let directory = TempDir::new().unwrap();
        let files = Sealed::new(rate);
        let session = serve(directory.path(), files.operations(), options)?;
        Some(Mount { directory, session: Some(session), files })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Runs a shell in the mount that must succeed, and returns what it wrote.
    pub fn shell(&self, script: &str) -> String {
        let output = Command::new("sh").args(["-euc", script]).current_dir(self.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{script}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The requests that `act` caused, by kind.
    pub fn requests_of(&self, act: impl FnOnce()) -> Vec<(Opcode, u64)> {
        let counts = || self.session.as_ref().unwrap().counts();
        let before = counts();
        act();
        let earlier =
            |opcode| before.iter().find(|(other, _)| *other == opcode).map_or(0, |(_, count)| *count);
        let since = counts().into_iter().map(|(opcode, count)| (opcode, count - earlier(opcode)));
        since.filter(|(_, count)| *count > 0).collect()
    }

    /// How many requests of a kind came so far.
    pub fn count(&self, opcode: Opcode) -> u64 {
        let counts = self.session.as_ref().unwrap().counts();
        counts.iter().find(|(other, _)| *other == opcode).map_or(0, |(_, count)| *count)
    }

    /// Unmounts, and returns when all threads have ended.
    pub fn end(&mut self) {
        self.unmount();
    }

    fn unmount(&mut self) {
        let Some(session) = self.session.take() else { return };
        // It ends when the last file is closed; a child of another test may have one for the moment before it executes.
        fuse::unmount(self.path()).unwrap();
        if std::thread::panicking() {
            // The failed test may have left a file open.
            return;
        }
        session.join().unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Whether this machine has a program; says so if it hasn't.
pub fn has(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|directory| directory.join(program).is_file());
    if !found {
        skip(&format!("no {program}"));
    }
    found
}
