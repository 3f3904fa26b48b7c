//! The rules of the system-call filter, as data, with a reason for each.
//!
//! What is not named here is allowed: the namespaces, the absence of capabilities and the limits bound it. The
//! rules take away kernel surface that a scientific program has no use for and that escapes are built from.

use libc::{EAFNOSUPPORT, ENOSYS, EPERM};

/// System calls that are refused, with an error that programs cope with.
#[derive(Debug)]
pub(super) struct Rule {
    pub calls: &'static [i64],
    pub when: When,
    /// The errno that the program gets.
    pub answer: i32,
    #[cfg_attr(not(test), expect(dead_code, reason = "written for the reader, checked by a test"))]
    pub reason: &'static str,
}

/// On which arguments a rule applies. Arguments are counted from 0; values are those of the lower 32 bits, which
/// is what the kernel looks at in the calls concerned.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Always,
    AnyBit { argument: u8, bits: u64 },
    OneOf { argument: u8, values: &'static [u64] },
    NoneOf { argument: u8, values: &'static [u64] },
}

/// Every flag of clone that makes a namespace. `CLONE_NEWTIME` shares its bit with the exit signal and counts
/// for unshare and clone3 only.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// `personality(0xffffffff)` only asks.
const ASK_PERSONALITY: u64 = 0xffff_ffff;

const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

const fn refuse(calls: &'static [i64], reason: &'static str) -> Rule {
    Rule { calls, when: When::Always, answer: EPERM, reason }
}

const fn absent(calls: &'static [i64], reason: &'static str) -> Rule {
    Rule { calls, when: When::Always, answer: ENOSYS, reason }
}

pub(super) const RULES: &[Rule] = &[
    absent(
        &[libc::SYS_clone3],
        "its flags lie in memory, where a filter can't see them; libc falls back to clone when it is absent",
    ),
    absent(
        &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register],
        "does the work of other calls without passing the filter",
    ),
    absent(&[libc::SYS_memfd_secret], "memory that not even the VM Portal's kernel side can account for"),
    absent(
        &[libc::SYS_uselib, libc::SYS__sysctl, libc::SYS_modify_ldt, libc::SYS_sysfs, libc::SYS_ustat],
        "obsolete calls: surface without users",
    ),
    Rule {
        calls: &[libc::SYS_clone],
        when: When::AnyBit { argument: 0, bits: NEW_NAMESPACES },
        answer: EPERM,
        reason: "a namespace of its own would give the program capabilities and the kernel surface behind them",
    },
    refuse(&[libc::SYS_unshare, libc::SYS_setns], "as clone: namespaces are ours to make"),
    refuse(
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_mount_setattr,
        ],
        "the root is as the sandbox built it",
    ),
    refuse(
        &[libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_kcmp],
        "looking into other processes: they may be the VM Portal or hold another program's secrets",
    ),
    refuse(
        &[libc::SYS_pidfd_getfd, libc::SYS_process_madvise],
        "reaching into other processes by pidfd, as with ptrace",
    ),
    refuse(
        &[libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd],
        "the calls behind most kernel exploits; profilers are the only honest users",
    ),
    refuse(
        &[libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key],
        "kernel keyrings are not kept apart by every namespace and outlive a program",
    ),
    refuse(
        &[
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_acct,
            libc::SYS_iopl,
            libc::SYS_ioperm,
            libc::SYS_syslog,
            libc::SYS_vhangup,
            libc::SYS_nfsservctl,
            libc::SYS_lookup_dcookie,
        ],
        "run the machine, not a program",
    ),
    refuse(
        &[libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex],
        "the desktop's clock is not the program's",
    ),
    refuse(&[libc::SYS_sethostname, libc::SYS_setdomainname], "the names are as the sandbox set them"),
    refuse(
        &[libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at],
        "file handles go around the paths, and so around the root",
    ),
    refuse(
        &[libc::SYS_fanotify_init, libc::SYS_fanotify_mark],
        "watches and can veto what all others do with files",
    ),
    refuse(&[libc::SYS_quotactl, libc::SYS_quotactl_fd], "quotas are the administrator's"),
    refuse(
        &[libc::SYS_ioprio_set],
        "disk priority is as low as it goes; the kernel would let a program raise it again",
    ),
    refuse(
        &[libc::SYS_migrate_pages, libc::SYS_move_pages],
        "moving memory between nodes slows the desktop and needs no capability on its own processes",
    ),
    Rule {
        calls: &[libc::SYS_ioctl],
        when: When::OneOf { argument: 1, values: &[TIOCSTI, TIOCLINUX] },
        answer: EPERM,
        reason: "types into a terminal as if the user did",
    },
    Rule {
        calls: &[libc::SYS_personality],
        when: When::NoneOf { argument: 0, values: &[0, ASK_PERSONALITY] },
        answer: EPERM,
        reason: "switches off address randomization and makes readable memory executable",
    },
    Rule {
        calls: &[libc::SYS_socket, libc::SYS_socketpair],
        when: When::NoneOf {
            argument: 0,
            values: &[libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_INET6 as u64],
        },
        answer: EAFNOSUPPORT,
        reason: "other families reach the kernel's configuration, its crypto and the hypervisor, or are rarely \
                 tested code; programs treat the answer as a kernel without the family",
    },
];
