//! The kernel's constants that rules compare with: libc's, and those that it lacks.

pub(super) use libc::*;

/// `linux/fs.h`
pub(super) const FIGETBSZ: c_int = 2;
/// `asm-generic/fcntl.h` and `linux/fcntl.h`
pub(super) const F_SETSIG: c_int = 10;
pub(super) const F_GETSIG: c_int = 11;
pub(super) const F_SETOWN_EX: c_int = 15;
pub(super) const F_GETOWN_EX: c_int = 16;
pub(super) const F_DUPFD_QUERY: c_int = 1_027;
pub(super) const F_GET_RW_HINT: c_int = 1_035;
/// `asm-generic/sockios.h`
pub(super) const SIOCATMARK: c_int = 0x8905;
/// `linux/fuse.h`: `_IOR(229, 0, uint32_t)`
pub(super) const FUSE_DEV_IOC_CLONE: c_uint = 0x8004_e500;
/// `linux/prctl.h`
pub(super) const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
/// `linux/personality.h`
pub(super) const PER_LINUX: c_int = 0;
/// What personality(2) is given to only ask.
pub(super) const ASK: c_uint = 0xffff_ffff;
/// `asm/prctl.h`
pub(super) const ARCH_SET_GS: c_int = 0x1001;
pub(super) const ARCH_SET_FS: c_int = 0x1002;
pub(super) const ARCH_GET_FS: c_int = 0x1003;
pub(super) const ARCH_GET_GS: c_int = 0x1004;
pub(super) const ARCH_GET_XCOMP_SUPP: c_int = 0x1021;
pub(super) const ARCH_GET_XCOMP_PERM: c_int = 0x1022;
pub(super) const ARCH_REQ_XCOMP_PERM: c_int = 0x1023;
/// `linux/sched/types.h`: the kind of a file without any of the bits of `S_IFMT` is a regular one.
pub(super) const NO_KIND: c_int = 0;
/// The pid by which a process names itself.
pub(super) const ITSELF: c_int = 0;
/// A protocol that follows from the socket's type.
pub(super) const UNSPECIFIED: c_int = 0;
/// libc's has the bits of `O_DIRECTORY` in it.
pub(super) const O_TMPFILE_ALONE: c_int = O_TMPFILE & !O_DIRECTORY;
