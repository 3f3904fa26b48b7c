//! Files, directories and terminals. Which of them a program can reach is not decided here: it has a root of its
//! own, and mounts say what can be written or executed.

use crate::filter::rule::Errno::{EINVAL, ENOTTY, EPERM};
use crate::filter::rule::{Rule, Test, calls, values};

const SET_ID: &str = "a set-user-ID file in the work directory would lie on the host's disk, where it could lend \
                      the subjob's user to another user's program";

const WHITEOUT: &str = "devices can't be made, nor whiteouts, which are devices that need no privilege";

pub(super) const RULES: &[Rule] = &[
    Rule::allow(
        calls![SYS_read SYS_write SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev SYS_preadv SYS_pwritev
            SYS_preadv2 SYS_pwritev2 SYS_lseek SYS_close SYS_close_range SYS_sendfile SYS_copy_file_range
            SYS_splice SYS_tee SYS_readahead SYS_fadvise64],
        "reading and writing what is open",
    ),
    Rule::allow(
        calls![SYS_dup SYS_dup2 SYS_dup3 SYS_pipe SYS_pipe2 SYS_eventfd SYS_eventfd2],
        "descriptors and pipes of its own",
    ),
    Rule::allow(
        calls![SYS_poll SYS_ppoll SYS_select SYS_pselect6 SYS_epoll_create SYS_epoll_create1 SYS_epoll_ctl
            SYS_epoll_wait SYS_epoll_pwait SYS_epoll_pwait2],
        "waiting for several descriptors",
    ),
    Rule::allow(
        calls![SYS_stat SYS_fstat SYS_lstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_access
            SYS_faccessat SYS_faccessat2 SYS_readlink SYS_readlinkat SYS_getdents SYS_getdents64 SYS_getcwd
            SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr],
        "looking at files",
    ),
    Rule::allow(calls![SYS_chdir SYS_fchdir SYS_umask], "where it works and how it makes files"),
    Rule::allow(
        calls![SYS_rename SYS_renameat SYS_mkdir SYS_mkdirat SYS_rmdir SYS_link SYS_linkat SYS_symlink
            SYS_symlinkat SYS_unlink SYS_unlinkat SYS_truncate SYS_ftruncate SYS_fallocate],
        "making, changing and removing files",
    ),
    Rule::allow(
        calls![SYS_chown SYS_fchown SYS_lchown SYS_fchownat SYS_utime SYS_utimes SYS_futimesat SYS_utimensat
            SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr],
        "owner, times and attributes of its own files",
    ),
    Rule::allow(calls![SYS_flock], "locks between its own processes"),
    Rule::allow(
        calls![SYS_fsync SYS_fdatasync SYS_sync_file_range],
        "databases write in order; it concerns the file alone",
    ),
    Rule::pretend(
        calls![SYS_sync SYS_syncfs],
        "would write out all that the desktop has changed, and make it wait; what a subjob wrote is worth nothing \
         after a crash of the machine",
    ),
    Rule::allow(
        calls![SYS_inotify_init SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch],
        "watching its own files",
    ),
    // Opening and modes.
    Rule::refuse(calls![SYS_creat], EPERM, SET_ID).when(&[Test::any_bit(1, "mode", values![S_ISUID S_ISGID])]),
    Rule::refuse(calls![SYS_open], EPERM, SET_ID).when(&[
        Test::any_bit(1, "flags", values![O_CREAT O_TMPFILE_ALONE]),
        Test::any_bit(2, "mode", values![S_ISUID S_ISGID]),
    ]),
    Rule::refuse(calls![SYS_openat], EPERM, SET_ID).when(&[
        Test::any_bit(2, "flags", values![O_CREAT O_TMPFILE_ALONE]),
        Test::any_bit(3, "mode", values![S_ISUID S_ISGID]),
    ]),
    Rule::allow(calls![SYS_creat SYS_open SYS_openat], "opening and making files"),
    Rule::refuse(calls![SYS_chmod SYS_fchmod], EPERM, SET_ID)
        .when(&[Test::any_bit(1, "mode", values![S_ISUID S_ISGID])]),
    Rule::refuse(calls![SYS_fchmodat SYS_fchmodat2], EPERM, SET_ID)
        .when(&[Test::any_bit(2, "mode", values![S_ISUID S_ISGID])]),
    Rule::allow(calls![SYS_chmod SYS_fchmod SYS_fchmodat SYS_fchmodat2], "who may use its files"),
    Rule::refuse(calls![SYS_mknod], EPERM, SET_ID).when(&[Test::any_bit(1, "mode", values![S_ISUID S_ISGID])]),
    Rule::refuse(calls![SYS_mknod], EPERM, WHITEOUT)
        .when(&[Test::none_of(1, "kind", values![NO_KIND S_IFREG S_IFIFO S_IFSOCK]).masked(libc::S_IFMT)]),
    Rule::refuse(calls![SYS_mknodat], EPERM, SET_ID)
        .when(&[Test::any_bit(2, "mode", values![S_ISUID S_ISGID])]),
    Rule::refuse(calls![SYS_mknodat], EPERM, WHITEOUT)
        .when(&[Test::none_of(2, "kind", values![NO_KIND S_IFREG S_IFIFO S_IFSOCK]).masked(libc::S_IFMT)]),
    Rule::allow(calls![SYS_mknod SYS_mknodat], "named pipes, sockets and empty files"),
    Rule::refuse(calls![SYS_renameat2], EINVAL, WHITEOUT)
        .when(&[Test::any_bit(4, "flags", values![RENAME_WHITEOUT])]),
    Rule::allow(calls![SYS_renameat2], "as rename, without overwriting or in exchange"),
    // Requests.
    Rule::allow(
        calls![SYS_fcntl],
        "flags, locks, owners and sizes. Not F_SETLEASE, with which the program could hold up the desktop when it \
         opens a result, nor F_NOTIFY, for which there is inotify",
    )
    .when(&[Test::one_of(
        1,
        "command",
        values![F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_SETSIG
            F_GETSIG F_SETOWN_EX F_GETOWN_EX F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_DUPFD_QUERY F_DUPFD_CLOEXEC
            F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_GET_RW_HINT],
    )]),
    Rule::refuse(calls![SYS_fcntl], EINVAL, "the kernel's answer to a command that it doesn't know"),
    Rule::allow(
        calls![SYS_ioctl],
        "terminals of its own; not TIOCSTI and TIOCLINUX, which type as if the user did, nor TIOCSETD, which loads \
         code into the kernel",
    )
    .when(&[Test::one_of(
        1,
        "request",
        values![TCGETS TCSETS TCSETSW TCSETSF TCGETS2 TCSETS2 TCSETSW2 TCSETSF2 TCSBRK TCSBRKP TCXONC TCFLSH
            TIOCEXCL TIOCNXCL TIOCSCTTY TIOCNOTTY TIOCGPGRP TIOCSPGRP TIOCGSID TIOCOUTQ TIOCGWINSZ TIOCSWINSZ
            TIOCPKT TIOCGPTN TIOCSPTLCK TIOCGPTPEER],
    )]),
    Rule::allow(calls![SYS_ioctl], "what every descriptor knows").when(&[Test::one_of(
        1,
        "request",
        values![FIONREAD FIONBIO FIOASYNC FIOCLEX FIONCLEX FIOQSIZE FIGETBSZ],
    )]),
    Rule::allow(
        calls![SYS_ioctl],
        "what interfaces there are, which parallel programs ask and whose answer is the loopback alone",
    )
    .when(&[Test::one_of(
        1,
        "request",
        values![SIOCATMARK SIOCGIFNAME SIOCGIFCONF SIOCGIFFLAGS SIOCGIFADDR SIOCGIFDSTADDR SIOCGIFBRDADDR
            SIOCGIFNETMASK SIOCGIFMETRIC SIOCGIFMTU SIOCGIFHWADDR SIOCGIFINDEX],
    )]),
    Rule::refuse(
        calls![SYS_ioctl],
        ENOTTY,
        "all other requests are for devices, which are not there: the answer of a file that is no such device",
    ),
    Rule::refuse(
        calls![SYS_name_to_handle_at SYS_open_by_handle_at],
        EPERM,
        "file handles go around the paths, and so around the root",
    ),
    Rule::refuse(
        calls![SYS_fanotify_init SYS_fanotify_mark],
        EPERM,
        "watches and can veto what all others do with files",
    ),
];
