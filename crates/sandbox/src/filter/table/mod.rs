//! The rules of the system-call filter, as data, with a reason for each.
//!
//! What no rule names answers ENOSYS, as a kernel does that is older than the call: programs and libraries have a
//! way to go on then. EPERM stands where an ordinary user's program would get it without a sandbox. What a program
//! may try without need, it is refused so that it goes on; only foreign architectures are killed.

mod files;
mod machine;
mod memory;
mod network;
mod processes;

use super::rule::{Answer, Call, Errno, Rule, calls};

/// Of the calls that no rule names or holds for.
pub(super) const OTHERWISE: Answer = Answer::Refuse(Errno::ENOSYS);

/// Rules about one thing. All rules of a call are in one group.
pub(super) struct Group {
    pub name: &'static str,
    pub rules: &'static [Rule],
}

pub(super) const GROUPS: &[Group] = &[
    Group { name: "files", rules: files::RULES },
    Group { name: "memory", rules: memory::RULES },
    Group { name: "processes, signals and time", rules: processes::RULES },
    Group { name: "network and messages", rules: network::RULES },
    Group { name: "the machine", rules: machine::RULES },
];

/// Calls that are left out on purpose.
pub(super) struct Absent {
    pub calls: &'static [Call],
    pub reason: &'static str,
}

pub(super) const ABSENT: &[Absent] = &[
    Absent {
        calls: calls![SYS_clone3],
        reason: "its flags lie in memory, where a filter can't see them; libc falls back to clone",
    },
    Absent {
        calls: calls![SYS_openat2],
        reason: "as clone3: whether it makes a set-user-ID file can't be seen; its users fall back to openat",
    },
    Absent {
        calls: calls![SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register],
        reason: "does the work of other calls without passing the filter",
    },
    Absent {
        calls: calls![SYS_memfd_create],
        reason: "a file that lies on no mount: it could be executed or mapped executable, and where no control \
                 group counts memory nobody would count it. Libraries take /dev/shm instead",
    },
    Absent {
        calls: calls![SYS_memfd_secret],
        reason: "as memfd_create, and the kernel can't move it either",
    },
    Absent {
        calls: calls![SYS_execveat],
        reason: "executes a file that has no name; libc falls back to execve of /proc/self/fd, which does the same \
                 for registered programs and is refused for all others",
    },
    Absent {
        calls: calls![SYS_remap_file_pages],
        reason: "obsolete; changes what an executable mapping shows",
    },
    Absent {
        calls: calls![SYS_seccomp SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self],
        reason: "a filter of its own could write into the desktop's log with every call; programs that would \
                 restrict themselves go on without, as on a kernel that lacks these",
    },
    Absent {
        calls: calls![SYS_io_setup SYS_io_submit SYS_io_getevents SYS_io_cancel SYS_io_destroy],
        reason: "the machine has one number of them for all; libraries fall back to threads",
    },
    Absent {
        calls: calls![SYS_vmsplice],
        reason: "lends pages of a program to pipes: the source of many holes, with hardly a user",
    },
    Absent {
        calls: calls![SYS_modify_ldt SYS_set_thread_area SYS_get_thread_area],
        reason: "segments of 32-bit programs, which don't run here",
    },
    Absent {
        calls: calls![SYS_process_madvise SYS_process_mrelease],
        reason: "reaching into the memory of other processes",
    },
    Absent {
        calls: calls![SYS_uselib SYS__sysctl SYS_sysfs SYS_ustat SYS_nfsservctl SYS_lookup_dcookie],
        reason: "obsolete: surface without users",
    },
];
