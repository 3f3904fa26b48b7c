//! Compiled programs against the meaning of the rules, on a machine like the kernel's and in the kernel.

use super::program::{Instruction, X86_64, code, encode};
use super::rule::{Answer, Errno, Is, Test, Value};
use super::table::OTHERWISE;
use super::*;

const PROFILES: [Profile; 2] = [Profile { code: Code::Fixed }, Profile { code: Code::Generated }];

/// The kernel takes no larger ones.
const MOST_INSTRUCTIONS: usize = 4_096;

/// One more than any number that the kernel has, and then some.
const NUMBERS: u32 = 600;

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
struct Data {
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
}

fn native(number: u32, arguments: [u64; 6]) -> Data {
    Data { architecture: X86_64, number, arguments }
}

/// Runs a program as the kernel does; panics where the kernel would have refused to install it.
fn interpret(program: &[Instruction], data: &Data) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let branch = |holds| usize::from(if holds { jt } else { jf });
        at += 1 + match code {
            code::LOAD => {
                accumulator = match k {
                    0 => data.number,
                    4 => data.architecture,
                    _ if k >= 16 && k % 4 == 0 => {
                        let argument = data.arguments[usize::try_from((k - 16) / 8).unwrap()];
                        u32::try_from(argument >> (8 * (k % 8)) & 0xffff_ffff).unwrap()
                    }
                    _ => panic!("load at {k}"),
                };
                0
            }
            code::JUMP => usize::try_from(k).unwrap(),
            code::JUMP_IF_EQUAL => branch(accumulator == k),
            code::JUMP_IF_AT_LEAST => branch(accumulator >= k),
            code::AND => {
                accumulator &= k;
                0
            }
            code::JUMP_IF_ANY_BIT => branch(accumulator & k != 0),
            code::RETURN => return k,
            _ => panic!("instruction {code:#x}"),
        };
    }
}

fn rules() -> Vec<&'static Rule> {
    GROUPS.iter().flat_map(|group| group.rules).collect()
}

fn names(rule: &Rule, number: u32) -> bool {
    rule.calls.iter().any(|call| call.number == number)
}

/// What rules say, read as slowly and plainly as they are meant.
fn meaning<'a>(
    rules: impl IntoIterator<Item = &'a &'static Rule>,
    profile: Profile,
    number: u32,
    arguments: [u64; 6],
) -> Answer {
    let holds = |test: &Test| {
        let argument =
            u32::try_from(arguments[usize::from(test.argument)] & 0xffff_ffff).unwrap() & test.mask;
        let mut numbers = test.values.iter().map(|value| value.number);
        match test.is {
            Is::OneOf => numbers.any(|number| argument == number),
            Is::NoneOf => numbers.all(|number| argument != number),
            Is::AnyBit => numbers.any(|bits| argument & bits != 0),
            Is::AllBits => numbers.all(|bits| argument & bits == bits),
        }
    };
    let mut of_call = rules.into_iter().filter(|rule| applies(rule.within, profile) && names(rule, number));
    of_call.find(|rule| rule.when.iter().all(holds)).map_or(OTHERWISE, |rule| rule.answer)
}

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next() % of.len() as u64).unwrap()]
    }
}

/// Per argument, values on both sides of everything that rules test it for.
fn telling_values(number: u32) -> [Vec<u32>; 6] {
    let mut telling: [Vec<u32>; 6] = std::array::from_fn(|_| vec![0, u32::MAX]);
    for test in rules().into_iter().filter(|rule| names(rule, number)).flat_map(|rule| rule.when) {
        let telling = &mut telling[usize::from(test.argument)];
        for value in test.values.iter().map(|value| value.number) {
            telling.extend([value, !value, value.wrapping_sub(1), value.wrapping_add(1)]);
        }
        telling.extend([test.bits(), test.mask, !test.mask]);
    }
    telling
}

/// Arguments that tell rules apart, with upper halves that must not matter.
fn arguments(random: &mut Random, telling: &[Vec<u32>; 6]) -> [u64; 6] {
    std::array::from_fn(|index| {
        let low = match random.next() % 4 {
            0 => random.next() & 0xffff_ffff,
            1 => u64::from(random.one(&telling[index]) | random.one(&telling[index])),
            _ => u64::from(random.one(&telling[index])),
        };
        let high = random.one(&[0, 0, 1, 0xffff_ffff, random.0 >> 32]);
        high << 32 | low
    })
}

#[test]
fn the_program_says_what_the_rules_say() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for profile in PROFILES {
        let program = compile(profile);
        for number in (0..NUMBERS).chain([0x4000_0000, 0x4000_0000 + 39, 0x4000_0000 + 512, u32::MAX]) {
            let telling = telling_values(number);
            let of_call: Vec<_> = rules().into_iter().filter(|rule| names(rule, number)).collect();
            for _ in 0..if of_call.is_empty() { 10 } else { 400 } {
                let arguments = arguments(&mut random, &telling);
                let found = interpret(program.instructions(), &native(number, arguments));
                let meant = meaning(&of_call, profile, number, arguments);
                assert_eq!(found, encode(meant), "{profile:?} {number} {arguments:x?}");
            }
        }
    }
}

/// Without any one of them, in any of its calls, some answer is another.
#[test]
fn no_rule_is_redundant() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for (index, rule) in rules().into_iter().enumerate() {
        for call in rule.calls {
            let telling = telling_values(call.number);
            let of_call = rules().into_iter().enumerate().filter(|(_, rule)| names(rule, call.number));
            let all: Vec<_> = of_call.clone().map(|(_, rule)| rule).collect();
            let others: Vec<_> = of_call.filter(|(at, _)| *at != index).map(|(_, rule)| rule).collect();
            let counts = (0..20_000).any(|_| {
                let profile = random.one(&PROFILES);
                let arguments = arguments(&mut random, &telling);
                let meaning = |rules: &[&'static Rule]| meaning(rules, profile, call.number, arguments);
                meaning(&all) != meaning(&others)
            });
            assert!(counts, "{} in {rule:?}", call.name());
        }
    }
}

#[test]
fn foreign_architectures_are_killed() {
    const I386: u32 = 0x4000_0003;
    const AARCH64: u32 = 0xc000_00b7;
    for profile in PROFILES {
        let program = compile(profile);
        for architecture in [0, I386, AARCH64, X86_64 ^ 1, u32::MAX] {
            for number in 0..NUMBERS {
                let data = Data { architecture, number, arguments: [0; 6] };
                assert_eq!(interpret(program.instructions(), &data), encode(Answer::Kill), "{data:x?}");
            }
        }
    }
}

#[test]
fn the_kernel_takes_programs_of_this_size() {
    for profile in PROFILES {
        let size = compile(profile).instructions().len();
        assert!(size < MOST_INSTRUCTIONS, "{size}");
    }
}

#[test]
fn far_jumps_arrive() {
    // Enough values for one test that its ways out lie far beyond what 8 bits reach, between other calls.
    static MANY: [Value; 1_000] = {
        let mut values = [Value { number: 0, name: "" }; 1_000];
        let mut i = 0;
        while i < values.len() {
            values[i].number = 3 * i as u32;
            i += 1;
        }
        values
    };
    static TESTS: &[Test] = &[Test::none_of(0, "a", &MANY), Test::one_of(1, "b", &MANY)];
    let refuse = Answer::Refuse(Errno::EPERM);
    let mut decisions = Decisions { arms: Default::default(), otherwise: Answer::Kill };
    for number in [3, 7, 8] {
        let arms =
            vec![Arm { when: TESTS, answer: refuse }, Arm { when: &TESTS[1..], answer: Answer::Allow }];
        decisions.arms.insert(number, arms);
    }
    let program = program::compile(&decisions);
    for number in 0..12 {
        for first in 0..20 {
            for second in [0, 1, 1_500, 2_997, 2_998, 9_000] {
                let found = interpret(program.instructions(), &native(number, [first, second, 0, 0, 0, 0]));
                let within = |value| value < 3_000 && value % 3 == 0;
                let meant = match (number, within(first), within(second)) {
                    (3 | 7 | 8, false, true) => refuse,
                    (3 | 7 | 8, true, true) => Answer::Allow,
                    _ => Answer::Kill,
                };
                assert_eq!(found, encode(meant), "{number} {first} {second}");
            }
        }
    }
}

#[test]
fn every_rule_can_be_read() {
    for rule in filter_rules() {
        assert!(rule.reason.len() > 10 && !rule.reason.ends_with('.'), "{rule:?}");
        assert!(rule.calls.iter().all(|name| !name.starts_with("SYS_")), "{rule:?}");
    }
    assert!(rules().iter().flat_map(|rule| rule.when).all(|test| !test.values.is_empty()));
    let rule = filter_rules().find(|rule| rule.calls == ["mmap"] && rule.answer == "EACCES").unwrap();
    assert_eq!(rule.when, "prot has PROT_WRITE and PROT_EXEC, unless the application makes code at run time");
}

#[test]
fn all_rules_of_a_call_are_in_one_group() {
    for (index, group) in GROUPS.iter().enumerate() {
        for call in group.rules.iter().flat_map(|rule| rule.calls) {
            let elsewhere = GROUPS[index + 1..].iter().flat_map(|group| group.rules);
            assert!(elsewhere.flat_map(|rule| rule.calls).all(|other| other != call), "{}", call.name());
        }
    }
}

#[test]
fn what_is_left_out_on_purpose_is_left_out() {
    for call in ABSENT.iter().flat_map(|absent| absent.calls) {
        assert!(rules().iter().all(|rule| !names(rule, call.number)), "{}", call.name());
    }
}
