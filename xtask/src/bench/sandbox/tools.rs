//! The sandboxes that are compared, and how each runs a command.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::workspace::line_of;

/// One way to run a command.
#[derive(Clone, Debug)]
pub(super) enum Tool {
    /// Without any sandbox.
    Native,
    /// `dcgrid evm run`, with everything that it always does.
    Dcgrid(PathBuf),
    /// The same with `--sealed`: the files come from a server of their own.
    Sealed(PathBuf),
    /// All namespaces, the host's files read-only. It has no system-call filter, limits or checks of its own.
    Bubblewrap,
    /// Namespaces, its default system-call filter, no capabilities.
    Firejail,
    /// gVisor: a kernel of its own in user space.
    Runsc,
}

/// A command and what it needs from a sandbox.
#[derive(Clone, Debug)]
pub(super) struct Task<'a> {
    /// Where it starts; what it writes goes there.
    pub directory: &'a Path,
    pub command: Vec<&'a str>,
    /// More options of `dcgrid evm run`.
    pub options: &'a [&'a str],
}

const EACH: [(&str, Tool); 3] =
    [("bwrap", Tool::Bubblewrap), ("firejail", Tool::Firejail), ("runsc", Tool::Runsc)];

/// Most memory, processes and processors: enough for every task.
const LIMITS: [&str; 6] = ["--memory", "2GiB", "--processes", "1024", "--cpus", "64"];

/// The tools that this machine has, and the names of those that it lacks.
pub(super) fn installed(dcgrid: &Path) -> (Vec<Tool>, Vec<&'static str>) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |name: &str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let mut tools = vec![Tool::Native, Tool::Dcgrid(dcgrid.to_owned())];
    let (there, lacking): (Vec<_>, Vec<_>) = EACH.into_iter().partition(|(name, _)| has(name));
    tools.extend(there.into_iter().map(|(_, tool)| tool));
    (tools, lacking.into_iter().map(|(name, _)| name).collect())
}

impl Tool {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Tool::Native => "native",
            Tool::Dcgrid(_) => "dcgrid",
            Tool::Sealed(_) => "sealed",
            Tool::Bubblewrap => "bwrap",
            Tool::Firejail => "firejail",
            Tool::Runsc => "runsc",
        }
    }

    fn command(&self, task: &Task<'_>) -> Command {
        let mut command = match self {
            Tool::Native => Command::new(task.command[0]),
            Tool::Dcgrid(path) | Tool::Sealed(path) => Command::new(path),
            Tool::Bubblewrap | Tool::Firejail | Tool::Runsc => Command::new(self.name()),
        };
        // One thread for those that would take all processors there are.
        command.current_dir(task.directory).env("OMP_NUM_THREADS", "1");
        let here = task.directory;
        match self {
            Tool::Native => return also(command, &task.command[1..]),
            Tool::Dcgrid(_) => command.args(["evm", "run"]).args(LIMITS).args(task.options),
            Tool::Sealed(_) => command.args(["evm", "run", "--sealed"]).args(LIMITS).args(task.options),
            Tool::Bubblewrap => command
                .args(["--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/"])
                .args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind"])
                .args([here, here])
                .arg("--chdir")
                .arg(here),
            Tool::Firejail => command.args([
                "--quiet",
                "--noprofile",
                "--net=none",
                "--seccomp",
                "--caps.drop=all",
                "--nonewprivs",
                "--private-dev",
            ]),
            Tool::Runsc => command.args(["--network=none", "--ignore-cgroups", "do"]),
        };
        command.arg("--");
        also(command, &task.command)
    }

    /// Runs a task in a copy of its directory and tells the processor time it took, the sandbox's own included.
    ///
    /// # Errors
    /// It can't be started, or does not succeed.
    pub(super) fn cpu_time(&self, task: &Task<'_>, meter: &Meter, scratch: &Path) -> Result<Duration> {
        let copy = scratch.join("run");
        copy_directory(task.directory, &copy)?;
        let options: Vec<&str> = task.options.iter().copied().chain(["--workdir", "."]).collect();
        let here = Task { directory: &copy, options: &options, ..task.clone() };
        let took = meter.measure(&self.command(&here), |command| execute(command, scratch).map(drop));
        fs::remove_dir_all(&copy)?;
        took
    }

    /// Runs a task where it is; tells the time from start to end and what it printed.
    ///
    /// # Errors
    /// It can't be started, or does not succeed.
    pub(super) fn time(&self, task: &Task<'_>, scratch: &Path) -> Result<(Duration, String)> {
        execute(&mut self.command(task), scratch)
    }
}

fn execute(command: &mut Command, scratch: &Path) -> Result<(Duration, String)> {
    let (stdout, stderr) = (scratch.join("stdout"), scratch.join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("start {}", line_of(command)))?;
    let wall = begun.elapsed();
    let said = fs::read_to_string(stderr).unwrap_or_default();
    ensure!(status.success(), "{} ended with {status}: {}", line_of(command), said.trim());
    Ok((wall, String::from_utf8_lossy(&fs::read(stdout)?).into_owned()))
}

/// Tells how much processor time a command takes with all that it starts, waited for or not.
#[derive(Debug)]
pub(super) struct Meter {
    /// A control group of version 2: only it counts processes that nobody waits for, as bubblewrap's.
    group: PathBuf,
}

impl Meter {
    /// Makes sure that this machine can measure.
    ///
    /// # Errors
    /// No control group can be made.
    pub(super) fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields.get(2) == Some(&"cgroup2")).then(|| fields[1].to_owned())
        });
        let mount = mount.context("there is no control group file system of version 2")?;
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let group = Path::new(&mount).join(own).join(format!("dcgrid-bench-{}", std::process::id()));
        let meter = Meter { group };
        meter.measure(&Command::new("true"), |command| {
            command.status()?;
            Ok(())
        })?;
        Ok(meter)
    }

    fn measure(&self, command: &Command, run: impl FnOnce(&mut Command) -> Result<()>) -> Result<Duration> {
        fs::create_dir(&self.group).with_context(|| format!("make {}", self.group.display()))?;
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.group.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = command.get_current_dir() {
            inside.current_dir(directory);
        }
        let ran = run(&mut inside);
        let used = fs::read_to_string(self.group.join("cpu.stat"));
        self.remove()?;
        ran?;
        let used = used?;
        let used = used.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        Ok(Duration::from_micros(used.context("malformed cpu.stat")?))
    }

    /// Removes the group, which takes a moment when something that nobody waited for is still ending.
    fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match fs::remove_dir(&self.group) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                removed => return removed.with_context(|| format!("remove {}", self.group.display())),
            }
        }
    }
}

fn also(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("an entry has a name")?);
        if path.is_dir() {
            copy_directory(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}
