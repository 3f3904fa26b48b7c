//! From the raw words of a crash to what the submitter reads (§4.2.3): which program, what it could not do, and how it
//! came there.
//!
//! The words come from the subjob, and so may everything in its application's files. Nothing is believed: files are
//! looked up inside the application's tree only, every step is bounded, and what leads nowhere is left out.

mod mappings;
mod module;
mod unwind;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use model::{Crash, MAX_FRAMES};
use portal_loader::frame::{Crashed, Frame};

use self::mappings::{Mapping, parse};
use self::module::Module;
use self::unwind::{Registers, Stack};
use crate::served::Tree;

/// Most time for one backtrace; the frames found until then are reported.
const BUDGET: Duration = Duration::from_secs(2);

/// Signals with the address of what could not be accessed or done.
const WITH_ADDRESS: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

/// `si_code` of a fault whose address the processor doesn't tell.
const NO_ADDRESS: i32 = 128;

/// Makes a report of a crash frame, with the files of the application in `tree`; nothing when it is no frame.
pub(crate) fn explain(tree: &Tree, frame: &[u8]) -> Option<Crash> {
    let Some(Frame::Crashed(crashed)) = Frame::read(frame) else { return None };
    let mappings = parse(crashed.mappings);
    let has_address = WITH_ADDRESS.contains(&crashed.signal()) && (1..NO_ADDRESS).contains(&crashed.code());
    // The files are the submitter's, and libraries read them: a panic there costs the backtrace, not the report.
    let backtrace = catch_unwind(AssertUnwindSafe(|| backtrace(tree, &crashed, &mappings)));
    Some(Crash {
        program: program(&crashed, &mappings),
        signal: crashed.signal(),
        address: has_address.then(|| crashed.address()),
        backtrace: backtrace.unwrap_or_default(),
    })
}

/// The file whose headers the kernel has named: the first that can be executed at or after them.
fn program(crashed: &Crashed<'_>, mappings: &[Mapping]) -> String {
    let at = crashed.program_headers();
    let own = mappings.iter().find(|mapping| mapping.end > at);
    own.and_then(|mapping| mapping.path.clone()).unwrap_or_else(|| "an unknown program".to_owned())
}

fn backtrace(tree: &Tree, crashed: &Crashed<'_>, mappings: &[Mapping]) -> Vec<String> {
    let mut modules = Modules { tree, mappings, opened: HashMap::new() };
    let stack = Stack { begins: crashed.stack_begins(), bytes: crashed.stack };
    let mut registers = Registers::of(crashed);
    let begun = Instant::now();
    let mut frames = Vec::new();
    while frames.len() < MAX_FRAMES && begun.elapsed() < BUDGET {
        // A caller's address is that of the next instruction, which may belong to the next function already.
        let address = if frames.is_empty() { registers.pc() } else { registers.pc().wrapping_sub(1) };
        frames.push(modules.describe(address, registers.pc()));
        match modules.step(registers, address, &stack) {
            Some(caller) => registers = caller,
            None => break,
        }
    }
    frames
}

/// The files that are mapped, opened when they are needed.
struct Modules<'a> {
    tree: &'a Tree,
    mappings: &'a [Mapping],
    opened: HashMap<&'a str, Option<Module>>,
}

impl<'a> Modules<'a> {
    /// The file with the code at `address`, and how far it lies from the addresses in it.
    fn find(&mut self, address: u64) -> Option<(&Module, u64, &'a str)> {
        let mapping = self.mappings.iter().find(|mapping| mapping.holds(address))?;
        let path = mapping.path.as_deref()?;
        let Modules { tree, opened, .. } = self;
        let module = opened.entry(path).or_insert_with(|| Module::open(tree, path)).as_ref()?;
        Some((module, module.bias(mapping)?, path))
    }

    /// `address` is what is looked for, `shown` what is printed.
    fn describe(&mut self, address: u64, shown: u64) -> String {
        let Some((module, bias, path)) = self.find(address) else {
            let mapping = self.mappings.iter().find(|mapping| mapping.holds(address));
            let path = mapping.and_then(|mapping| mapping.path.as_deref());
            return path.map_or_else(|| format!("{shown:#x}"), |path| format!("{shown:#x} in {path}"));
        };
        let inside = shown.wrapping_sub(bias);
        match module.symbol(address.wrapping_sub(bias)) {
            Some((name, begins)) => format!("{name}+{:#x} in {path}", inside.wrapping_sub(begins)),
            None => format!("{inside:#x} in {path}"),
        }
    }

    fn step(&mut self, registers: Registers, address: u64, stack: &Stack<'_>) -> Option<Registers> {
        let known = self.mappings.iter().any(|mapping| mapping.holds(address));
        let rules = self.find(address).and_then(|(module, bias, _)| module.rules(address.wrapping_sub(bias)));
        match rules {
            Some(rules) => registers.caller(&rules, stack),
            None if known => registers.caller_by_frame_pointer(stack),
            // A call of what is no code, such as a null pointer: the return address was just pushed.
            None => registers.caller_of_nothing(stack),
        }
    }
}

#[cfg(test)]
mod tests;
