//! Wraps programs of this machine with a private display and runs them in the sandbox, without a grid around it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use grid_tests::binary;
use model::{BlobHash, ByteSize};
use protocol::manifest::{DISPLAY_SERVER, Entry, Manifest};
use sandbox::{Bounds, Display, Exit, INIT_ARGUMENT, Launcher, Running, Spec};
use tempfile::TempDir;
use wrap::{Request, WrapError, Wrapped, wrap};

/// An application tree on the disk.
pub struct Application {
    directory: TempDir,
    pub manifest: Manifest,
    launcher: Launcher,
}

/// How a run ended, with what it wrote.
#[derive(Debug)]
pub struct Outcome {
    pub exit: Exit,
    pub stderr: String,
    pub stdout: String,
    work: PathBuf,
    /// Removed with this.
    _directory: TempDir,
}

/// A run that has not ended.
pub struct Run {
    pub running: Running,
    spec: Spec,
    directory: TempDir,
}

/// Says that a test did not test anything here; the runner counts these lines.
pub fn skip(reason: &str) {
    println!("skipped: {reason}");
}

/// Looks again and again until something holds; 30 s at most.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Application {
    /// Nothing, said aloud, when the program or the server is not installed here.
    pub fn new(program: &str, include: &[&str], display: wrap::Display) -> Option<Application> {
        let request = Request {
            program: program.into(),
            include: include.iter().map(|what| (*what).to_owned()).collect(),
            shell_text: None,
            base_dir: "/".into(),
            search_path: "/usr/bin:/bin".into(),
            jit: wrap::Jit::Auto,
            display,
        };
        match wrap(&request) {
            Ok(wrapped) => Some(Application::unpack(&wrapped)),
            Err(
                error @ (WrapError::UnknownProgram { .. }
                | WrapError::UnknownPackage { .. }
                | WrapError::UnknownInclude { .. }
                | WrapError::Absent { .. }
                | WrapError::NoDisplay { .. }),
            ) => {
                skip(&error.to_string());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn unpack(wrapped: &Wrapped) -> Application {
        let directory = TempDir::new().unwrap();
        let root = directory.path().join("tree");
        let copy = |hash: &BlobHash, target: &Path| {
            wrapped.sources[hash].copy_to(target).map(|found| found == *hash)
        };
        desktop_controller::tree::lay_out(&wrapped.manifest, &root, copy).unwrap();
        // A subjob's user must be able to pass through.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let tag: String = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let tag: String = tag.chars().filter(char::is_ascii_alphanumeric).collect();
        let command = vec![binary().into(), INIT_ARGUMENT.into()];
        Application {
            directory,
            manifest: wrapped.manifest.clone(),
            launcher: Launcher { command, ..Launcher::new(tag) },
        }
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.directory.path().join("tree").join(path.trim_start_matches('/'))).unwrap();
    }

    /// A spec with a display and room for a program with windows; `files` lie in `/work`.
    fn spec(&self, files: &[(&str, &str)], args: &[&str], run: &Path) -> Spec {
        let work = run.join("work");
        fs::create_dir_all(&work).unwrap();
        for (name, text) in files {
            fs::write(work.join(name), text).unwrap();
        }
        let is_code = |path: &&String| match &self.manifest.entries[*path] {
            Entry::File { kind, .. } => kind.is_code(),
            Entry::Symlink { .. } | Entry::Directory => false,
        };
        let limits = Bounds {
            wall: Duration::from_secs(600),
            processes: 32,
            disk: ByteSize::mib(64),
            cpus: 2,
            stream: ByteSize::mib(4),
            ..Bounds::default()
        };
        Spec {
            executables: self.manifest.entries.keys().filter(is_code).map(PathBuf::from).collect(),
            args: args.iter().map(Into::into).collect(),
            display: Some(Display { server: DISPLAY_SERVER.into(), size: (1_024, 768) }),
            scratch: ByteSize::mib(64),
            ..Spec::new(self.directory.path().join("tree"), &self.manifest.program, run, limits)
        }
    }

    pub fn start(&self, files: &[(&str, &str)], args: &[&str], change: impl FnOnce(&mut Spec)) -> Run {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let mut spec = self.spec(files, args, directory.path());
        change(&mut spec);
        let running = sandbox::start(&self.launcher, &spec).unwrap();
        Run { running, spec, directory }
    }

    /// Runs it to its end.
    pub fn run(&self, files: &[(&str, &str)], args: &[&str]) -> Outcome {
        self.start(files, args, |_| ()).wait()
    }
}

impl Run {
    pub fn wait(self) -> Outcome {
        let Run { running, spec, directory } = self;
        let exit = running.wait();
        let text = |name: &str| {
            String::from_utf8_lossy(&fs::read(directory.path().join(name)).unwrap()).into_owned()
        };
        Outcome {
            exit,
            stdout: text("stdout"),
            stderr: text("stderr"),
            work: spec.work,
            _directory: directory,
        }
    }

    pub fn work(&self) -> &Path {
        &self.spec.work
    }
}

impl Outcome {
    /// What the program left in `/work`.
    pub fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.work.join(name)).unwrap_or_else(|e| panic!("{name}: {e}; {self:?}"))
    }

    /// The titles of the dialogs that were closed; each must have a picture.
    pub fn dialogs(&self) -> Vec<&str> {
        let dialogs = &self.exit.dialogs;
        assert!(dialogs.iter().all(|dialog| dialog.picture.starts_with(b"\x89PNG")), "{self:?}");
        dialogs.iter().map(|dialog| dialog.dialog.title.as_str()).collect()
    }
}
