//! seccomp(2): installs a filter, and answers the calls that a filter sends to a listener.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::{io, ptr};

use super::checked;

/// Installs a filter for the calling thread. It needs no_new_privs, and can't be undone.
///
/// # Errors
/// What the kernel says.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    set_filter(program, 0).map(|_| ())
}

/// As [`install_filter`]; returns the descriptor, closed by execute, at which the calls arrive that the filter
/// answers with `SECCOMP_RET_USER_NOTIF`. A call that has been received can be interrupted by a fatal signal only,
/// where the kernel can do that (5.19).
///
/// # Errors
/// What the kernel says; EBUSY if an earlier filter has a listener.
pub(crate) fn install_filter_with_listener(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let raw = match set_filter(program, flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => set_filter(program, flags),
        result => result,
    }?;
    // SAFETY: with this flag the kernel answers a new descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn set_filter(program: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<i32> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    seccomp(libc::SECCOMP_SET_MODE_FILTER, flags, (&raw const program).cast_mut().cast())
}

/// `argument` must be what the operation wants: a `sock_fprog` that is valid for reads, with its instructions, or
/// a `seccomp_notif_sizes` that is valid for writes.
fn seccomp(operation: libc::c_uint, flags: libc::c_ulong, argument: *mut c_void) -> io::Result<i32> {
    // SAFETY: both callers in this file pass a pointer to a local of the type that their operation wants, and the
    // kernel copies from or into it during the call only.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, argument) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// A call that a program made and that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    /// Names this call until it is answered or its caller dies; never used again.
    pub id: u64,
    /// The calling thread, as the listener's pid namespace numbers it; 0 if it is not in there.
    pub pid: u32,
    pub number: i32,
    pub arguments: [u64; 6],
}

/// What the caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The call returns this.
    Value(i64),
    /// The call fails with this errno.
    Errno(i32),
    /// The kernel makes the call after all, and reads what pointers point to again: nothing that was read for a
    /// decision binds it, so only where whatever it may be now is harmless.
    Continue,
}

/// Which number a descriptor gets in the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The lowest free one.
    Free,
    /// This one; what was there is closed.
    At(u32),
}

/// What becomes of the call when the caller has the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It still waits for its answer.
    Wait,
    /// It returns the descriptor's number.
    Return,
}

/// The end at which notifications arrive. Readable when one waits; hung up when no process has the filter any more.
#[derive(Debug)]
pub(crate) struct Notifications {
    listener: OwnedFd,
    /// Sizes of the kernel's notification and reply, in words, which grow from kernel to kernel.
    notification: usize,
    reply: usize,
}

impl Notifications {
    /// Takes what [`install_filter_with_listener`] has made.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(listener: OwnedFd) -> io::Result<Self> {
        let mut sizes =
            libc::seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
        seccomp(libc::SECCOMP_GET_NOTIF_SIZES, 0, (&raw mut sizes).cast())?;
        let words = |kernel: u16, ours: usize| usize::from(kernel).max(ours).div_ceil(size_of::<u64>());
        Ok(Notifications {
            listener,
            notification: words(sizes.seccomp_notif, size_of::<libc::seccomp_notif>()),
            reply: words(sizes.seccomp_notif_resp, size_of::<libc::seccomp_notif_resp>()),
        })
    }

    /// Waits for the next call. Nothing when its caller died before it could be received: look again.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn receive(&self) -> io::Result<Option<Notification>> {
        // The kernel wants it to be zeros.
        let mut buffer = vec![0_u64; self.notification];
        match self.control(libc::SECCOMP_IOCTL_NOTIF_RECV, buffer.as_mut_ptr().cast()) {
            Ok(()) => (),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => return Ok(None),
            Err(e) => return Err(e),
        }
        // SAFETY: the buffer is aligned for a u64, as the struct is, at least as large as it (see `new`), and the
        // struct is plain integers, for which all values are valid.
        let found = unsafe { ptr::read(buffer.as_ptr().cast::<libc::seccomp_notif>()) };
        Ok(Some(Notification {
            id: found.id,
            pid: found.pid,
            number: found.data.nr,
            arguments: found.data.args,
        }))
    }

    /// Whether the call still waits. Ask after opening anything by the caller's pid: if so, the pid was its own.
    pub(crate) fn is_waiting(&self, id: u64) -> bool {
        let mut id = id;
        self.control(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, (&raw mut id).cast()).is_ok()
    }

    /// Answers a call.
    ///
    /// # Errors
    /// ENOENT if it doesn't wait any more, which is nobody's fault: its caller was killed. EINPROGRESS or ENOENT
    /// if it has been answered.
    pub(crate) fn reply(&self, id: u64, reply: Reply) -> io::Result<()> {
        let (val, error, flags) = match reply {
            Reply::Value(value) => (value, 0, 0),
            Reply::Errno(errno) => (0, -errno, 0),
            Reply::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
        };
        let flags = u32::try_from(flags).expect("the only flag is 1");
        let mut buffer = vec![0_u64; self.reply];
        let response = libc::seccomp_notif_resp { id, val, error, flags };
        // SAFETY: the buffer is aligned for a u64, as the struct is, and at least as large as it (see `new`).
        unsafe { ptr::write(buffer.as_mut_ptr().cast(), response) };
        self.control(libc::SECCOMP_IOCTL_NOTIF_SEND, buffer.as_mut_ptr().cast())
    }

    /// Gives the caller of a waiting call a copy of a descriptor, which it will keep over an execute. Returns the
    /// copy's number.
    ///
    /// # Errors
    /// ENOENT if the call doesn't wait any more, EMFILE if the caller has as many as it may.
    pub(crate) fn give(
        &self,
        id: u64,
        descriptor: BorrowedFd<'_>,
        place: Place,
        then: Then,
    ) -> io::Result<i32> {
        let (newfd, set) = match place {
            Place::Free => (0, 0),
            Place::At(number) => (number, libc::SECCOMP_ADDFD_FLAG_SETFD),
        };
        let send = if then == Then::Return { libc::SECCOMP_ADDFD_FLAG_SEND } else { 0 };
        let srcfd = u32::try_from(descriptor.as_raw_fd()).expect("a descriptor is not negative");
        let flags = u32::try_from(set | send).expect("the flags are 1 and 2");
        let request = libc::seccomp_notif_addfd { id, flags, srcfd, newfd, newfd_flags: 0 };
        // SAFETY: the kernel reads a `seccomp_notif_addfd`, whose size is part of the request's number.
        let number = unsafe {
            libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request)
        };
        checked(number)
    }

    /// `argument` must be as large as the kernel's struct for the request, and zeros or a valid value of it.
    fn control(&self, request: libc::Ioctl, argument: *mut c_void) -> io::Result<()> {
        // SAFETY: the callers in this file pass pointers to locals, buffers of the kernel's own sizes or a u64 for
        // the request that wants one; the kernel uses them during the call only.
        checked(unsafe { libc::ioctl(self.listener.as_raw_fd(), request, argument) }).map(drop)
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
