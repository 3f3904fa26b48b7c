//! The crash handler (§4.3.3.3): when a process is about to die of a fault, it tells the VM Portal where, and then
//! dies of it all the same.
//!
//! It runs in the middle of anything, so it calls nothing but the kernel and keeps what it needs in memory of its
//! own. A program that has handlers itself replaces ours and is not disturbed; what it gets back as the former
//! handler does no harm when it is called.

use core::arch::global_asm;
use core::mem::MaybeUninit;
use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::frame;
use crate::sys::{self, Action, File, Wait};

const SIG_DFL: usize = 0;

const SA_SIGINFO: usize = 4;
const SA_RESTORER: usize = 0x0400_0000;
const SA_ONSTACK: usize = 0x0800_0000;
const SA_NODEFER: usize = 0x4000_0000;
const SA_RESETHAND: usize = 0x8000_0000;

/// Room on the handlers' stack: also for handlers of programs that use the stack that they find, as Go's with C in
/// them, which need 32 KiB. Pages that nobody touches cost nothing.
const STACK: usize = 64 << 10;

/// Longest line of /proc/self/maps that is looked at.
const LINE: usize = 512;

/// How far below a stack's mapping its pointer may be when the stack has overflowed.
const OVERFLOW: usize = 64 << 10;

/// Memory that is only touched when it is needed.
struct Room {
    mappings: [MaybeUninit<u8>; frame::MAX_MAPPINGS],
    chunk: [MaybeUninit<u8>; 4_096],
    line: [u8; LINE],
}

/// The lowest of all that is writable here: below is code, which can't be, so that running over ends in a fault.
static mut HANDLERS_STACK: [MaybeUninit<u8>; STACK] = [const { MaybeUninit::uninit() }; STACK];
static mut ROOM: MaybeUninit<Room> = MaybeUninit::uninit();

/// Whether a thread of this process has begun to report.
static REPORTING: AtomicBool = AtomicBool::new(false);

static HEADERS: AtomicUsize = AtomicUsize::new(0);

global_asm!(
    ".hidden return_from_handler",
    ".globl return_from_handler",
    "return_from_handler:",
    "mov eax, 15",
    "syscall",
    "ud2",
);

unsafe extern "C" {
    fn return_from_handler();
}

/// Installs the handler for all [`frame::SIGNALS`] that nobody has said anything about.
pub fn install(headers: usize) -> bool {
    HEADERS.store(headers, Ordering::Relaxed);
    let stack = &raw mut HANDLERS_STACK;
    // SAFETY: this thread's for as long as the process lives, unless the program sets another.
    let mut done = unsafe { sys::set_handlers_stack(stack as usize, STACK) };
    let action = Action {
        handler: handle as *const () as usize,
        flags: SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER | SA_RESETHAND,
        restorer: return_from_handler as *const () as usize,
        mask: 0,
    };
    for signal in frame::SIGNALS {
        // SAFETY: `handle` may run at any moment.
        let old = unsafe { sys::set_action(signal, &action) };
        match old {
            // Whoever started the program wants the signal ignored.
            Some(old) if old.handler != SIG_DFL => {
                // SAFETY: it is as it was.
                unsafe { sys::set_action(signal, &old) };
            }
            Some(_) => {}
            None => done = false,
        }
    }
    done
}

/// The beginning of the kernel's `siginfo_t`.
#[repr(C)]
struct Info {
    signal: i32,
    _errno: i32,
    code: i32,
    _padding: i32,
    address: u64,
}

/// The beginning of the kernel's `ucontext`.
#[repr(C)]
struct Context {
    _flags: u64,
    _link: u64,
    _stack: [u64; 3],
    registers: [u64; frame::REGISTERS],
}

/// # Safety
/// Called by the kernel as a signal handler.
unsafe extern "C" fn handle(signal: i32, info: *const Info, context: *const Context) {
    if REPORTING.swap(true, Ordering::Relaxed) {
        // Another thread is at it, and the process ends with it.
        sys::sleep();
    } else {
        // SAFETY: the kernel's pointers; and only one thread comes here.
        unsafe { report(&*info, &*context) };
    }
    // SAFETY: as above.
    let by_somebody = unsafe { (*info).code <= 0 };
    if by_somebody {
        // A fault happens again on return, and then takes its course; a signal that was sent does not.
        sys::raise(signal);
    }
}

/// # Safety
/// No other thread may be in here.
unsafe fn report(info: &Info, context: &Context) {
    // SAFETY: the caller's promise; arrays of bytes need no preparation but for the line, which is plain memory.
    let room = unsafe {
        let room = (&raw mut ROOM).cast::<Room>();
        ptr::write_bytes(&raw mut (*room).line, 0, 1);
        &mut *room
    };
    let pointer = context.registers[frame::RSP] as usize;
    let found = Mappings::read(room, pointer);
    // SAFETY: the kernel lists these bytes as readable memory of ours.
    let stack = unsafe { slice::from_raw_parts(found.stack_begins as *const u8, found.stack_length) };
    let mut words = [0_u64; frame::CRASH_WORDS];
    words[0] = frame::CRASHED;
    words[frame::SIGNAL_AND_CODE] = frame::join(info.signal.cast_unsigned(), info.code.cast_unsigned());
    words[frame::ADDRESS_OF_FAULT] = info.address;
    words[frame::THREAD] = u64::from(sys::thread_id());
    words[frame::PROGRAM_HEADERS] = HEADERS.load(Ordering::Relaxed) as u64;
    words[frame::STACK_BEGINS] = found.stack_begins as u64;
    words[frame::LENGTHS] = frame::join(stack.len() as u32, found.text.len() as u32);
    words[frame::FIRST_REGISTER..].copy_from_slice(&context.registers);
    // SAFETY: words of this processor are little-endian bytes.
    let words = unsafe { slice::from_raw_parts(words.as_ptr().cast::<u8>(), frame::CRASH_WORDS * 8) };
    sys::send(&[words, stack, found.text], Wait::ALittle);
}

/// What the list of this process's mappings says.
struct Mappings<'a> {
    /// Lines of what can be executed.
    text: &'a [u8],
    stack_begins: usize,
    stack_length: usize,
}

impl<'a> Mappings<'a> {
    /// Reads the list; `pointer` is into the stack that is wanted.
    fn read(room: &'a mut Room, pointer: usize) -> Self {
        let (mut used, mut length) = (0, 0);
        let (mut stack_begins, mut stack_length) = (1, 0);
        let Ok(file) = File::open(b"/proc/self/maps\0") else {
            return Mappings { text: &[], stack_begins, stack_length };
        };
        loop {
            let chunk = file.read(&mut room.chunk);
            if chunk.is_empty() {
                break;
            }
            for byte in chunk {
                if let Some(to) = room.line.get_mut(length) {
                    *to = *byte;
                    length += 1;
                }
                if *byte != b'\n' {
                    continue;
                }
                let line = room.line.get(..length).unwrap_or_default();
                length = 0;
                let Some((begin, end, rights)) = fields(line) else { continue };
                let (can_read, can_execute) = (rights.first() == Some(&b'r'), rights.get(2) == Some(&b'x'));
                let below = begin.saturating_sub(pointer);
                if can_read && pointer < end && below <= OVERFLOW && stack_length == 0 {
                    stack_begins = begin.max(pointer);
                    stack_length = (end - stack_begins).min(frame::MAX_STACK);
                }
                if can_execute && let Some(to) = room.mappings.get_mut(used..used + line.len()) {
                    for (to, from) in to.iter_mut().zip(line) {
                        to.write(*from);
                    }
                    used += line.len();
                }
            }
        }
        // SAFETY: so many bytes were written.
        let text = unsafe { slice::from_raw_parts(room.mappings.as_ptr().cast::<u8>(), used) };
        Mappings { text, stack_begins, stack_length }
    }
}

/// Begin, end and rights of a line such as `7f5e1000-7f5e3000 r-xp 00001000 08:01 123 /lib/libm.so.6`.
fn fields(line: &[u8]) -> Option<(usize, usize, &[u8])> {
    let dash = line.iter().position(|byte| *byte == b'-')?;
    let space = line.iter().position(|byte| *byte == b' ')?;
    let begin = hexadecimal(line.get(..dash)?)?;
    let end = hexadecimal(line.get(dash + 1..space)?)?;
    (begin < end).then_some((begin, end, line.get(space + 1..space + 5)?))
}

fn hexadecimal(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0_usize, |number, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(number << 4 | digit as usize)
    })
}
