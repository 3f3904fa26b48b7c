//! What this machine can give a sandbox, and who enforces what it can't.

use std::fs;
use std::time::Duration;

use model::ByteSize;
use rustix::fs::{Mode, OFlags};

use crate::control_group::{ControlGroup, Hierarchies};
use crate::identity::is_privileged;
use crate::init::landlock_is_usable as is_usable;
use crate::spec::Bounds;
use crate::sys;

/// One ability of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, such as `memory limit`.
    pub what: &'static str,
    /// Whether the kernel has it and lets us use it.
    pub available: bool,
    pub enforced_by: Enforcer,
    /// What was found, for people.
    pub detail: String,
    /// What to do about it, if it is missing.
    pub fix: Option<&'static str>,
}

/// Who makes a protection hold on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcer {
    Kernel,
    /// The Desktop Controller, by looking every 100 ms: a fast program overshoots before it is ended.
    DesktopController,
    Nobody,
}

const FIX_GROUPS: &str = "run the client as a system service, or have systemd delegate its control group \
                          (Delegate=yes)";
const FIX_NAMESPACES: &str = "run the client as a system service, or allow user namespaces: sysctl \
                              user.max_user_namespaces, kernel.unprivileged_userns_clone=1, and an AppArmor \
                              profile where kernel.apparmor_restrict_unprivileged_userns=1";

/// Looks at the machine. Makes a control group for a moment and removes it again; changes nothing else.
pub fn probe() -> Vec<Finding> {
    let mut findings =
        vec![namespaces(), seccomp(), landlock(), overlay(), own_directories(), sealed_files(), fixed_code()];
    findings.extend(control_groups());
    findings
}

fn namespaces() -> Finding {
    let privileged = is_privileged();
    let obstacle = [
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ]
    .into_iter()
    .filter(|(path, _)| !privileged || path.ends_with("max_user_namespaces"))
    .find(|(path, closed)| fs::read_to_string(path).is_ok_and(|text| text.trim() == *closed));
    let supported = fs::exists("/proc/self/ns/user").unwrap_or(false);
    let available = supported && obstacle.is_none();
    Finding {
        what: "namespaces",
        available,
        enforced_by: if available { Enforcer::Kernel } else { Enforcer::Nobody },
        detail: match (supported, obstacle, privileged) {
            (false, _, _) => "the kernel has no user namespaces: subjobs can't run".to_owned(),
            (true, Some((path, value)), _) => format!("{path} is {value}: subjobs can't run"),
            (true, None, true) => "each subjob has a user id of its own".to_owned(),
            (true, None, false) => "subjobs have the client's own user id, in a user namespace".to_owned(),
        },
        fix: (!available).then_some(FIX_NAMESPACES),
    }
}

fn seccomp() -> Finding {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let available = actions.split_whitespace().any(|action| action == "errno");
    Finding {
        what: "system call filter",
        available,
        enforced_by: if available { Enforcer::Kernel } else { Enforcer::Nobody },
        detail: if available { "seccomp with errno answers" } else { "no seccomp: subjobs can't run" }
            .to_owned(),
        fix: (!available).then_some("use a kernel with CONFIG_SECCOMP_FILTER"),
    }
}

fn landlock() -> Finding {
    let abi = sys::landlock_abi();
    let available = is_usable(abi);
    Finding {
        what: "Landlock",
        available,
        // The mounts say the same; without Landlock, they are the only ones to say it.
        enforced_by: Enforcer::Kernel,
        detail: match abi {
            Some(abi) if available => format!("ABI {abi}"),
            Some(abi) => format!("ABI {abi}, too old: mounts and the filter alone"),
            None => "not in this kernel, or switched off: mounts and the filter alone".to_owned(),
        },
        fix: (!available).then_some("boot a kernel with CONFIG_SECURITY_LANDLOCK and landlock in lsm="),
    }
}

fn overlay() -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_there = known.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    let available = is_there && (is_privileged() || kernel_is_at_least(OVERLAY_FOR_USERS));
    Finding {
        what: "overlay file system",
        available,
        enforced_by: Enforcer::Kernel,
        detail: match (is_there, available) {
            (_, true) => "mounts tell no path of the application",
            (true, false) => {
                "not for ordinary users before Linux 5.11: mounts tell where the application lies"
            }
            (false, _) => "not in the kernel, or not loaded: mounts tell where the application lies",
        }
        .to_owned(),
        fix: (!available).then_some("modprobe overlay, or Linux 5.11 or newer"),
    }
}

/// Whether a file system in user space can be mounted, which sealed files need.
pub fn sealed_files() -> Finding {
    let opened = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    Finding {
        what: "sealed files",
        available: opened.is_ok(),
        enforced_by: if opened.is_ok() { Enforcer::Kernel } else { Enforcer::Nobody },
        detail: match &opened {
            Ok(_) => "FUSE".to_owned(),
            Err(error) => format!("/dev/fuse can't be opened: {error}"),
        },
        fix: opened.is_err().then_some(
            "load the kernel module fuse, and let the client open /dev/fuse (mode 0666, as udev has it)",
        ),
    }
}

/// Whether a program can write where its files lie. The file system of the client's state must be able to show
/// files as somebody else's too, which ext4, xfs and btrfs are.
fn own_directories() -> Finding {
    let available = overlay().available && (!is_privileged() || kernel_is_at_least(OVERLAY_MAPS_IDS));
    Finding {
        what: "own directories",
        available,
        enforced_by: Enforcer::Kernel,
        detail: if available {
            "programs can write beside their own files, privately"
        } else {
            "programs can't write beside their own files"
        }
        .to_owned(),
        fix: (!available).then_some("overlay in the kernel, and for a system service Linux 5.19 or newer"),
    }
}

fn fixed_code() -> Finding {
    let available = sys::can_refuse_new_code();
    Finding {
        what: "fixed code",
        available,
        enforced_by: Enforcer::Kernel,
        detail: if available {
            "memory that was written never becomes executable"
        } else {
            "by the filter alone"
        }
        .to_owned(),
        fix: (!available).then_some("use Linux 6.3 or newer"),
    }
}

/// The first Linux in which an ordinary user can mount an overlay in a user namespace.
const OVERLAY_FOR_USERS: (u32, u32) = (5, 11);

/// The first Linux in which an overlay can be made of files that are shown as somebody else's.
const OVERLAY_MAPS_IDS: (u32, u32) = (5, 19);

fn kernel_is_at_least(wanted: (u32, u32)) -> bool {
    let name = rustix::system::uname();
    version(&name.release().to_string_lossy()).is_some_and(|found| found >= wanted)
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Tries for real: what a group was made with is there.
fn control_groups() -> Vec<Finding> {
    let harmless = Bounds {
        wall: Duration::from_secs(1),
        memory: ByteSize::gib(1),
        processes: 16,
        disk: ByteSize(0),
        cpus: 1,
        stream: ByteSize(0),
        cpu: None,
        io_rate: None,
    };
    let group = Hierarchies::detect().map(|found| ControlGroup::create("probe", &found, &harmless)).ok();
    let has = |ability: fn(&ControlGroup) -> bool| group.as_ref().is_some_and(ability);
    let watched = Enforcer::DesktopController;
    [
        ("memory limit", has(ControlGroup::limits_memory), watched, "sampled every 100 ms"),
        ("process limit", has(ControlGroup::limits_processes), Enforcer::Kernel, "RLIMIT_NPROC alone"),
        ("processor limit", has(ControlGroup::limits_cpu), Enforcer::Nobody, "only the idle class bounds it"),
        ("freezer", has(ControlGroup::can_freeze), watched, "paused by SIGSTOP, which a program may notice"),
    ]
    .into_iter()
    .map(|(what, available, otherwise, without)| Finding {
        what,
        available,
        enforced_by: if available { Enforcer::Kernel } else { otherwise },
        detail: if available { "by control group" } else { without }.to_owned(),
        fix: (!available).then_some(FIX_GROUPS),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_releases() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15-generic"), Some((5, 15)));
        assert_eq!((version("6"), version("")), (None, None));
    }

    #[test]
    fn every_missing_ability_comes_with_a_cure() {
        for finding in probe() {
            assert_eq!(finding.available, finding.fix.is_none(), "{finding:?}");
            assert!(!finding.available || finding.enforced_by == Enforcer::Kernel, "{finding:?}");
        }
    }
}
