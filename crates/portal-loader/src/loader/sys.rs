//! The few system calls of the loader, by their numbers.

use core::arch::asm;
use core::mem::MaybeUninit;
use core::slice;

use crate::frame;

pub const PROT_READ: usize = 1;
pub const PROT_WRITE: usize = 2;
pub const PROT_EXEC: usize = 4;

/// An error as the kernel counts it.
pub type Errno = usize;
pub const ENOENT: Errno = 2;

const READ: usize = 0;
const WRITE: usize = 1;
const CLOSE: usize = 3;
const MMAP: usize = 9;
const RT_SIGACTION: usize = 13;
const NANOSLEEP: usize = 35;
const GETPID: usize = 39;
const SOCKET: usize = 41;
const SENDMSG: usize = 46;
const SETSOCKOPT: usize = 54;
const SIGALTSTACK: usize = 131;
const PRCTL: usize = 157;
const GETTID: usize = 186;
const TGKILL: usize = 234;
const EXIT_GROUP: usize = 231;
const OPENAT: usize = 257;

/// # Safety
/// The call with these arguments must not break what the program relies on.
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, Errno> {
    /// The kernel answers with a number above this when it means an error.
    const LAST_ERRNO: isize = -4_095;
    let [a, b, c, d, e, f] = arguments;
    let answer: isize;
    // SAFETY: the caller's promise; these are the registers of the kernel's convention.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer,
             in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if (LAST_ERRNO..0).contains(&answer) { Err(answer.unsigned_abs()) } else { Ok(answer as usize) }
}

/// A file that is open for reading, and closed when it is dropped.
pub struct File(usize);

impl File {
    /// `path` ends with a NUL.
    pub fn open(path: &[u8]) -> Result<Self, Errno> {
        const HERE: usize = -100_isize as usize;
        const CLOEXEC: usize = 0o2_000_000;
        if !path.contains(&0) {
            return Err(ENOENT);
        }
        // SAFETY: a NUL-terminated path.
        unsafe { call(OPENAT, [HERE, path.as_ptr() as usize, CLOEXEC, 0, 0, 0]) }.map(File)
    }

    /// Reads once; gives what was read, which is empty at the end and on an error.
    pub fn read<'a>(&self, buffer: &'a mut [MaybeUninit<u8>]) -> &'a [u8] {
        let (at, room) = (buffer.as_mut_ptr(), buffer.len());
        // SAFETY: the buffer is ours to write.
        let read = unsafe { call(READ, [self.0, at as usize, room, 0, 0, 0]) }.unwrap_or(0);
        // SAFETY: the kernel has written that many bytes.
        unsafe { slice::from_raw_parts(at.cast(), read.min(room)) }
    }

    /// # Safety
    /// Nothing else may lie in the range of `length` bytes at `at`.
    pub unsafe fn map_at(&self, at: usize, length: usize, protection: usize, offset: usize) -> Option<()> {
        // SAFETY: the caller's promise.
        let mapped = unsafe { call(MMAP, [at, length, protection, MAP_PRIVATE | MAP_FIXED, self.0, offset]) };
        mapped.ok().map(|_| ())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        let _ = unsafe { call(CLOSE, [self.0, 0, 0, 0, 0, 0]) };
    }
}

const MAP_PRIVATE: usize = 2;
const MAP_FIXED: usize = 0x10;
const MAP_ANONYMOUS: usize = 0x20;
const NO_FILE: usize = usize::MAX;

/// A range of addresses that nothing else will be put into, and that can't be accessed.
pub fn reserve(length: usize) -> Option<usize> {
    // SAFETY: a new mapping where there is none.
    unsafe { call(MMAP, [0, length, 0, MAP_PRIVATE | MAP_ANONYMOUS, NO_FILE, 0]) }.ok()
}

/// # Safety
/// As for [`File::map_at`].
pub unsafe fn map_zeros_at(at: usize, length: usize, protection: usize) -> Option<()> {
    let flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
    // SAFETY: the caller's promise.
    unsafe { call(MMAP, [at, length, protection, flags, NO_FILE, 0]) }.ok().map(|_| ())
}

/// Gives up the right to make memory executable: for this process only, because a child may execute a program that
/// needs the right, and the loader of each that doesn't gives it up anew. A kernel without this does without.
pub fn refuse_new_code() -> bool {
    const SET_MDWE: usize = 65;
    const GET_MDWE: usize = 66;
    const REFUSE_EXEC_GAIN: usize = 1;
    const NO_INHERIT: usize = 2;
    // SAFETY: takes away a right that the program has said it doesn't use, or only asks.
    unsafe {
        call(PRCTL, [SET_MDWE, REFUSE_EXEC_GAIN | NO_INHERIT, 0, 0, 0, 0]).is_ok()
            // It was given up for all before.
            || call(PRCTL, [GET_MDWE, 0, 0, 0, 0, 0]).is_ok_and(|given_up| given_up & REFUSE_EXEC_GAIN != 0)
    }
}

/// Whether to wait for the VM Portal when its queue is full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    No,
    ALittle,
}

#[repr(C)]
struct Part {
    at: *const u8,
    length: usize,
}

#[repr(C)]
struct Message {
    name: *const u8,
    name_length: u32,
    parts: *const Part,
    count: usize,
    control: usize,
    control_length: usize,
    flags: i32,
}

/// Most parts of a datagram.
const MAX_PARTS: usize = 3;

/// Sends one datagram to the VM Portal, if there is one.
pub fn send(parts: &[&[u8]], wait: Wait) {
    const UNIX: usize = 1;
    const DATAGRAM: usize = 2;
    const CLOEXEC: usize = 0o2_000_000;
    const DONT_WAIT: usize = 0x40;
    const NO_SIGNAL: usize = 0x4000;
    // SAFETY: a new descriptor, which we close.
    let Ok(socket) = (unsafe { call(SOCKET, [UNIX, DATAGRAM | CLOEXEC, 0, 0, 0, 0]) }) else { return };
    let socket = File(socket);
    let mut name = [0_u8; 2 + frame::ADDRESS.len()];
    name[0] = UNIX as u8;
    name[2..].copy_from_slice(frame::ADDRESS);
    let mut list = [const { Part { at: core::ptr::null(), length: 0 } }; MAX_PARTS];
    for (to, from) in list.iter_mut().zip(parts) {
        *to = Part { at: from.as_ptr(), length: from.len() };
    }
    let message = Message {
        name: name.as_ptr(),
        name_length: name.len() as u32,
        parts: list.as_ptr(),
        count: parts.len().min(MAX_PARTS),
        control: 0,
        control_length: 0,
        flags: 0,
    };
    let flags = match wait {
        Wait::No => NO_SIGNAL | DONT_WAIT,
        Wait::ALittle => {
            limit_wait(&socket);
            NO_SIGNAL
        }
    };
    // SAFETY: the message and all that it points to live until the call returns.
    let _ = unsafe { call(SENDMSG, [socket.0, (&raw const message) as usize, flags, 0, 0, 0]) };
}

/// A process that faults must not hang when the queue stays full.
fn limit_wait(socket: &File) {
    const SOL_SOCKET: usize = 1;
    const SNDTIMEO: usize = 21;
    let time: [u64; 2] = [0, 200_000];
    let at = (&raw const time) as usize;
    // SAFETY: reads the seconds and microseconds given.
    let _ = unsafe { call(SETSOCKOPT, [socket.0, SOL_SOCKET, SNDTIMEO, at, size_of_val(&time), 0]) };
}

/// What the kernel keeps for each signal.
#[repr(C)]
pub struct Action {
    pub handler: usize,
    pub flags: usize,
    pub restorer: usize,
    pub mask: u64,
}

/// Sets the action for a signal, and gives the one that was.
///
/// # Safety
/// The handler must be able to run at any moment.
pub unsafe fn set_action(signal: i32, action: &Action) -> Option<Action> {
    const SIZE_OF_MASK: usize = 8;
    let mut old = Action { handler: 0, flags: 0, restorer: 0, mask: 0 };
    let (new, was) = (core::ptr::from_ref(action) as usize, (&raw mut old) as usize);
    // SAFETY: both live until the call returns; the rest is the caller's promise.
    let done = unsafe { call(RT_SIGACTION, [signal as usize, new, was, SIZE_OF_MASK, 0, 0]) };
    done.ok().map(|_| old)
}

/// Gives this thread a stack for its handlers.
///
/// # Safety
/// Nothing else may use the `length` bytes at `at`.
pub unsafe fn set_handlers_stack(at: usize, length: usize) -> bool {
    #[repr(C)]
    struct Stack {
        at: usize,
        flags: i32,
        length: usize,
    }
    let stack = Stack { at, flags: 0, length };
    // SAFETY: `stack` lives until the call returns; the rest is the caller's promise.
    unsafe { call(SIGALTSTACK, [(&raw const stack) as usize, 0, 0, 0, 0, 0]) }.is_ok()
}

pub fn thread_id() -> u32 {
    // SAFETY: only asks.
    unsafe { call(GETTID, [0; 6]) }.unwrap_or(0) as u32
}

/// Sends a signal to the calling thread.
pub fn raise(signal: i32) {
    // SAFETY: the signal is one that was about to end this process anyway.
    unsafe {
        let process = call(GETPID, [0; 6]).unwrap_or(0);
        let _ = call(TGKILL, [process, thread_id() as usize, signal as usize, 0, 0, 0]);
    }
}

/// Sleeps a second.
pub fn sleep() {
    let time: [u64; 2] = [1, 0];
    // SAFETY: reads the seconds and nanoseconds given.
    let _ = unsafe { call(NANOSLEEP, [(&raw const time) as usize, 0, 0, 0, 0, 0]) };
}

/// Writes to the standard error.
pub fn write_error(message: &[u8]) {
    // SAFETY: reads the message.
    let _ = unsafe { call(WRITE, [2, message.as_ptr() as usize, message.len(), 0, 0, 0]) };
}

pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { call(EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]) };
    }
}
