//! Forking, executing, signals and file descriptors of a process with one thread.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;
use std::{fs, io, mem, ptr};

use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

use super::checked;

/// Which side of a [`fork`] we are on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fork {
    Parent { child: Pid },
    Child,
}

/// Forks a process that has a single thread.
///
/// # Errors
/// When there are other threads, whose locks the child would inherit for ever; else what the kernel says.
pub(crate) fn fork() -> io::Result<Fork> {
    check_single_thread()?;
    // SAFETY: this is the only thread (checked above, and no signal handler is installed that could start one),
    // so no lock is held by a thread that the child lacks, and the child may run any code.
    let pid = checked(unsafe { libc::fork() })?;
    Ok(Pid::from_raw(pid).map_or(Fork::Child, |child| Fork::Parent { child }))
}

/// `CLONE_INTO_CGROUP`, which the crate libc gives in too narrow a type.
const INTO_CGROUP: u64 = 1 << 33;

/// Forks a process that has a single thread; the child begins its life in a control group of version 2, given by its
/// directory.
///
/// # Errors
/// When there are other threads; when the group can't be entered; where the kernel can't, which is before Linux 5.7.
pub(crate) fn fork_into(group: BorrowedFd<'_>) -> io::Result<Fork> {
    check_single_thread()?;
    // SAFETY: the arguments of clone3 are plain integers, for which all zeros is a valid value.
    let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
    arguments.flags = INTO_CGROUP;
    arguments.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    arguments.cgroup = u64::from(group.as_raw_fd().unsigned_abs());
    // SAFETY: as in `fork`; the arguments are valid for reads and ask for nothing that fork doesn't do: no shared
    // memory, no other stack. libc, which isn't told, keeps the parent's thread id for the child's; that is used
    // only by what threads do to one another, and by `abort`, which then ends on an illegal instruction instead.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        pid => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Pid::from_raw(pid).map_or(Fork::Child, |child| Fork::Parent { child }))
        }
    }
}

fn check_single_thread() -> io::Result<()> {
    match fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        _ => Err(io::Error::other("a process with several threads must not fork")),
    }
}

/// Replaces the program of this process.
///
/// # Errors
/// The reason why it could not be executed. There is no other way to return.
pub(crate) fn execute(program: &CString, args: &[CString], env: &[CString]) -> io::Result<Infallible> {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: all three are NUL-terminated strings or null-terminated arrays of such, alive until the call ends.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Ends this process at once: no destructors, no exit handlers.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Sends a signal to every process but the caller. Only for pid 1 of a pid namespace, for which that is every
/// process of the namespace: anywhere else it would be all that the user runs.
///
/// # Errors
/// When the caller is not pid 1; else what the kernel says.
pub(crate) fn signal_all_others(signal: Signal) -> io::Result<()> {
    const EVERYONE: libc::pid_t = -1;
    if rustix::process::getpid() != Pid::INIT {
        return Err(io::Error::other("only pid 1 of a namespace may signal all others"));
    }
    // SAFETY: kill takes two integers.
    match checked(unsafe { libc::kill(EVERYONE, signal.as_raw()) }) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// Moves this thread into new namespaces.
///
/// # Errors
/// What the kernel says.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the hazard is `FILES`, by which threads stop sharing descriptors; nobody here passes it, and
    // processes of init have one thread.
    unsafe { rustix::thread::unshare_unsafe(flags & !UnshareFlags::FILES) }.map_err(Into::into)
}

/// The first descriptor that is not standard input, output or error.
const FIRST_OTHER: libc::c_uint = 3;

/// Closes all descriptors but the standard three. Only for the first lines of init, which owns none of them yet.
///
/// # Errors
/// What the kernel says.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: three integers. The caller is at its start: no object of this process owns a descriptor above 2.
    checked(unsafe { libc::close_range(FIRST_OTHER, libc::c_uint::MAX, 0) }).map(|_| ())
}

/// Makes all descriptors but the standard three close when a program is executed.
///
/// # Errors
/// What the kernel says.
pub(crate) fn close_others_on_execute() -> io::Result<()> {
    const CLOSE_ON_EXEC: libc::c_int = 1 << 2;
    // SAFETY: three integers; no descriptor is closed now.
    checked(unsafe { libc::close_range(FIRST_OTHER, libc::c_uint::MAX, CLOSE_ON_EXEC) }).map(|_| ())
}

/// Becomes readable when a child changes state. While it exists SIGCHLD is blocked, see [`restore_signals`].
#[derive(Debug)]
pub(crate) struct ChildSignals {
    descriptor: OwnedFd,
}

impl ChildSignals {
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a signal set is plain integers, for which all zeros is a valid value.
        let mut set: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: `set` is valid for writes.
        checked(unsafe { libc::sigemptyset(&raw mut set) })?;
        // SAFETY: `set` is valid for writes, SIGCHLD is a signal.
        checked(unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) })?;
        // SAFETY: `set` is valid for reads; a null pointer says that the old set is not wanted.
        checked(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) })?;
        // SAFETY: -1 asks for a new descriptor; `set` is valid for reads.
        let raw =
            checked(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: the kernel has just given us this descriptor, and nothing else owns it.
        Ok(ChildSignals { descriptor: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    /// Takes what has arrived, so that the descriptor is readable again only for a later signal.
    pub(crate) fn clear(&self) {
        let mut buffer = [0; 512];
        // An error here is EAGAIN: nothing has arrived, which is what is wanted.
        while rustix::io::read(&self.descriptor, &mut buffer).is_ok_and(|n| n > 0) {}
    }
}

impl AsFd for ChildSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Gives every signal its default action and blocks none: what a program expects to begin with.
///
/// # Errors
/// What the kernel says.
pub(crate) fn restore_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is a valid action. SIGKILL, SIGSTOP and libc's own two signals are refused with an
        // error that means nothing to us: they have the default action already.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a signal set is plain integers, for which all zeros is a valid value: the empty set.
    let none: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: `none` is valid for reads; a null pointer says that the old set is not wanted.
    checked(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) }).map(|_| ())
}

/// Has the kernel refuse this process, and all that it will start, memory that becomes executable after it was
/// not. False when the kernel can't, which is before Linux 6.3.
///
/// # Errors
/// What else the kernel says.
pub(crate) fn refuse_new_code() -> io::Result<bool> {
    let none: libc::c_ulong = 0;
    let how = libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN);
    // SAFETY: prctl takes integers here.
    match checked(unsafe { libc::prctl(libc::PR_SET_MDWE, how, none, none, none) }) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        result => result.map(|_| true),
    }
}

/// Whether the kernel knows what [`refuse_new_code`] asks for.
pub(crate) fn can_refuse_new_code() -> bool {
    let none: libc::c_ulong = 0;
    // SAFETY: prctl takes integers here, and answers one.
    checked(unsafe { libc::prctl(libc::PR_GET_MDWE, none, none, none, none) }).is_ok()
}

/// What the children that were waited for have used, with theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildUsage {
    pub cpu: Duration,
    /// Largest resident set of any single one, in bytes.
    pub peak: u64,
}

/// # Errors
/// What the kernel says.
pub(crate) fn children_usage() -> io::Result<ChildUsage> {
    // SAFETY: `rusage` is plain integers, for which all zeros is a valid value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: `usage` is valid for writes.
    checked(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) })?;
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs()) + Duration::from_micros(t.tv_usec.unsigned_abs())
    };
    Ok(ChildUsage {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak: usage.ru_maxrss.unsigned_abs() * 1_024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test harness runs each test on a thread of its own, so that this process has two at least.
        assert!(fork().is_err());
    }
}
