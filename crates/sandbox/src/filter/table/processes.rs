//! Processes and threads, their signals and rights, and time.

use crate::filter::rule::Errno::{EINVAL, EPERM};
use crate::filter::rule::{Rule, Test, calls, values};

const NAMESPACES: &str =
    "a namespace of its own would give the program capabilities, and the kernel surface behind them";

pub(super) const RULES: &[Rule] = &[
    // CLONE_NEWTIME shares its bit with the exit signal and counts for unshare and clone3 only.
    Rule::refuse(calls![SYS_clone], EPERM, NAMESPACES).when(&[Test::any_bit(
        0,
        "flags",
        values![CLONE_NEWNS CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_NEWCGROUP],
    )]),
    Rule::allow(calls![SYS_clone SYS_fork SYS_vfork], "processes and threads, whose number is limited"),
    Rule::refuse(calls![SYS_unshare SYS_setns], EPERM, NAMESPACES),
    Rule::allow(calls![SYS_execve], "its children; mounts say what can be executed"),
    Rule::allow(
        calls![SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_pidfd_open SYS_pidfd_send_signal],
        "the end of processes",
    ),
    Rule::allow(
        calls![SYS_getpid SYS_getppid SYS_gettid SYS_getpgrp SYS_getpgid SYS_getsid SYS_setpgid SYS_setsid],
        "numbers and groups of its own processes, in its own namespace",
    ),
    Rule::allow(
        calls![SYS_set_tid_address SYS_set_robust_list SYS_rseq SYS_futex SYS_futex_waitv],
        "what libraries for threads are built from",
    ),
    Rule::allow(
        calls![SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigtimedwait
            SYS_rt_sigsuspend SYS_sigaltstack SYS_pause SYS_signalfd SYS_signalfd4 SYS_restart_syscall],
        "signals that it gets",
    ),
    Rule::allow(
        calls![SYS_kill SYS_tkill SYS_tgkill SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo],
        "signals that it sends, to processes of its own namespace",
    ),
    // Rights.
    Rule::allow(
        calls![SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups SYS_getresuid SYS_getresgid SYS_capget],
        "who it runs as",
    ),
    Rule::allow(
        calls![SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid
            SYS_setfsgid SYS_capset],
        "programs give up rights that they might have; there are no others to be had",
    ),
    Rule::refuse(calls![SYS_setgroups], EPERM, "as for every user without privileges"),
    Rule::allow(
        calls![SYS_getrlimit SYS_setrlimit SYS_getrusage SYS_times SYS_sysinfo SYS_uname],
        "limits, which can't be raised, and what it has used",
    ),
    Rule::allow(calls![SYS_prlimit64], "its own limits, as libc asks for them and lowers them")
        .when(&[Test::one_of(0, "pid", values![ITSELF])]),
    Rule::refuse(
        calls![SYS_prlimit64],
        EPERM,
        "limits of others: an ordinary user's VM Portal runs as the same user and would be left without files",
    ),
    Rule::allow(calls![SYS_personality], "only asks, or asks for what it is").when(&[Test::one_of(
        0,
        "persona",
        values![PER_LINUX ASK],
    )]),
    Rule::refuse(
        calls![SYS_personality],
        EPERM,
        "switches off address randomization and makes readable memory executable",
    ),
    Rule::allow(calls![SYS_arch_prctl], "where a thread's variables are, and wide registers").when(&[Test::one_of(
        0,
        "option",
        values![ARCH_SET_GS ARCH_SET_FS ARCH_GET_FS ARCH_GET_GS ARCH_GET_XCOMP_SUPP ARCH_GET_XCOMP_PERM
            ARCH_REQ_XCOMP_PERM],
    )]),
    Rule::refuse(
        calls![SYS_arch_prctl],
        EINVAL,
        "the kernel's answer to an option that it doesn't know, such as libc's question for shadow stacks",
    ),
    Rule::allow(calls![SYS_prctl], "questions about itself").when(&[Test::one_of(
        0,
        "option",
        values![PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_GET_KEEPCAPS PR_GET_TIMING PR_GET_NAME PR_GET_SECCOMP
            PR_CAPBSET_READ PR_GET_TSC PR_GET_SECUREBITS PR_GET_TIMERSLACK PR_GET_CHILD_SUBREAPER
            PR_GET_NO_NEW_PRIVS PR_GET_TID_ADDRESS PR_GET_THP_DISABLE PR_GET_SPECULATION_CTRL PR_GET_MDWE],
    )]),
    Rule::allow(
        calls![SYS_prctl],
        "names of threads and memory, and restrictions of itself. Not PR_SCHED_CORE, by which a processor's other \
         half has to stand still",
    )
    .when(&[Test::one_of(
        0,
        "option",
        values![PR_SET_PDEATHSIG PR_SET_NAME PR_SET_TIMERSLACK PR_SET_CHILD_SUBREAPER PR_SET_NO_NEW_PRIVS
            PR_SET_THP_DISABLE PR_CAP_AMBIENT PR_SET_MDWE PR_SET_VMA],
    )]),
    Rule::allow(calls![SYS_prctl], "programs that trap the calls of code that they host, such as Wine")
        .when(&[Test::one_of(0, "option", values![PR_SET_SYSCALL_USER_DISPATCH])]),
    Rule::refuse(
        calls![SYS_prctl],
        EINVAL,
        "the kernel's answer to an option that it doesn't know. PR_SET_DUMPABLE is among them: it would hide what \
         the program uses from an ordinary user's Desktop Controller",
    ),
    Rule::allow(
        calls![SYS_process_vm_readv],
        "how MPI copies large messages between its processes, complaining on its output if it can't; the kernel \
         lets it read processes of the subjob only",
    ),
    Rule::refuse(
        calls![SYS_ptrace SYS_process_vm_writev SYS_kcmp SYS_pidfd_getfd],
        EPERM,
        "reaching into processes: code could be written past all that guards it",
    ),
    // Scheduling.
    Rule::allow(
        calls![SYS_sched_yield SYS_getcpu SYS_sched_getaffinity SYS_sched_getscheduler SYS_sched_getparam
            SYS_sched_getattr SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_rr_get_interval
            SYS_getpriority SYS_ioprio_get],
        "how it is scheduled",
    ),
    Rule::pretend(
        calls![SYS_setpriority],
        "it has the lowest priority already; lowering it must not fail, raising it nor the VM Portal's may succeed",
    ),
    Rule::pretend(
        calls![SYS_sched_setscheduler],
        "it stays in the class that waits for all others; threads made with an ordinary class must be made",
    )
    .when(&[Test::one_of(1, "policy", values![SCHED_OTHER SCHED_BATCH SCHED_IDLE])]),
    Rule::refuse(
        calls![SYS_sched_setscheduler SYS_sched_setparam SYS_sched_setattr],
        EPERM,
        "real-time classes and deadlines, as for every user without privileges",
    ),
    Rule::refuse(
        calls![SYS_ioprio_set],
        EPERM,
        "disk priority is as low as it goes; the kernel would let a program raise it again",
    ),
    Rule::pretend(
        calls![SYS_sched_setaffinity],
        "each call can stop whatever runs on another processor for a moment, and OpenMP ends a program whose \
         threads can't be bound",
    ),
    // Time.
    Rule::allow(
        calls![SYS_time SYS_gettimeofday SYS_clock_gettime SYS_clock_getres SYS_nanosleep SYS_clock_nanosleep],
        "what time it is, and sleep",
    ),
    Rule::allow(
        calls![SYS_alarm SYS_getitimer SYS_setitimer SYS_timer_create SYS_timer_settime SYS_timer_gettime
            SYS_timer_getoverrun SYS_timer_delete SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime],
        "timers and alarms",
    ),
    Rule::allow(calls![SYS_getrandom], "seeds and keys"),
];
