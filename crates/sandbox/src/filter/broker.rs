//! What the broker of the network may do, which is very little; all else is refused. See `crate::network`.

use super::rule::{Answer, Errno, Rule, Test, calls, values};

/// Of the calls that no rule names.
pub(super) const OTHERWISE: Answer = Answer::Refuse(Errno::EPERM);

pub(super) const RULES: &[Rule] = &[
    Rule::allow(
        calls![SYS_socket],
        "the connections that it makes; the host's own services listen at sockets of other families too",
    )
    .when(&[Test::one_of(0, "domain", values![AF_INET AF_INET6])]),
    Rule::allow(
        calls![SYS_accept4 SYS_connect SYS_getsockname SYS_getsockopt SYS_setsockopt SYS_shutdown],
        "the life of a connection; it never binds or listens",
    ),
    Rule::allow(calls![SYS_splice SYS_pipe2 SYS_fcntl SYS_close], "relaying, through pipes of a set size"),
    Rule::allow(
        calls![SYS_poll SYS_ppoll SYS_clock_gettime SYS_restart_syscall],
        "waiting; the clock is read by a call where the machine has no other way",
    ),
    Rule::allow(
        calls![SYS_read SYS_write SYS_recvfrom SYS_sendto SYS_recvmsg],
        "orders, reports, answers of the resolver, what the VM Portal sends, and knocks and their answers",
    ),
    Rule::allow(calls![SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_madvise], "its memory"),
    Rule::allow(
        calls![SYS_exit_group SYS_rt_sigreturn SYS_rt_sigprocmask SYS_gettid SYS_getpid SYS_futex],
        "its end, by itself or by a panic",
    ),
];
