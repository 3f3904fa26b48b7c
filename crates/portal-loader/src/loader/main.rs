//! The portal loader: the first code of every wrapped process. Compiled on its own, see `build.rs`.
//!
//! The kernel starts it as the interpreter of a program, on the program's stack. It must leave no trace that the
//! program's own loader or libraries could stumble over: it allocates nothing, keeps no descriptor, and hands the
//! stack on as it found it.
#![no_std]
#![no_main]

mod crash;
#[path = "../frame.rs"]
#[allow(dead_code, reason = "the reading half is the VM Portal's")]
mod frame;
mod interpreter;
mod memory;
mod program;
mod relocation;
mod sys;

use core::arch::global_asm;
use core::panic::PanicInfo;

use program::{Begin, Program};

// On entry the stack pointer is at the count of arguments. It is handed on unchanged, with the registers cleared:
// rdx is what a static program registers to be called at its end, so it must be 0.
global_asm!(
    ".globl _start",
    ".hidden _start",
    "_start:",
    "xor ebp, ebp",
    "mov rbx, rsp",
    "and rsp, -16",
    "lea rdi, [rip + __ehdr_start]",
    "lea rsi, [rip + _DYNAMIC]",
    "call {relocate}",
    "mov rdi, rbx",
    "call {load}",
    "mov rsp, rbx",
    "xor ebx, ebx",
    "xor ecx, ecx",
    "xor edx, edx",
    "xor esi, esi",
    "xor edi, edi",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "xor r10d, r10d",
    "xor r11d, r11d",
    "jmp rax",
    relocate = sym relocation::relocate,
    load = sym load,
);

unsafe extern "C" {
    fn _start();
}

/// Exit status of a shell for a command that can't be run.
const CANNOT_RUN: i32 = 127;

/// Does what is to be done before the program, and gives the address where it goes on.
///
/// # Safety
/// `stack` is as the kernel sets it up for a new program.
unsafe extern "C" fn load(stack: *mut usize) -> usize {
    // SAFETY: the caller's promise.
    let begin = unsafe { Begin::read(stack) };
    if begin.entry == _start as *const () as usize {
        fail(b"portal loader: it is started by the kernel for a wrapped program, not by itself\n");
    }
    // SAFETY: the headers are where the kernel says that it mapped them.
    let Some(program) = (unsafe { Program::find(&begin) }) else {
        fail(b"portal loader: the program was not wrapped for it\n");
    };
    let mut flags = 0;
    if !program.makes_code() && sys::refuse_new_code() {
        flags |= frame::CODE_FIXED;
    }
    if crash::install(begin.headers) {
        flags |= frame::HANDLES_CRASHES;
    }
    // Nobody listens when the program does not run in a sandbox: it does without.
    sys::send(&[&frame::STARTED.to_le_bytes(), &flags.to_le_bytes()], sys::Wait::No);
    match interpreter::open(&program) {
        Ok(None) => begin.entry,
        Ok(Some(file)) => match interpreter::map(file) {
            Some((base, entry)) => {
                // SAFETY: still as the kernel set it up.
                unsafe { begin.set_base(base) };
                entry
            }
            None => fail(b"portal loader: the program's own loader can't be mapped\n"),
        },
        Err(()) => fail(b"portal loader: the program's own loader can't be opened\n"),
    }
}

fn fail(message: &[u8]) -> ! {
    sys::write_error(message);
    sys::exit(CANNOT_RUN)
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    fail(b"portal loader: it met what it was not made for\n")
}
