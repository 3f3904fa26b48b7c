//! What the tests share: a tree with one static program, and a bench that runs it in a sandbox.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use model::ByteSize;
use sandbox::{Bounds, Exit, Launcher, Nearby, Output, Running, Spec};
use tempfile::TempDir;

/// Where the tests find init when the suite was copied away from where it was built.
pub const INIT_VARIABLE: &str = "SANDBOX_TEST_INIT";

/// Where the tests find the compiled program when there is one already.
pub const PROGRAM_VARIABLE: &str = "SANDBOX_TEST_PROGRAM";

/// The same for the program of the acts.
pub const ACTS_VARIABLE: &str = "SANDBOX_TEST_ACTS";
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite");

/// Says past the harness's capture that a test did not test anything here.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    std::io::stderr().write_all(format!("skipped: {test}: {reason}\n").as_bytes()).unwrap();
}

pub fn init_program() -> PathBuf {
    std::env::var_os(INIT_VARIABLE).map_or_else(|| env!("CARGO_BIN_EXE_sandbox-init").into(), Into::into)
}

/// Compiles the program; nothing when this machine has no compiler or it can't link statically.
pub fn compile_program(to: &Path) -> Option<()> {
    if let Some(program) = std::env::var_os(PROGRAM_VARIABLE) {
        return fs::copy(program, to).ok().map(|_| ());
    }
    compile(&["hostile.c", "files.c"].map(|name| Path::new(SOURCES).join(name)), to)
}

/// Compiles the program of the hostile acts, once per process.
pub fn compile_acts(to: &Path) -> Option<()> {
    static ACTS: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let made = ACTS.get_or_init(|| {
        if let Some(program) = std::env::var_os(ACTS_VARIABLE) {
            return fs::read(program).ok();
        }
        let sources = fs::read_dir(Path::new(SOURCES).join("acts")).unwrap();
        let sources = sources.map(|entry| entry.unwrap().path());
        let sources: Vec<PathBuf> = sources.filter(|path| path.extension() == Some("c".as_ref())).collect();
        let directory = TempDir::new().unwrap();
        compile(&sources, &directory.path().join("act"))?;
        Some(fs::read(directory.path().join("act")).unwrap())
    });
    fs::write(to, made.as_ref()?).unwrap();
    Some(())
}

fn compile(sources: &[PathBuf], to: &Path) -> Option<()> {
    let made = Command::new("cc").args(["-w", "-static", "-pthread", "-o"]).arg(to).args(sources).status();
    made.is_ok_and(|status| status.success()).then_some(())
}

/// A directory with an application tree and everything that one subjob after the other needs.
pub struct Bench {
    pub directory: TempDir,
    pub launcher: Launcher,
    runs: u32,
}

/// How a run ended, with what it wrote.
#[derive(Debug)]
pub struct Outcome {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
    pub work: PathBuf,
}

impl Outcome {
    /// The output of a run that must have gone well.
    pub fn ok(self) -> String {
        assert_eq!(self.exit.ended, sandbox::Ended::Code(0), "{self:?}");
        assert_eq!(self.exit.hit, None, "{self:?}");
        self.stdout
    }
}

impl Bench {
    /// Nothing when the program can't be made; says so.
    pub fn new() -> Option<Bench> {
        Bench::with(compile_program)
    }

    /// With the program of the hostile acts instead.
    pub fn with_acts() -> Option<Bench> {
        Bench::with(compile_acts)
    }

    fn with(make: impl FnOnce(&Path) -> Option<()>) -> Option<Bench> {
        let directory = TempDir::new().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("usr/bin")).unwrap();
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/app.conf"), "conf\n").unwrap();
        std::os::unix::fs::symlink("usr/bin", tree.join("bin")).unwrap();
        if make(&tree.join("usr/bin/act")).is_none() {
            skip("no C compiler that links statically");
            return None;
        }
        fs::set_permissions(tree.join("usr/bin/act"), fs::Permissions::from_mode(0o755)).unwrap();
        let tag: String = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let tag: String = tag.chars().filter(char::is_ascii_alphanumeric).collect();
        // The tag as an argument marks init and the VM Portal, which is a fork of it, in the list of processes.
        let command = vec![init_program().into(), tag.clone().into()];
        Some(Bench { directory, launcher: Launcher { command, tag, nearby: Nearby::Named }, runs: 0 })
    }

    pub fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    /// A spec with room for a harmless program, with directories of its own.
    pub fn spec(&mut self, args: &[&str]) -> Spec {
        self.runs += 1;
        let run = self.directory.path().join(format!("run{}", self.runs));
        fs::create_dir_all(run.join("work")).unwrap();
        let limits = Bounds {
            wall: Duration::from_secs(600),
            memory: ByteSize::mib(256),
            processes: 64,
            disk: ByteSize::mib(64),
            cpus: 2,
            stream: ByteSize::mib(4),
            ..Bounds::default()
        };
        Spec {
            executables: vec!["/usr/bin/act".into()],
            args: args.iter().map(OsString::from).collect(),
            scratch: ByteSize::mib(16),
            name: format!("1.{}", self.runs),
            ..Spec::new(self.tree(), "/bin/act", &run, limits)
        }
    }

    pub fn start(&self, spec: &Spec) -> Running {
        sandbox::start(&self.launcher, spec).unwrap()
    }

    pub fn run(&self, spec: &Spec) -> Outcome {
        let exit = self.start(spec).wait();
        outcome(exit, spec)
    }

    /// Runs one act of the program with the usual spec.
    pub fn act(&mut self, args: &[&str]) -> Outcome {
        let spec = self.spec(args);
        self.run(&spec)
    }

    /// The host's processes that belong to this bench: init, VM Portal and programs given the tag.
    pub fn processes(&self) -> Vec<u32> {
        let tag = self.launcher.tag.as_bytes();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != std::process::id())
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.windows(tag.len()).any(|part| part == tag)
            })
            .collect()
    }

    /// Control groups of this bench, in all hierarchies.
    pub fn control_groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
        while let Some((path, depth)) = open.pop() {
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory && entry.file_name().to_string_lossy().contains(&self.launcher.tag) {
                    found.push(entry.path());
                } else if is_directory && depth < 8 {
                    open.push((entry.path(), depth + 1));
                }
            }
        }
        found
    }
}

pub fn outcome(exit: Exit, spec: &Spec) -> Outcome {
    let text = |output: &Output| match output.path() {
        Some(path) => String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned(),
        None => String::new(),
    };
    Outcome { exit, stdout: text(&spec.stdout), stderr: text(&spec.stderr), work: spec.work.clone() }
}

/// Looks again and again until something holds, at most `within`; how long it took.
pub fn eventually(within: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    begun.elapsed()
}

/// Whether the kernel enforces something here.
pub fn has(what: &str) -> bool {
    sandbox::probe().iter().any(|finding| finding.what == what && finding.available)
}
