//! From a function to its caller, by rules and a copy of the stack.

use portal_loader::frame::{self, Crashed};

/// Registers that rules speak of, numbered as in the ABI for x86-64: the general ones, and last the return address.
pub(super) const REGISTERS: usize = 17;

const RBP: usize = 6;
const RSP: usize = 7;
const PC: usize = 16;

/// The place of each in a frame.
const IN_FRAME: [usize; REGISTERS] =
    [13, 12, 14, frame::RBX, 9, 8, frame::RBP, frame::RSP, 0, 1, 2, 3, 4, 5, 6, 7, frame::RIP];

/// Where a caller's register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Where it was.
    Same,
    /// On the stack, so far from the base.
    Saved(i64),
    /// It is the base with this added.
    Is(i64),
    /// In another register.
    In(usize),
    Unknown,
}

/// How to get from one place in a function to its caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The caller's stack pointer: a register and what is added to it.
    pub base: (usize, i64),
    pub registers: [Rule; REGISTERS],
    /// The number under which the return address goes.
    pub return_address: usize,
}

/// The part of the stack that was copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack<'a> {
    pub begins: u64,
    pub bytes: &'a [u8],
}

impl Stack<'_> {
    fn read(&self, address: u64) -> Option<u64> {
        let into = usize::try_from(address.checked_sub(self.begins)?).ok()?;
        Some(u64::from_le_bytes(*self.bytes.get(into..)?.first_chunk()?))
    }
}

/// What is known of the registers in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registers([Option<u64>; REGISTERS]);

impl Registers {
    pub fn of(crashed: &Crashed<'_>) -> Self {
        Registers(IN_FRAME.map(|at| Some(crashed.register(at))))
    }

    pub fn pc(&self) -> u64 {
        self.0[PC].unwrap_or(0)
    }

    /// The caller's registers; nothing at the outermost function, or when they can't be told.
    pub fn caller(&self, rules: &Rules, stack: &Stack<'_>) -> Option<Self> {
        let (register, offset) = rules.base;
        let base = (*self.0.get(register)?)?.wrapping_add_signed(offset);
        let mut caller = *self;
        for (number, rule) in rules.registers.iter().enumerate() {
            caller.0[number] = match rule {
                Rule::Same => self.0[number],
                Rule::Saved(offset) => stack.read(base.wrapping_add_signed(*offset)),
                Rule::Is(offset) => Some(base.wrapping_add_signed(*offset)),
                Rule::In(other) => self.0.get(*other).copied().flatten(),
                Rule::Unknown => None,
            };
        }
        caller.0[PC] = *caller.0.get(rules.return_address)?;
        caller.0[RSP] = Some(base);
        self.goes_on(caller)
    }

    /// For code without rules that keeps a frame pointer, as code made at run time mostly does.
    pub fn caller_by_frame_pointer(&self, stack: &Stack<'_>) -> Option<Self> {
        let frame = self.0[RBP]?;
        let mut caller = *self;
        caller.0[RBP] = stack.read(frame);
        caller.0[PC] = stack.read(frame.wrapping_add(8));
        caller.0[RSP] = Some(frame.wrapping_add(16));
        self.goes_on(caller)
    }

    /// For what was called and is no code.
    pub fn caller_of_nothing(&self, stack: &Stack<'_>) -> Option<Self> {
        let pointer = self.0[RSP]?;
        let mut caller = *self;
        caller.0[PC] = stack.read(pointer);
        caller.0[RSP] = Some(pointer.wrapping_add(8));
        self.goes_on(caller)
    }

    /// A stack ends; one that leads back to itself was made to mislead.
    fn goes_on(&self, caller: Self) -> Option<Self> {
        let is_outward = caller.0[RSP]? > self.0[RSP]?;
        (is_outward && caller.0[PC].is_some_and(|pc| pc != 0)).then_some(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(pc: u64, rsp: u64, rbp: u64) -> Registers {
        let mut registers = [Some(0); REGISTERS];
        (registers[PC], registers[RSP], registers[RBP]) = (Some(pc), Some(rsp), Some(rbp));
        Registers(registers)
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_caller_is_found_by_rules() {
        let bytes = words(&[1, 0x5000, 0x40_0000, 9]);
        let stack = Stack { begins: 0x1000, bytes: &bytes };
        let mut rules = Rules { base: (RSP, 24), registers: [Rule::Same; REGISTERS], return_address: PC };
        rules.registers[RBP] = Rule::Saved(-16);
        rules.registers[PC] = Rule::Saved(-8);
        let caller = registers(7, 0x1000, 0).caller(&rules, &stack).unwrap();
        assert_eq!(caller, registers(0x40_0000, 0x1018, 0x5000));
        // The same rules from there on lead out of what was copied.
        assert_eq!(caller.caller(&rules, &stack), None);
        for base in [(RSP, 0), (RSP, -8), (40, 8)] {
            assert_eq!(registers(7, 0x1000, 0).caller(&Rules { base, ..rules }, &stack), None, "{base:?}");
        }
    }

    #[test]
    fn without_rules_the_frame_pointer_or_the_call_itself_tells() {
        let bytes = words(&[0x40_0001, 0x1020, 0x40_0002, 0]);
        let stack = Stack { begins: 0x1000, bytes: &bytes };
        let start = registers(0, 0x1000, 0x1008);
        assert_eq!(start.caller_of_nothing(&stack), Some(registers(0x40_0001, 0x1008, 0x1008)));
        assert_eq!(start.caller_by_frame_pointer(&stack), Some(registers(0x40_0002, 0x1018, 0x1020)));
        assert_eq!(registers(0, 0x1000, 0x9000).caller_by_frame_pointer(&stack), None);
    }
}
