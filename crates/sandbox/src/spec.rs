//! What to run and within which bounds.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::{ByteSize, Limits, NetworkAccess, Resources};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::display::{self, MAX_SIDE};
use crate::error::SandboxError;
use crate::served::Served;

/// One program to run in a sandbox of its own.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Application tree on the host, seen read-only as `/`. Nothing is written into it. When the client is root,
    /// the subjob has a user id of its own, so the tree must be readable for others.
    pub root: PathBuf,
    /// Directory on the host, seen read-write as `/work`, where the program starts. The subjob becomes the owner
    /// of it and of all it holds.
    pub work: PathBuf,
    /// Absolute path inside `root`.
    pub program: PathBuf,
    /// Absolute paths inside `root` of every file that may be executed or mapped executable. All other files, and
    /// everything that the subjob can write, is neither.
    pub executables: Vec<PathBuf>,
    /// Whether its programs may make code at run time, as a Java virtual machine does.
    pub code: Code,
    /// Arguments after the program's own name.
    pub args: Vec<OsString>,
    /// The whole environment, except that HOME, PATH, TMPDIR, USER and LOGNAME have defaults.
    pub env: Vec<(OsString, OsString)>,
    pub stdin: Stdin,
    pub stdout: Output,
    pub stderr: Output,
    pub limits: Bounds,
    /// The mount that `root`, `work` and those of the streams that are files lie in, if they don't lie on the host.
    pub served: Option<Served>,
    pub network: NetworkAccess,
    /// A private, invisible X display for the program. What it uses counts as the program's, except that its few
    /// processes come on top of the limit.
    pub display: Option<Display>,
    /// Size of `/tmp` and of `/dev/shm`, each; what they hold counts as memory.
    pub scratch: ByteSize,
    /// For people: how errors and threads name the subjob.
    pub name: String,
}

/// Where the program reads its standard input from.
#[derive(Clone, Debug)]
pub enum Stdin {
    Null,
    /// A regular file on the host; the program can only read it.
    File(PathBuf),
    /// The reading end of a pipe that only the caller writes into: nothing else is safe to share with a program.
    Pipe(Arc<OwnedFd>),
}

/// Where what the program writes to one of its streams goes.
#[derive(Clone, Debug)]
pub enum Output {
    /// A file on the host. It must not exist yet.
    File(PathBuf),
    /// The writing end of a pipe that only the caller reads from. It stays open as long as this value lives: who
    /// waits for the end of the stream drops the spec first. [`Bounds::stream`] is then the reader's to keep.
    Pipe(Arc<OwnedFd>),
}

impl Output {
    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Output::File(path) => Some(path),
            Output::Pipe(_) => None,
        }
    }
}

/// Whether memory that was written may become executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Code {
    /// Code comes from the application's executable files and from nowhere else.
    #[default]
    Fixed,
    /// Programs that compile at run time (JIT) work.
    Generated,
}

/// How to make the display; paths are inside `root`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Display {
    /// The X server, such as `/usr/bin/Xvfb`.
    pub server: PathBuf,
    /// Width and height in pixels.
    pub size: (u16, u16),
}

/// What a program may use. Crossing a bound ends it, see [`crate::LimitHit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Time from start to end; time spent paused does not count.
    pub wall: Duration,
    /// Memory of all its processes together, `/tmp` and `/dev/shm` included.
    pub memory: ByteSize,
    /// Processes and threads alive at one time.
    pub processes: u32,
    /// Space taken by the work directory; also the largest file it can write.
    pub disk: ByteSize,
    /// Processors it may keep busy.
    pub cpus: u32,
    /// Size of standard output and of standard error, each.
    pub stream: ByteSize,
    /// Processor time of all its processes together.
    pub cpu: Option<Duration>,
    /// Bytes per second read from files, and as many written; over it the subjob is slowed, not ended.
    pub io_rate: Option<ByteSize>,
}

/// Part of a subjob's memory that `/tmp` and `/dev/shm` may take, each, when nobody says otherwise: one in this many.
const SCRATCH_SHARE: u64 = 2;

impl Spec {
    /// A program that is given nothing: no argument, no variable, an empty input, no network, no display; nothing else
    /// is executable, and nothing makes code. Whoever grants more changes the field that says so.
    ///
    /// `run` is a directory of this run alone: `work` in it is to be there by the start, `stdout` and `stderr` are made.
    pub fn new(root: impl Into<PathBuf>, program: impl Into<PathBuf>, run: &Path, limits: Bounds) -> Self {
        let program = program.into();
        Spec {
            root: root.into(),
            work: run.join("work"),
            name: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            executables: vec![program.clone()],
            program,
            code: Code::Fixed,
            args: Vec::new(),
            env: Vec::new(),
            stdin: Stdin::Null,
            stdout: Output::File(run.join("stdout")),
            stderr: Output::File(run.join("stderr")),
            scratch: ByteSize(limits.memory.0 / SCRATCH_SHARE),
            limits,
            served: None,
            network: NetworkAccess::default(),
            display: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        let bad = |field, why: &str| Err(SandboxError::Spec { field, why: why.to_owned() });
        if let Some(served) = &self.served {
            if !is_plain_absolute(&served.at) || !served.at.is_dir() {
                return bad("served", "it must be mounted at the absolute path of a directory");
            }
            if !(self.is_served(&self.root) && self.is_served(&self.work)) {
                return bad("served", "root and work must lie in it");
            }
        }
        for (field, path) in [("root", &self.root), ("work", &self.work)] {
            if !is_plain_absolute(path) || path.parent().is_none() {
                return bad(field, "it must be an absolute path without '..', and not '/'");
            }
            if !self.is_served(path) && !path.is_dir() {
                return bad(field, &format!("'{}' is not a directory", path.display()));
            }
        }
        if self.work.starts_with(&self.root) || self.root.starts_with(&self.work) {
            return bad("work", "it and root must not contain one another");
        }
        for (field, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            match output {
                Output::File(path)
                    if !is_plain_absolute(path)
                        || path.starts_with(&self.work)
                        || path.starts_with(&self.root) =>
                {
                    return bad(field, "it must be an absolute path outside of work and root");
                }
                Output::Pipe(pipe) if !is_pipe(pipe) => return bad(field, NOT_A_PIPE),
                Output::File(_) | Output::Pipe(_) => {}
            }
        }
        match &self.stdin {
            Stdin::File(path) if !(is_plain_absolute(path) && (self.is_served(path) || path.is_file())) => {
                let why = format!("'{}' is not the absolute path of a regular file", path.display());
                return bad("stdin", &why);
            }
            Stdin::Pipe(pipe) if !is_pipe(pipe) => return bad("stdin", NOT_A_PIPE),
            Stdin::Null | Stdin::File(_) | Stdin::Pipe(_) => {}
        }
        if !is_plain_absolute(&self.program) {
            return bad("program", "it must be an absolute path without '..'");
        }
        if !self.executables.iter().all(|path| is_plain_absolute(path) && path.parent().is_some()) {
            return bad("executables", "they must be absolute paths without '..'");
        }
        let texts = self.args.iter().chain(self.env.iter().flat_map(|(name, value)| [name, value]));
        if texts.into_iter().any(|text| text.as_bytes().contains(&0)) {
            return bad("command", "an argument or environment variable holds a NUL byte");
        }
        if self.env.iter().any(|(name, _)| name.is_empty() || name.as_bytes().contains(&b'=')) {
            return bad("environment", "a name is empty or holds '='");
        }
        if let Some(Display { server, size: (width, height) }) = &self.display {
            if !is_plain_absolute(server) {
                return bad("display", "its server must be an absolute path without '..'");
            }
            if [width, height].into_iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
                return bad("display", &format!("its sides must be 1 to {MAX_SIDE} pixels"));
            }
        }
        self.limits.check()
    }

    /// Whether a path lies in the mount that is served.
    pub(crate) fn is_served(&self, path: &Path) -> bool {
        let served = self.served.as_ref();
        served.is_some_and(|served| path != served.at && path.starts_with(&served.at))
    }

    /// Processes and threads that the kernel is to allow: those of the program and of its display.
    pub(crate) fn tasks(&self) -> u32 {
        let display = if self.display.is_some() { display::TASKS } else { 0 };
        self.limits.processes.saturating_add(display)
    }
}

impl Bounds {
    /// What a job's limits and the resources it asks for come to for one of its subjobs. Each of the streams may take
    /// all the room of its outputs.
    pub fn of(limits: &Limits, resources: &Resources) -> Self {
        Bounds {
            wall: limits.runtime_max,
            memory: resources.memory,
            processes: limits.processes,
            disk: resources.disk,
            cpus: resources.cpus,
            stream: limits.output,
            cpu: limits.cpu_max,
            io_rate: limits.io_rate,
        }
    }

    fn check(&self) -> Result<(), SandboxError> {
        let zero = [
            ("wall limit", self.wall.is_zero()),
            ("memory limit", self.memory.0 == 0),
            ("process limit", self.processes == 0),
            ("processor limit", self.cpus == 0),
        ];
        match zero.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((field, _)) => Err(SandboxError::Spec { field, why: "it is 0".to_owned() }),
            None => Ok(()),
        }
    }
}

/// Those of a job that names none.
impl Default for Bounds {
    fn default() -> Self {
        Bounds::of(&Limits::default(), &Resources::default())
    }
}

/// A terminal takes orders from whoever holds it, a file can be changed, a socket leads elsewhere.
const NOT_A_PIPE: &str = "it is not a pipe, and a program gets nothing else of the caller's";

fn is_pipe(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// Whether a path says where it goes, from the root on, without `.`, `..` and NUL.
fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !path.as_os_str().as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(base: &Path) -> Spec {
        for name in ["root", "work"] {
            std::fs::create_dir(base.join(name)).unwrap();
        }
        Spec::new(base.join("root"), "/bin/true", base, Bounds::default())
    }

    fn check(change: impl FnOnce(&mut Spec), expect: Option<&str>) {
        let base = tempfile::tempdir().unwrap();
        let mut spec = spec(base.path());
        change(&mut spec);
        let found = match spec.check() {
            Err(SandboxError::Spec { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
            Ok(()) => None,
        };
        assert_eq!(found, expect);
    }

    #[test]
    fn nothing_is_granted_that_nobody_asked_for() {
        let base = tempfile::tempdir().unwrap();
        let spec = spec(base.path());
        assert_eq!(spec.executables, [Path::new("/bin/true")]);
        assert_eq!((spec.code, spec.network, spec.display), (Code::Fixed, NetworkAccess::default(), None));
        assert!(matches!(spec.stdin, Stdin::Null) && spec.args.is_empty() && spec.env.is_empty());
        assert!(spec.scratch < spec.limits.memory);
    }

    #[test]
    fn a_spec_that_says_clearly_what_to_run_is_taken() {
        check(|_| (), None);
        check(|spec| spec.args.push("--".into()), None);
    }

    #[test]
    fn a_spec_that_reaches_into_the_host_is_refused() {
        check(|spec| spec.root = "/".into(), Some("root"));
        check(|spec| spec.root = spec.work.join("../root"), Some("root"));
        check(|spec| spec.work = "work".into(), Some("work"));
        check(|spec| spec.work = spec.root.clone(), Some("work"));
        check(|spec| spec.stdout = Output::File(spec.work.join("stdout")), Some("stdout"));
        check(|spec| spec.stderr = Output::File("stderr".into()), Some("stderr"));
        check(|spec| spec.stdin = Stdin::File("/dev/zero".into()), Some("stdin"));
        check(|spec| spec.program = "bin/true".into(), Some("program"));
        check(|spec| spec.executables.push("../true".into()), Some("executables"));
        check(|spec| spec.executables.push("/".into()), Some("executables"));
    }

    #[test]
    fn nothing_of_the_caller_but_pipes_is_handed_to_a_program() {
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        let (reading, writing) = (Arc::new(reading), Arc::new(writing));
        check(|spec| spec.stdin = Stdin::Pipe(Arc::clone(&reading)), None);
        check(|spec| spec.stdout = Output::Pipe(Arc::clone(&writing)), None);
        let other: Arc<OwnedFd> = Arc::new(std::fs::File::open("/dev/null").unwrap().into());
        check(|spec| spec.stdin = Stdin::Pipe(Arc::clone(&other)), Some("stdin"));
        check(|spec| spec.stderr = Output::Pipe(Arc::clone(&other)), Some("stderr"));
    }

    #[test]
    fn a_display_is_a_program_and_a_screen() {
        let display = |server: &str, size| Some(Display { server: server.into(), size });
        check(|spec| spec.display = display("/usr/bin/Xvfb", (1_280, 1_024)), None);
        check(|spec| spec.display = display("/usr/bin/Xvfb", (MAX_SIDE, 1)), None);
        check(|spec| spec.display = display("Xvfb", (640, 480)), Some("display"));
        check(|spec| spec.display = display("/usr/bin/../Xvfb", (640, 480)), Some("display"));
        check(|spec| spec.display = display("/usr/bin/Xvfb", (0, 480)), Some("display"));
        check(|spec| spec.display = display("/usr/bin/Xvfb", (640, MAX_SIDE + 1)), Some("display"));
    }

    #[test]
    fn text_that_the_kernel_would_cut_short_is_refused() {
        check(|spec| spec.args.push("a\0b".into()), Some("command"));
        check(|spec| spec.env.push(("A=B".into(), "c".into())), Some("environment"));
    }

    #[test]
    fn a_limit_of_zero_is_a_mistake() {
        check(|spec| spec.limits.memory = ByteSize(0), Some("memory limit"));
        check(|spec| spec.limits.wall = Duration::ZERO, Some("wall limit"));
        check(|spec| spec.limits.disk = ByteSize(0), None);
    }
}
