//! What the server of a subjob's files may do once it has what it needs: read and write what is open, and open files of
//! the layers it was handed; all else is refused. See `crate::served`.

use super::rule::{Answer, Errno, Rule, Test, calls, values};

/// Of the calls that no rule names.
pub(super) const OTHERWISE: Answer = Answer::Refuse(Errno::EPERM);

pub(super) const RULES: &[Rule] = &[
    Rule::allow(
        calls![SYS_read SYS_write SYS_readv SYS_writev],
        "requests of the mount and their answers; orders and reports",
    ),
    Rule::allow(
        calls![SYS_recvfrom SYS_sendto SYS_recvmsg SYS_sendmsg],
        "the same, and the device of the mount",
    ),
    Rule::allow(
        calls![SYS_pread64 SYS_preadv2 SYS_pwrite64 SYS_fallocate SYS_ftruncate SYS_fsync SYS_fdatasync SYS_fadvise64],
        "the blocks of the store and of lower layers",
    ),
    Rule::allow(
        calls![SYS_openat2],
        "files of lower layers, when they are first read, below the directories that it was handed",
    ),
    Rule::allow(calls![SYS_close SYS_fstat SYS_statx SYS_newfstatat SYS_fcntl SYS_lseek], "what is open"),
    Rule::allow(calls![SYS_ioctl], "cloning the device of the mount for another thread")
        .when(&[Test::one_of(1, "request", values![FUSE_DEV_IOC_CLONE])]),
    Rule::refuse(calls![SYS_clone3], Errno::ENOSYS, "its flags can't be looked at; libc then takes clone"),
    Rule::allow(calls![SYS_clone], "its threads, and no processes").when(&[Test::all_bits(
        0,
        "flags",
        values![CLONE_VM CLONE_THREAD],
    )]),
    Rule::allow(
        calls![SYS_set_robust_list SYS_rseq SYS_sched_getaffinity SYS_sched_yield SYS_sigaltstack SYS_prctl SYS_exit],
        "the life of threads",
    ),
    Rule::allow(
        calls![SYS_futex SYS_poll SYS_ppoll SYS_clock_gettime SYS_clock_nanosleep SYS_restart_syscall],
        "waiting; the clock is read by a call where the machine has no other way",
    ),
    Rule::allow(
        calls![SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_madvise SYS_mprotect SYS_mlock],
        "its memory",
    ),
    Rule::allow(
        calls![SYS_exit_group SYS_rt_sigreturn SYS_rt_sigprocmask SYS_rt_sigaction SYS_gettid SYS_getpid SYS_tgkill],
        "its end, by itself or by a panic",
    ),
    Rule::allow(calls![SYS_getrandom], "salts"),
];
