//! What this machine can give a sandbox, and who enforces what it can't.

use std::fs;
use std::time::Duration;

use model::ByteSize;

use crate::control_group::{ControlGroup, Hierarchies};
use crate::identity::is_privileged;
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
    let mut findings = vec![namespaces(), seccomp(), landlock(), overlay()];
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
    Finding {
        what: "Landlock",
        available: abi.is_some(),
        enforced_by: if abi.is_some() { Enforcer::Kernel } else { Enforcer::Nobody },
        detail: abi.map_or("not in this kernel, or switched off".to_owned(), |abi| format!("ABI {abi}")),
        fix: abi.is_none().then_some("boot a kernel with CONFIG_SECURITY_LANDLOCK and landlock in lsm="),
    }
}

fn overlay() -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let available = known.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    Finding {
        what: "overlay file system",
        available,
        enforced_by: if available { Enforcer::Kernel } else { Enforcer::Nobody },
        detail: if available { "in the kernel" } else { "not in the kernel, or not loaded" }.to_owned(),
        fix: (!available).then_some("modprobe overlay"),
    }
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
    fn every_missing_ability_comes_with_a_cure() {
        for finding in probe() {
            assert_eq!(finding.available, finding.fix.is_none(), "{finding:?}");
            assert!(!finding.available || finding.enforced_by == Enforcer::Kernel, "{finding:?}");
        }
    }
}
