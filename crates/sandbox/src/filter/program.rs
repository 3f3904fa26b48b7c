//! Compiles rules to one program for the kernel's filter machine (classic BPF).
//!
//! The program checks the architecture, finds the call's number by binary search and there tries the call's rules
//! in turn. Numbers that have the same rules and lie side by side are one leaf. The kernel runs the program once
//! per number when it is installed and from then on allows what is allowed whatever the arguments without running
//! it, so the search costs only the calls whose arguments are looked at.

use std::collections::BTreeMap;

use super::rule::{Answer, Is, Test};

/// An instruction of the filter machine, as the kernel takes it.
pub(crate) type Instruction = libc::sock_filter;

/// A compiled filter.
#[derive(Clone)]
pub(crate) struct Program {
    instructions: Vec<Instruction>,
}

impl Program {
    pub(crate) fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// A rule as one call sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arm {
    pub when: &'static [Test],
    pub answer: Answer,
}

/// Per call number the arms to try in turn; where none holds, and for numbers without any, `otherwise`.
#[derive(Debug)]
pub(super) struct Decisions {
    pub arms: BTreeMap<u32, Vec<Arm>>,
    pub otherwise: Answer,
}

/// What the machine's instructions are made of; see `linux/bpf_common.h`.
pub(super) mod code {
    pub const LOAD: u16 = 0x20;
    pub const JUMP: u16 = 0x05;
    pub const JUMP_IF_EQUAL: u16 = 0x15;
    pub const JUMP_IF_AT_LEAST: u16 = 0x35;
    pub const JUMP_IF_ANY_BIT: u16 = 0x45;
    pub const AND: u16 = 0x54;
    pub const RETURN: u16 = 0x06;
}

/// Offsets in `seccomp_data`.
pub(super) mod offset {
    pub const NUMBER: u32 = 0;
    pub const ARCHITECTURE: u32 = 4;
    const ARGUMENTS: u32 = 16;

    /// The lower half of an argument: this machine is little-endian.
    pub const fn argument(index: u8) -> u32 {
        ARGUMENTS + 8 * index as u32
    }
}

/// `AUDIT_ARCH_X86_64`. The x32 convention has it too; its numbers begin above all others and are in no rule.
pub(super) const X86_64: u32 = 0xc000_003e;

/// What the kernel takes as an answer.
pub(super) const fn encode(answer: Answer) -> u32 {
    match answer {
        Answer::Allow => libc::SECCOMP_RET_ALLOW,
        Answer::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        Answer::Pretend => libc::SECCOMP_RET_ERRNO,
        Answer::Kill => libc::SECCOMP_RET_KILL_PROCESS,
    }
}

/// Compiles decisions to a program.
pub(super) fn compile(decisions: &Decisions) -> Program {
    let mut assembler = Assembler::default();
    let leaves = leaves(decisions);
    let search = assembler.search(&leaves, decisions.otherwise);
    let kill = assembler.answer(Answer::Kill);
    let search = assembler.step(code::LOAD, offset::NUMBER, search);
    let check = assembler.branch(code::JUMP_IF_EQUAL, X86_64, search, kill);
    assembler.step(code::LOAD, offset::ARCHITECTURE, check);
    assembler.finish()
}

/// Where in the numbers a leaf begins, which reaches to the beginning of the next.
type Leaf<'a> = (u32, &'a [Arm]);

/// All numbers, cut where the arms change.
fn leaves(decisions: &Decisions) -> Vec<Leaf<'_>> {
    let mut leaves: Vec<Leaf<'_>> = vec![(0, &[])];
    let mut add = |start: u32, arms| match leaves.last_mut() {
        Some((_, last)) if *last == arms => (),
        // The first call has number 0.
        Some((at, last)) if *at == start => *last = arms,
        _ => leaves.push((start, arms)),
    };
    for (number, arms) in &decisions.arms {
        add(*number, arms);
        if !decisions.arms.contains_key(&(number + 1)) {
            add(number + 1, &[]);
        }
    }
    leaves
}

/// A place in the program, counted from its end: the number of instructions behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(usize);

/// Writes a program from its end to its beginning: so whatever a jump goes to, for it can only go forward, is there
/// already and its distance is known.
#[derive(Default)]
struct Assembler {
    /// Last instruction first.
    reversed: Vec<Instruction>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Place {
        self.reversed.push(Instruction { code, jt, jf, k });
        Place(self.reversed.len() - 1)
    }

    /// How many instructions one that is written now would have to jump over.
    fn distance(&self, to: Place) -> usize {
        self.reversed.len() - 1 - to.0
    }

    /// A place that goes on as `to` does and that the next two instructions can reach with the 8 bits that a
    /// condition has.
    fn near(&mut self, to: Place) -> Place {
        if self.distance(to) < usize::from(u8::MAX) {
            return to;
        }
        self.jump(to)
    }

    fn branch(&mut self, code: u16, value: u32, yes: Place, no: Place) -> Place {
        // Two steps, because the jump that brings one near moves the other away by one.
        let no = self.near(no);
        let yes = self.near(yes);
        let reach = |place| u8::try_from(self.distance(place)).expect("it was brought near");
        let (jt, jf) = (reach(yes), reach(no));
        self.push(code, jt, jf, value)
    }

    /// Does something with the accumulator, then goes on at `then`.
    fn step(&mut self, code: u16, k: u32, then: Place) -> Place {
        // Such an instruction goes on with the one behind it.
        if self.distance(then) > 0 {
            self.jump(then);
        }
        self.push(code, 0, 0, k)
    }

    fn jump(&mut self, to: Place) -> Place {
        let distance = u32::try_from(self.distance(to)).expect("programs have few instructions");
        self.push(code::JUMP, 0, 0, distance)
    }

    /// The end of a way; one that is near enough is used again.
    fn answer(&mut self, answer: Answer) -> Place {
        let k = encode(answer);
        let near = self.reversed.len().saturating_sub(usize::from(u8::MAX) - 1);
        let found = self.reversed[near..].iter().rposition(|one| one.code == code::RETURN && one.k == k);
        found.map_or_else(|| self.push(code::RETURN, 0, 0, k), |index| Place(near + index))
    }

    fn search(&mut self, leaves: &[Leaf<'_>], otherwise: Answer) -> Place {
        match leaves {
            [] => self.answer(otherwise),
            [(_, arms)] => self.decide(arms, otherwise),
            _ => {
                let (below, above) = leaves.split_at(leaves.len() / 2);
                let from = above[0].0;
                let above = self.search(above, otherwise);
                let below = self.search(below, otherwise);
                self.branch(code::JUMP_IF_AT_LEAST, from, above, below)
            }
        }
    }

    fn decide(&mut self, arms: &[Arm], otherwise: Answer) -> Place {
        let end = self.answer(otherwise);
        arms.iter().rev().fold(end, |next, arm| {
            let yes = self.answer(arm.answer);
            arm.when.iter().rev().fold(yes, |yes, test| self.test(test, yes, next))
        })
    }

    fn test(&mut self, test: &Test, yes: Place, no: Place) -> Place {
        let mut numbers: Vec<u32> = test.values.iter().map(|value| value.number).collect();
        numbers.sort_unstable();
        let bits = test.bits();
        let (mask, check) = match test.is {
            Is::OneOf => (test.mask, self.member(&numbers, yes, no)),
            Is::NoneOf => (test.mask, self.member(&numbers, no, yes)),
            Is::AnyBit => (test.mask, self.branch(code::JUMP_IF_ANY_BIT, bits, yes, no)),
            Is::AllBits => (test.mask & bits, self.branch(code::JUMP_IF_EQUAL, bits, yes, no)),
        };
        let check = if mask == u32::MAX { check } else { self.step(code::AND, mask, check) };
        self.step(code::LOAD, offset::argument(test.argument), check)
    }

    /// Looks the loaded word up among ascending values.
    fn member(&mut self, values: &[u32], yes: Place, no: Place) -> Place {
        match values {
            [] => no,
            [value] => self.branch(code::JUMP_IF_EQUAL, *value, yes, no),
            _ => {
                let (below, above) = values.split_at(values.len() / 2);
                let from = above[0];
                let above = self.member(above, yes, no);
                let below = self.member(below, yes, no);
                self.branch(code::JUMP_IF_AT_LEAST, from, above, below)
            }
        }
    }

    fn finish(mut self) -> Program {
        self.reversed.reverse();
        Program { instructions: self.reversed }
    }
}
