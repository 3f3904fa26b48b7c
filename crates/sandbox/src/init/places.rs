//! What the root of a subjob has besides its application, as data with a reason per entry. Paths are relative to
//! the new root.

use std::fs;
use std::io;

use super::landlock;
use crate::sys;

/// Top-level names that are ours whatever the application tree holds.
pub(super) const RESERVED: &[&str] = &["proc", "sys", "dev", "tmp", "work"];

/// Directories that the root has in any case, to mount upon.
pub(super) const MOUNT_POINTS: &[&str] =
    &["proc", "dev", "tmp", "work", "var/tmp", "run/lock", "run/user/1000", NO_INTERFACES];

/// A directory in memory that the subjob can write to, and why.
pub(super) struct Free {
    pub path: &'static str,
    pub mode: u32,
    pub reason: &'static str,
}

pub(super) const FREE: &[Free] = &[
    Free { path: "tmp", mode: 0o1777, reason: "temporary files, and the home directory" },
    Free { path: "var/tmp", mode: 0o1777, reason: "temporary files of programs that want them kept" },
    Free { path: "run/lock", mode: 0o1777, reason: "lock files of programs that share a device" },
    Free { path: "run/user/1000", mode: 0o700, reason: "sockets: where XDG_RUNTIME_DIR is" },
];

/// A device that the host lends, and why a program may have it.
pub(super) struct Device {
    pub name: &'static str,
    pub reason: &'static str,
}

const fn device(name: &'static str, reason: &'static str) -> Device {
    Device { name, reason }
}

pub(super) const DEVICES: &[Device] = &[
    device("null", "output that nobody wants"),
    device("zero", "memory by mmap, input of zeros"),
    device("full", "tests of programs for a full disk"),
    device("random", "seeds"),
    device("urandom", "seeds"),
];

/// `(name, target)` of the links in `/dev`: what every shell and script expects there.
pub(super) const DEVICE_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// How a part of /proc that is about the machine is taken away.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mask {
    /// Can be read, not written.
    ReadOnly,
    /// A file reads as empty.
    EmptyFile,
    /// A directory is empty.
    EmptyDirectory,
    /// A file reads as this, made when the subjob starts.
    Text(fn() -> io::Result<String>),
}

pub(super) struct Masked {
    pub path: &'static str,
    pub mask: Mask,
    pub reason: &'static str,
}

const fn masked(path: &'static str, mask: Mask, reason: &'static str) -> Masked {
    Masked { path, mask, reason }
}

/// A kernel without one of these needs no mask for it.
pub(super) const MASKED: &[Masked] = &[
    masked("proc/sys", Mask::ReadOnly, "settings of the kernel; programs read some, such as pid_max"),
    masked("proc/sysrq-trigger", Mask::ReadOnly, "writing to it reboots or crashes the machine"),
    masked("proc/irq", Mask::ReadOnly, "writing to it moves the machine's interrupts"),
    masked("proc/bus", Mask::ReadOnly, "device registers of the machine"),
    masked("proc/fs", Mask::ReadOnly, "settings of mounted file systems"),
    masked("proc/kcore", Mask::EmptyFile, "the memory of the machine"),
    masked("proc/keys", Mask::EmptyFile, "names of the host's keys"),
    masked("proc/key-users", Mask::EmptyFile, "whose keys there are on the host"),
    masked("proc/kallsyms", Mask::EmptyFile, "addresses in the kernel"),
    masked("proc/kmsg", Mask::EmptyFile, "the kernel's log"),
    masked("proc/timer_list", Mask::EmptyFile, "what every process of the host waits for"),
    masked("proc/sched_debug", Mask::EmptyFile, "names of the host's processes"),
    masked("proc/latency_stats", Mask::EmptyFile, "what the host's processes wait for"),
    masked("proc/interrupts", Mask::EmptyFile, "keystrokes can be timed by it"),
    masked("proc/softirqs", Mask::EmptyFile, "as interrupts"),
    masked(
        "proc/stat",
        Mask::Text(processors),
        "as interrupts, and how busy the desktop is; processors are counted by it",
    ),
    masked("proc/schedstat", Mask::EmptyFile, "how busy each processor is, to the nanosecond"),
    masked("proc/loadavg", Mask::Text(no_load), "how busy the desktop is"),
    masked("proc/pressure", Mask::EmptyDirectory, "what the desktop waits for"),
    masked("proc/vmstat", Mask::EmptyFile, "page faults of the desktop can be timed by it"),
    masked("proc/zoneinfo", Mask::EmptyFile, "as vmstat"),
    masked("proc/buddyinfo", Mask::EmptyFile, "what the desktop allocates can be told by it"),
    masked("proc/diskstats", Mask::EmptyFile, "what the desktop reads and writes, and its disks"),
    masked("proc/partitions", Mask::EmptyFile, "the machine's disks"),
    masked("proc/swaps", Mask::EmptyFile, "names of the host's files"),
    masked("proc/cmdline", Mask::EmptyFile, "how the machine starts, with the names of its disks"),
    masked("proc/modules", Mask::EmptyFile, "the machine's devices"),
    masked("proc/iomem", Mask::EmptyFile, "the machine's devices and addresses"),
    masked("proc/ioports", Mask::EmptyFile, "as iomem"),
    masked("proc/driver", Mask::EmptyDirectory, "the machine's devices"),
    masked(
        "proc/sys/kernel/random/boot_id",
        Mask::Text(random_id),
        "two subjobs could tell that they share a machine",
    ),
    masked("proc/acpi", Mask::EmptyDirectory, "the machine's power switches"),
    masked("proc/scsi", Mask::EmptyDirectory, "writing to it removes disks"),
    masked("proc/asound", Mask::EmptyDirectory, "whether the desktop plays sound"),
];

/// `/proc/stat` of a machine with as many processors that did nothing for a second. Not all zeros: programs divide
/// by the sum.
fn processors() -> io::Result<String> {
    let found = fs::read_to_string("proc/stat")?;
    let names = found.lines().filter_map(|line| line.split(' ').next());
    let mut text: String = names
        .filter(|name| name.starts_with("cpu"))
        .map(|name| format!("{name} 0 0 0 100 0 0 0 0 0 0\n"))
        .collect();
    // The machine's start as its time namespace tells it.
    text.extend(found.lines().filter(|line| line.starts_with("btime ")).map(|line| format!("{line}\n")));
    Ok(text + "intr 0\nctxt 0\nprocesses 1\nprocs_running 1\nprocs_blocked 0\nsoftirq 0\n")
}

fn no_load() -> io::Result<String> {
    Ok("0.00 0.00 0.00 1/1 1\n".to_owned())
}

fn random_id() -> io::Result<String> {
    fs::read_to_string("proc/sys/kernel/random/uuid")
}

/// A directory of the host's /sys that is seen read-only; all others are not there.
pub(super) struct Seen {
    pub path: &'static str,
    pub reason: &'static str,
}

pub(super) const SEEN: &[Seen] = &[
    Seen { path: "sys/devices/system/cpu", reason: "parallel programs count and place their threads by it" },
    Seen { path: "sys/devices/system/node", reason: "and their memory by this" },
];

/// A directory that programs list and complain about on their output when it is missing.
pub(super) const NO_INTERFACES: &str = "sys/class/net";

/// The file of `/etc` that has addresses of names.
pub(super) const HOSTS: &str = "hosts";

/// Files of `/etc` without which libraries misbehave, for trees that don't bring their own.
pub(super) const ETC_FILES: &[(&str, &str)] = &[
    (
        "passwd",
        "root:x:0:0:root:/:/bin/false\n\
         subjob:x:1000:1000:subjob:/tmp/home:/bin/sh\n\
         nobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("group", "root:x:0:\nsubjob:x:1000:\nnogroup:x:65534:\n"),
    (HOSTS, "127.0.0.1 localhost subjob\n::1 localhost\n"),
    // No DNS and no directory service: names are looked up in files alone, at once.
    ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\n"),
];

/// A place in the view of a subjob, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPlace {
    /// Absolute; a directory stands for all below it that is not named itself.
    pub path: String,
    /// What a program may do there, such as `read, write`.
    pub access: &'static str,
    pub reason: &'static str,
}

/// What the builder of the root mounts by itself, in the words of [`seen_places`].
const BUILT: &[(&str, &str, &str)] = &[
    (
        "",
        "read",
        "the application: the registered files and nothing else; those that are code may be executed, and what is \
         written beside its own files is a private copy",
    ),
    ("work", "read, write", "inputs and outputs: the subjob's own directory on the disk"),
    ("dev", "read", "devices of its own, and none that drives the machine"),
    ("dev/pts", "read, write", "terminals that a program makes for its own children"),
    ("dev/mqueue", "read, write", "message queues of its own, by the calls for them"),
    ("dev/shm", "read, write", "shared memory of its own"),
];

/// The same of `/proc`, where Landlock refuses what the files' modes would allow: a change of a process of its own.
fn proc_access() -> &'static str {
    if landlock::is_usable(sys::landlock_abi()) { "read" } else { "read, write" }
}

/// All that a subjob sees besides its application's files, with a reason each.
pub fn seen_places() -> Vec<SeenPlace> {
    let place = |path: &str, access, reason| SeenPlace { path: format!("/{path}"), access, reason };
    let masked = |masked: &Masked| {
        let access = match masked.mask {
            Mask::ReadOnly => "read",
            Mask::EmptyFile | Mask::EmptyDirectory => "empty",
            Mask::Text(_) => "made up",
        };
        place(masked.path, access, masked.reason)
    };
    let mut places: Vec<SeenPlace> =
        BUILT.iter().map(|(path, access, reason)| place(path, access, reason)).collect();
    places.push(place("proc", proc_access(), "its own processes, and none of the sandbox's or the host's"));
    places.extend(FREE.iter().map(|free| place(free.path, "read, write", free.reason)));
    places.extend(
        DEVICES.iter().map(|device| place(&format!("dev/{}", device.name), "read, write", device.reason)),
    );
    places.extend(MASKED.iter().map(masked));
    places.extend(SEEN.iter().map(|seen| place(seen.path, "read", seen.reason)));
    places.sort_by(|one, other| one.path.cmp(&other.path));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_lent_or_taken_away_has_a_reason() {
        assert!(DEVICES.iter().all(|device| !device.reason.is_empty()));
        assert!(SEEN.iter().all(|seen| !seen.reason.is_empty() && seen.path.starts_with("sys/")));
        assert!(FREE.iter().all(|free| !free.reason.is_empty() && MOUNT_POINTS.contains(&free.path)));
        assert!(MASKED.iter().all(|masked| !masked.reason.is_empty() && masked.path.starts_with("proc/")));
    }

    #[test]
    fn the_user_of_a_subjob_is_known_to_its_libraries() {
        let id = crate::identity::INSIDE_ID;
        for (name, text) in ETC_FILES.iter().filter(|(name, _)| ["passwd", "group"].contains(name)) {
            assert!(text.contains(&format!("subjob:x:{id}:")), "{name}");
        }
    }
}
