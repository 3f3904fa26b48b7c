//! The rules of the system-call filter, as data, with a reason for each.
//!
//! What is not named here is allowed: the namespaces, the absence of capabilities and the limits bound it. The
//! rules take away kernel surface that a scientific program has no use for and that escapes are built from.

use super::rule::{Answer, Call, Rule, Within, any_bit, calls, none_of, one_of};

const EPERM: u16 = libc::EPERM as u16;
const ENOSYS: u16 = libc::ENOSYS as u16;
const EAFNOSUPPORT: u16 = libc::EAFNOSUPPORT as u16;

/// Every flag of clone that makes a namespace. `CLONE_NEWTIME` shares its bit with the exit signal and counts
/// for unshare and clone3 only.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u32;

/// `personality(0xffffffff)` only asks.
const ASK_PERSONALITY: u32 = 0xffff_ffff;

const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;

/// Of the calls that no rule names.
pub(super) const OTHERWISE: Answer = Answer::Allow;

const fn refuse(calls: &'static [Call], reason: &'static str) -> Rule {
    Rule { calls, within: Within::Every, when: &[], answer: Answer::Refuse(EPERM), reason }
}

const fn absent(calls: &'static [Call], reason: &'static str) -> Rule {
    Rule { calls, within: Within::Every, when: &[], answer: Answer::Refuse(ENOSYS), reason }
}

pub(super) const RULES: &[Rule] = &[
    absent(
        calls![SYS_clone3],
        "its flags lie in memory, where a filter can't see them; libc falls back to clone when it is absent",
    ),
    absent(
        calls![SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register],
        "does the work of other calls without passing the filter",
    ),
    absent(calls![SYS_memfd_secret], "memory that not even the VM Portal's kernel side can account for"),
    absent(
        calls![SYS_uselib, SYS__sysctl, SYS_modify_ldt, SYS_sysfs, SYS_ustat],
        "obsolete calls: surface without users",
    ),
    Rule {
        calls: calls![SYS_clone],
        within: Within::Every,
        when: &[any_bit(0, NEW_NAMESPACES)],
        answer: Answer::Refuse(EPERM),
        reason: "a namespace of its own would give the program capabilities and the kernel surface behind them",
    },
    refuse(calls![SYS_unshare, SYS_setns], "as clone: namespaces are ours to make"),
    refuse(
        calls![
            SYS_mount,
            SYS_umount2,
            SYS_pivot_root,
            SYS_chroot,
            SYS_fsopen,
            SYS_fsconfig,
            SYS_fsmount,
            SYS_fspick,
            SYS_open_tree,
            SYS_move_mount,
            SYS_mount_setattr,
        ],
        "the root is as the sandbox built it",
    ),
    refuse(
        calls![SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp],
        "looking into other processes: they may be the VM Portal or hold another program's secrets",
    ),
    refuse(
        calls![SYS_pidfd_getfd, SYS_process_madvise],
        "reaching into other processes by pidfd, as with ptrace",
    ),
    refuse(
        calls![SYS_bpf, SYS_perf_event_open, SYS_userfaultfd],
        "the calls behind most kernel exploits; profilers are the only honest users",
    ),
    refuse(
        calls![SYS_keyctl, SYS_add_key, SYS_request_key],
        "kernel keyrings are not kept apart by every namespace and outlive a program",
    ),
    refuse(
        calls![
            SYS_kexec_load,
            SYS_kexec_file_load,
            SYS_init_module,
            SYS_finit_module,
            SYS_delete_module,
            SYS_reboot,
            SYS_swapon,
            SYS_swapoff,
            SYS_acct,
            SYS_iopl,
            SYS_ioperm,
            SYS_syslog,
            SYS_vhangup,
            SYS_nfsservctl,
            SYS_lookup_dcookie,
        ],
        "run the machine, not a program",
    ),
    refuse(
        calls![SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex],
        "the desktop's clock is not the program's",
    ),
    refuse(calls![SYS_sethostname, SYS_setdomainname], "the names are as the sandbox set them"),
    refuse(
        calls![SYS_open_by_handle_at, SYS_name_to_handle_at],
        "file handles go around the paths, and so around the root",
    ),
    refuse(
        calls![SYS_fanotify_init, SYS_fanotify_mark],
        "watches and can veto what all others do with files",
    ),
    refuse(calls![SYS_quotactl, SYS_quotactl_fd], "quotas are the administrator's"),
    refuse(
        calls![SYS_ioprio_set],
        "disk priority is as low as it goes; the kernel would let a program raise it again",
    ),
    refuse(
        calls![SYS_migrate_pages, SYS_move_pages],
        "moving memory between nodes slows the desktop and needs no capability on its own processes",
    ),
    Rule {
        calls: calls![SYS_ioctl],
        within: Within::Every,
        when: &[one_of(1, &[TIOCSTI, TIOCLINUX])],
        answer: Answer::Refuse(EPERM),
        reason: "types into a terminal as if the user did",
    },
    Rule {
        calls: calls![SYS_personality],
        within: Within::Every,
        when: &[none_of(0, &[0, ASK_PERSONALITY])],
        answer: Answer::Refuse(EPERM),
        reason: "switches off address randomization and makes readable memory executable",
    },
    Rule {
        calls: calls![SYS_socket, SYS_socketpair],
        within: Within::Every,
        when: &[none_of(0, &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32])],
        answer: Answer::Refuse(EAFNOSUPPORT),
        reason: "other families reach the kernel's configuration, its crypto and the hypervisor, or are rarely \
                 tested code; programs treat the answer as a kernel without the family",
    },
    Rule {
        calls: calls![SYS_connect],
        within: Within::BrokeredNetwork,
        when: &[],
        answer: Answer::Broker,
        reason: "the addresses that the job names are connected to from outside; nothing else is reachable",
    },
];
