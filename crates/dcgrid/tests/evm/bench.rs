//! What the tests share: a cache and a directory of their own, and what a run left behind.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Says past the harness's capture that a test did not test anything here.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    std::io::stderr().write_all(format!("skipped: {test}: {reason}\n").as_bytes()).expect("stderr takes it");
}

/// Whether a program is installed; says so when it is not.
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// A directory to work in, with a cache of its own.
pub struct Bench {
    pub here: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Bench { here: tempfile::tempdir().expect("a temporary directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.here.path().join("here").join(name)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below here")).expect("a directory");
        std::fs::write(&path, content).expect("written");
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn cache(&self) -> PathBuf {
        self.here.path().join("cache/dcgrid/evm")
    }

    /// `dcgrid evm ARGS` in the directory.
    pub fn command(&self, args: &[&str]) -> Command {
        std::fs::create_dir_all(self.path("")).expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dcgrid"));
        command.arg("evm").args(args).current_dir(self.path("")).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.here.path().join("cache"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let all: Vec<&str> = std::iter::once("run").chain(args.iter().copied()).collect();
        let ran = Ran::from(self.command(&all).output().expect("it can be started"));
        self.check_nothing_is_left();
        ran
    }

    /// Whatever happened, no run has left a directory.
    #[track_caller]
    pub fn check_nothing_is_left(&self) {
        let entries = std::fs::read_dir(self.cache().join("runs")).into_iter().flatten().flatten();
        let left: Vec<_> = entries.map(|entry| entry.file_name()).filter(|name| name != "lock").collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// How a command ended and what it printed.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    #[track_caller]
    pub fn check(&self, code: i32, stdout: &str, stderr: &str) {
        let found = (self.code, self.stdout.as_str(), self.stderr.as_str());
        assert_eq!(found, (Some(code), stdout, stderr));
    }
}

/// Processes whose command line holds a text, by their ids.
pub fn processes_with(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(text.len()).any(|part| part == text.as_bytes())
    };
    pids.filter(has_it).collect()
}

/// Control groups below a directory whose name begins so.
pub fn control_groups(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path());
            }
            found.extend(control_groups(&entry.path(), prefix));
        }
    }
    found
}
