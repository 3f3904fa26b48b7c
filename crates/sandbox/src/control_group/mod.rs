//! The control group of one subjob: the kernel's own limits on memory, processes and processors, its freezer and
//! its bookkeeping, as far as this machine has them and lets us use them.
//!
//! A group is one directory per hierarchy that is used, named `dcgrid-<tag>-<pid>-<n>`: one under version 2, up
//! to four when the controllers are still version 1. What is missing here, the client enforces by watching.
//! Only the program and its children are in the group. The VM Portal is not: it must stay awake when the group
//! is frozen, so that it can end everything when the client dies.

mod hierarchy;
mod leftovers;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use model::ByteSize;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

pub(crate) use hierarchy::Hierarchies;
pub use leftovers::remove_leftovers;

use crate::error::SandboxError;
use crate::spec::Bounds;

/// How long the kernel may take to let go of a group whose processes have been killed.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a group may take until all of it is frozen.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);

/// Period of the processor quota: the kernel's default.
const CPU_PERIOD_MICROS: u64 = 100_000;

/// Numbers the groups of this process.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// One directory of the group and the version of its hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seat {
    V1(PathBuf),
    V2(PathBuf),
}

impl Seat {
    fn path(&self) -> &Path {
        match self {
            Seat::V1(path) | Seat::V2(path) => path,
        }
    }
}

/// Whether a group competes with all others for the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hurry {
    On,
    Off,
}

/// How a process comes into a group. Written to `cgroup.procs`, which moves whole processes, the kernel would first
/// wait until no process forks or ends: a grace period of RCU, 5 to 20 ms on an idle machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Doors {
    /// The group's directory under version 2: a process is born in it.
    pub version2: Option<OsString>,
    /// `tasks` of each of its directories under version 1: a process with one thread writes `0` into it.
    pub version1: Vec<OsString>,
}

/// A group that exists. Dropped, it is removed as well as can be.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    /// Where each controller's files are; nothing where the machine has none for us.
    memory: Option<Seat>,
    processes: Option<Seat>,
    cpu: Option<Seat>,
    /// The version 2 directory, with or without controllers: freezer, kill and processor time.
    core: Option<PathBuf>,
}

impl ControlGroup {
    /// Makes a group with the given bounds. A controller that can't be used is left out: see
    /// [`limits_memory`](Self::limits_memory) and [`limits_processes`](Self::limits_processes).
    pub(crate) fn create(tag: &str, hierarchies: &Hierarchies, bounds: &Bounds) -> Self {
        let name = format!("{}{}-{}", prefix(tag), std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let core =
            hierarchies.place_v2().map(|parent| parent.join(&name)).filter(|at| fs::create_dir(at).is_ok());
        let seat = |controller: &str, limit: &dyn Fn(&Seat) -> io::Result<()>| {
            let seat = match &core {
                Some(core) if has_controller(core, controller) => Seat::V2(core.clone()),
                _ => Seat::V1(hierarchies.place_v1(controller)?.join(&name)),
            };
            if let Seat::V1(path) = &seat {
                fs::create_dir(path).ok()?;
            }
            match limit(&seat) {
                Ok(()) => Some(seat),
                Err(_) => {
                    if let Seat::V1(path) = &seat {
                        let _ = fs::remove_dir(path);
                    }
                    None
                }
            }
        };
        ControlGroup {
            memory: seat("memory", &|seat| limit_memory(seat, bounds.memory)),
            processes: seat("pids", &|seat| {
                fs::write(seat.path().join("pids.max"), bounds.processes.to_string())
            }),
            cpu: seat("cpu", &|seat| limit_cpu(seat, bounds.cpus)),
            core,
        }
    }

    pub(crate) fn limits_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub(crate) fn limits_processes(&self) -> bool {
        self.processes.is_some()
    }

    pub(crate) fn limits_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    pub(crate) fn can_freeze(&self) -> bool {
        self.core.as_ref().is_some_and(|core| core.join("cgroup.freeze").exists())
    }

    /// How a process comes into the group.
    pub(crate) fn doors(&self) -> Doors {
        Doors {
            version2: self.core.clone().map(PathBuf::into_os_string),
            version1: self.version1().map(|path| path.join("tasks").into_os_string()).collect(),
        }
    }

    /// How often the kernel has killed a process of the group for want of memory.
    pub(crate) fn memory_kills(&self) -> u64 {
        match &self.memory {
            Some(Seat::V2(path)) => keyed_number(&path.join("memory.events"), "oom_kill"),
            Some(Seat::V1(path)) => keyed_number(&path.join("memory.oom_control"), "oom_kill"),
            None => 0,
        }
    }

    /// The most memory the group ever had, when the kernel counts it.
    pub(crate) fn peak_memory(&self) -> Option<ByteSize> {
        let file = match self.memory.as_ref()? {
            Seat::V2(path) => path.join("memory.peak"),
            Seat::V1(path) => path.join("memory.max_usage_in_bytes"),
        };
        fs::read_to_string(file).ok()?.trim().parse().ok().map(ByteSize)
    }

    /// The most processes and threads that were alive at one time, when the kernel counts them.
    pub(crate) fn peak_processes(&self) -> Option<u32> {
        let path = self.processes.as_ref()?.path().join("pids.peak");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// How often a process or thread was refused for the limit.
    pub(crate) fn refused_processes(&self) -> u64 {
        self.processes.as_ref().map_or(0, |seat| keyed_number(&seat.path().join("pids.events"), "max"))
    }

    /// Processor time of all that ever was in the group, when the kernel counts it.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let micros = keyed_number(&self.core.as_ref()?.join("cpu.stat"), "usage_usec");
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Lets the group compete with all others for a moment. To stop or to die a process must come to run, and on a
    /// busy desktop one of the idle class may not for seconds.
    pub(crate) fn hurry(&self, hurry: Hurry) {
        if let Some(seat) = &self.cpu {
            let value = match hurry {
                Hurry::On => "0",
                Hurry::Off => "1",
            };
            // Older kernels have no such file and only low weight; then it takes as long as it takes.
            let _ = fs::write(seat.path().join("cpu.idle"), value);
        }
    }

    /// Has the group freeze or thaw. Processes in the kernel follow when they leave it.
    ///
    /// # Errors
    /// When the group can't be frozen.
    pub(crate) fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        let core = self.core.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        fs::write(core.join("cgroup.freeze"), if frozen { "1" } else { "0" })
    }

    /// Waits until the kernel says that all of the group is frozen.
    ///
    /// # Errors
    /// When it isn't within five seconds.
    pub(crate) fn await_frozen(&self) -> io::Result<()> {
        let core = self.core.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        await_frozen(&mut File::open(core.join("cgroup.events"))?)
    }

    /// The processes in the group, where one hierarchy has them all.
    pub(crate) fn members(&self) -> Option<Vec<u32>> {
        let text = fs::read_to_string(self.core.as_ref()?.join("cgroup.procs")).ok()?;
        Some(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Kills whatever is left in the group and removes it.
    ///
    /// # Errors
    /// When the kernel doesn't let go of a directory within five seconds.
    pub(crate) fn remove(&self) -> Result<(), SandboxError> {
        self.directories().into_iter().try_for_each(remove_directory)
    }

    fn directories(&self) -> Vec<&Path> {
        self.core.as_deref().into_iter().chain(self.version1()).collect()
    }

    fn version1(&self) -> impl Iterator<Item = &Path> {
        let seats = [&self.memory, &self.processes, &self.cpu];
        seats.into_iter().flatten().filter_map(|seat| match seat {
            Seat::V1(path) => Some(path.as_path()),
            Seat::V2(_) => None,
        })
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // A group that can't be removed now is found by its name at the client's next start.
        let _ = self.remove();
    }
}

/// How the names of a client's groups begin.
fn prefix(tag: &str) -> String {
    format!("dcgrid-{tag}-")
}

fn has_controller(group: &Path, controller: &str) -> bool {
    fs::read_to_string(group.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
}

fn limit_memory(seat: &Seat, limit: ByteSize) -> io::Result<()> {
    let limit = limit.0.to_string();
    match seat {
        Seat::V2(path) => {
            fs::write(path.join("memory.max"), &limit)?;
            write_if_there(&path.join("memory.swap.max"), "0")?;
            // A program of which one process was killed can't be relied on: end all of it.
            write_if_there(&path.join("memory.oom.group"), "1")
        }
        Seat::V1(path) => {
            fs::write(path.join("memory.limit_in_bytes"), &limit)?;
            // Memory and swap together, so that nothing is left for swap. Must not be below the limit above.
            write_if_there(&path.join("memory.memsw.limit_in_bytes"), &limit)
        }
    }
}

/// Bounds the processors and gives the group the lowest weight there is. The weight matters as much as the
/// processes' own idle class: a group competes with its siblings as one, whatever is inside.
fn limit_cpu(seat: &Seat, cpus: u32) -> io::Result<()> {
    let quota = u64::from(cpus) * CPU_PERIOD_MICROS;
    let (path, weight, lowest) = match seat {
        Seat::V2(path) => {
            fs::write(path.join("cpu.max"), format!("{quota} {CPU_PERIOD_MICROS}"))?;
            (path, "cpu.weight", "1")
        }
        Seat::V1(path) => {
            fs::write(path.join("cpu.cfs_period_us"), CPU_PERIOD_MICROS.to_string())?;
            fs::write(path.join("cpu.cfs_quota_us"), quota.to_string())?;
            (path, "cpu.shares", "2")
        }
    };
    let idle = path.join("cpu.idle");
    if idle.exists() { fs::write(idle, "1") } else { fs::write(path.join(weight), lowest) }
}

fn write_if_there(path: &Path, text: &str) -> io::Result<()> {
    if path.exists() { fs::write(path, text) } else { Ok(()) }
}

/// The number after `key` in a file of `key number` lines; 0 when there is none.
fn keyed_number(path: &Path, key: &str) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| keyed(&text, key)).unwrap_or(0)
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn await_frozen(events: &mut File) -> io::Result<()> {
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    loop {
        let mut text = String::new();
        events.seek(SeekFrom::Start(0))?;
        events.read_to_string(&mut text)?;
        if keyed(&text, "frozen") == Some(1) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the control group did not freeze"));
        }
        wait_for_change(events, left)?;
    }
}

/// Waits until the kernel says that a group's event file has changed, at most `left`.
fn wait_for_change(events: &File, left: Duration) -> io::Result<()> {
    let mut wanted = [PollFd::new(events, PollFlags::PRI)];
    let left = left.try_into().map_err(io::Error::other)?;
    match rustix::event::poll(&mut wanted, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Kills what is in a group and removes its directory; a group that is gone already is fine.
pub(super) fn remove_directory(path: &Path) -> Result<(), SandboxError> {
    let deadline = Instant::now() + REMOVE_TIMEOUT;
    let mut pause = Duration::from_micros(200);
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) if Instant::now() >= deadline => {
                return Err(SandboxError::RemoveGroup { path: path.to_owned(), source });
            }
            Err(_) => kill_members(path),
        }
        // The kernel has no event for "may be removed now"; it is a matter of microseconds after the last exit.
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn kill_members(path: &Path) {
    let kill = path.join("cgroup.kill");
    if kill.exists() && fs::write(kill, "1").is_ok() {
        return;
    }
    let members = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        // Fails for one that has ended since, which is what is wanted.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_key() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "under_oom"), Some(0));
        assert_eq!(keyed(text, "oom"), None);
        assert_eq!(keyed("", "oom_kill"), None);
    }
}
