//! What only an administrator may do: refused with the answer that an ordinary user gets, which is what programs
//! reckon with. The kernel would say so too, for the subjob has no capability; this keeps its code out of reach.

use crate::filter::rule::Errno::EPERM;
use crate::filter::rule::{Rule, calls};

pub(super) const RULES: &[Rule] = &[
    Rule::refuse(
        calls![SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick
            SYS_open_tree SYS_move_mount SYS_mount_setattr],
        EPERM,
        "the root is as the sandbox built it",
    ),
    Rule::refuse(
        calls![SYS_kexec_load SYS_kexec_file_load SYS_init_module SYS_finit_module SYS_delete_module SYS_reboot
            SYS_swapon SYS_swapoff SYS_acct SYS_iopl SYS_ioperm SYS_syslog SYS_vhangup],
        EPERM,
        "run the machine, not a program",
    ),
    Rule::refuse(
        calls![SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_adjtimex],
        EPERM,
        "the desktop's clock is not the program's",
    ),
    Rule::refuse(calls![SYS_sethostname SYS_setdomainname], EPERM, "the names are as the sandbox set them"),
    Rule::refuse(calls![SYS_quotactl SYS_quotactl_fd], EPERM, "quotas are the administrator's"),
    Rule::refuse(
        calls![SYS_bpf SYS_perf_event_open],
        EPERM,
        "the calls behind many kernel exploits; profilers are the only honest users",
    ),
    Rule::refuse(
        calls![SYS_keyctl SYS_add_key SYS_request_key],
        EPERM,
        "kernel keyrings are not kept apart by every namespace and outlive a program",
    ),
];
