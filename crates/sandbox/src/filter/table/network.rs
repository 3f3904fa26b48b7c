//! Sockets, and messages between processes. The subjob has network and IPC namespaces of its own, in which nothing
//! is but itself.

use crate::filter::rule::Errno::{EAFNOSUPPORT, ENOPROTOOPT, EPERM, EPROTONOSUPPORT};
use crate::filter::rule::{Rule, Test, calls, values};

/// Where socket(2) has the type; the other bits are `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
const TYPE: u32 = 0xf;

pub(super) const RULES: &[Rule] = &[
    Rule::refuse(
        calls![SYS_socket SYS_socketpair],
        EAFNOSUPPORT,
        "other families reach the kernel's configuration, its crypto and the hypervisor, or are rarely tested \
         code; programs treat the answer as a kernel without the family",
    )
    .when(&[Test::none_of(0, "domain", values![AF_UNIX AF_INET AF_INET6])]),
    Rule::refuse(calls![SYS_socket SYS_socketpair], EPERM, "raw packets, as for every user without privileges")
        .when(&[Test::none_of(1, "type", values![SOCK_STREAM SOCK_DGRAM SOCK_SEQPACKET]).masked(TYPE)]),
    Rule::refuse(
        calls![SYS_socket SYS_socketpair],
        EPROTONOSUPPORT,
        "asking for a rare protocol loads its module into the desktop's kernel; programs take TCP",
    )
    .when(&[Test::none_of(2, "protocol", values![UNSPECIFIED IPPROTO_TCP IPPROTO_UDP])]),
    Rule::allow(
        calls![SYS_socket SYS_socketpair],
        "parts of a program talk to one another, over loopback too",
    ),
    Rule::allow(calls![SYS_connect], "nothing is there but the program itself and what its job names"),
    Rule::allow(
        calls![SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_getsockname SYS_getpeername SYS_shutdown SYS_sendto
            SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_getsockopt],
        "as for connect",
    ),
    Rule::refuse(calls![SYS_setsockopt], ENOPROTOOPT, "code of the program's own in the kernel")
        .when(&[
            Test::one_of(1, "level", values![SOL_SOCKET]),
            Test::one_of(
                2,
                "option",
                values![SO_ATTACH_FILTER SO_ATTACH_BPF SO_ATTACH_REUSEPORT_CBPF SO_ATTACH_REUSEPORT_EBPF],
            ),
        ]),
    Rule::refuse(
        calls![SYS_setsockopt],
        ENOPROTOOPT,
        "puts another protocol on top and loads its module; libraries for TLS do it themselves then",
    )
    .when(&[Test::one_of(1, "level", values![SOL_TCP]), Test::one_of(2, "option", values![TCP_ULP])]),
    Rule::allow(calls![SYS_setsockopt], "time-outs, buffers and what else sockets have").when(&[Test::one_of(
        1,
        "level",
        values![SOL_SOCKET SOL_IP SOL_IPV6 SOL_TCP],
    )]),
    Rule::refuse(calls![SYS_setsockopt], ENOPROTOOPT, "options of protocols that are not there, and tunnels in UDP"),
    Rule::allow(
        calls![SYS_semget SYS_semop SYS_semtimedop SYS_semctl SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl
            SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr],
        "semaphores and messages between the program's processes; they end with the subjob",
    ),
];
