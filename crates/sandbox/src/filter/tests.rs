//! Compiled programs against the meaning of the rules, on a machine like the kernel's and in the kernel.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::{fs, thread};

use super::program::{Instruction, X86_64, code, encode};
use super::rule::{Answer, Is, Test};
use super::table::{OTHERWISE, RULES};
use super::*;
use crate::sys::{Notifications, Place, Reply, Then};

const PROFILES: [Profile; 2] =
    [Profile { connects: Connects::Free }, Profile { connects: Connects::Brokered }];

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
            code::JUMP_IF_ANY_BIT => branch(accumulator & k != 0),
            code::RETURN => return k,
            _ => panic!("instruction {code:#x}"),
        };
    }
}

/// What the rules say, read as slowly and plainly as they are meant.
fn meaning(rules: &[Rule], profile: Profile, number: u32, arguments: [u64; 6]) -> Answer {
    let holds = |test: &Test| {
        let value = u32::try_from(arguments[usize::from(test.argument)] & 0xffff_ffff).unwrap();
        match test.is {
            Is::OneOf(values) => values.contains(&value),
            Is::NoneOf(values) => !values.contains(&value),
            Is::AnyBit(bits) => value & bits != 0,
        }
    };
    let found = rules.iter().find(|rule| {
        applies(rule.within, profile)
            && rule.calls.iter().any(|call| call.number == number)
            && rule.when.iter().all(holds)
    });
    found.map_or(OTHERWISE, |rule| rule.answer)
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

/// Values on both sides of everything that rules test a call's arguments for.
fn telling_values(rules: &[Rule], number: u32) -> Vec<u32> {
    let mut values = vec![0, 1, u32::MAX];
    let tests = rules.iter().filter(|rule| rule.calls.iter().any(|call| call.number == number));
    for test in tests.flat_map(|rule| rule.when) {
        match test.is {
            Is::OneOf(them) | Is::NoneOf(them) => {
                values.extend(them.iter().flat_map(|v| [*v, v.wrapping_sub(1), v.wrapping_add(1)]));
            }
            Is::AnyBit(bits) => {
                let each = (0..32).map(|bit| 1 << bit).filter(|bit| bits & bit != 0);
                values.extend(each.chain([bits, !bits]));
            }
        }
    }
    values
}

/// Arguments that tell rules apart, with upper halves that must not matter.
fn arguments(random: &mut Random, telling: &[u32]) -> [u64; 6] {
    std::array::from_fn(|_| {
        let low = match random.next() % 4 {
            0 => random.next() & 0xffff_ffff,
            1 => u64::from(random.one(telling) | random.one(telling)),
            _ => u64::from(random.one(telling)),
        };
        let high = random.one(&[0, 0, 1, u64::MAX, random.0]);
        high << 32 | low
    })
}

#[test]
fn the_program_says_what_the_rules_say() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for profile in PROFILES {
        let program = compile(profile);
        for number in (0..NUMBERS).chain([0x4000_0000, 0x4000_0000 + 39, 0x4000_0000 + 512, u32::MAX]) {
            let telling = telling_values(RULES, number);
            for _ in 0..400 {
                let arguments = arguments(&mut random, &telling);
                let found = interpret(program.instructions(), &native(number, arguments));
                let meant = meaning(RULES, profile, number, arguments);
                assert_eq!(found, encode(meant), "{profile:?} {number} {arguments:x?}");
            }
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
    const MANY: [u32; 1_000] = {
        let mut values = [0; 1_000];
        let mut i = 0;
        while i < values.len() {
            values[i] = 3 * i as u32;
            i += 1;
        }
        values
    };
    const TESTS: &[Test] = &[rule::none_of(0, &MANY), rule::one_of(1, &MANY)];
    let mut decisions = Decisions { arms: Default::default(), otherwise: Answer::Refuse(1) };
    for number in [3, 7, 8] {
        let arms = vec![
            Arm { when: TESTS, answer: Answer::Refuse(2) },
            Arm { when: &TESTS[1..], answer: Answer::Allow },
        ];
        decisions.arms.insert(number, arms);
    }
    let program = program::compile(&decisions);
    for number in 0..12 {
        for first in 0..20 {
            for second in [0, 1, 1_500, 2_997, 2_998, 9_000] {
                let found = interpret(program.instructions(), &native(number, [first, second, 0, 0, 0, 0]));
                let within = |value| value < 3_000 && value % 3 == 0;
                let meant = match (number, within(first), within(second)) {
                    (3 | 7 | 8, false, true) => Answer::Refuse(2),
                    (3 | 7 | 8, true, true) => Answer::Allow,
                    _ => Answer::Refuse(1),
                };
                assert_eq!(found, encode(meant), "{number} {first} {second}");
            }
        }
    }
}

#[test]
fn every_rule_has_a_reason_and_its_values_in_order() {
    for rule in RULES {
        assert!(rule.reason.len() > 10, "{rule:?}");
        assert!(rule.calls.iter().all(|call| !call.name().starts_with("SYS_")), "{rule:?}");
        for test in rule.when {
            if let Is::OneOf(values) | Is::NoneOf(values) = test.is {
                assert!(values.is_sorted_by(|a, b| a < b), "{rule:?}");
            }
        }
    }
}

/// On a thread of its own, for the filter is the thread's: brokers three connects.
#[test]
fn connects_wait_for_the_broker() {
    let (send, receive) = mpsc::channel();
    let program = thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        let listener = install(&compile(PROFILES[1]), Listener::Wanted).unwrap();
        send.send(listener.unwrap()).unwrap();
        let connect = || UnixStream::connect("/there/is/no/such/socket").map_err(|e| e.raw_os_error());
        let refused = connect().unwrap_err();
        let connected = connect().unwrap();
        let name = fs::read_link(format!("/proc/self/fd/{}", connected.as_raw_fd())).unwrap();
        (refused, name, connect().unwrap_err())
    });
    let notifications = Notifications::new(receive.recv().unwrap()).unwrap();
    let next = || {
        let call = notifications.receive().unwrap().expect("the caller lives");
        assert_eq!(i64::from(call.number), libc::SYS_connect);
        assert_ne!(call.pid, 0);
        assert!(notifications.is_waiting(call.id));
        call
    };
    let call = next();
    notifications.reply(call.id, Reply::Errno(libc::EHOSTUNREACH)).unwrap();
    assert!(!notifications.is_waiting(call.id));

    let call = next();
    let null = fs::File::open("/dev/null").unwrap();
    let socket = u32::try_from(call.arguments[0]).unwrap();
    notifications.give(call.id, null.as_fd(), Place::At(socket), Then::Wait).unwrap();
    notifications.reply(call.id, Reply::Value(0)).unwrap();
    assert!(notifications.reply(call.id, Reply::Value(0)).is_err());

    let call = next();
    notifications.reply(call.id, Reply::Continue).unwrap();
    let (refused, name, continued) = program.join().unwrap();
    assert_eq!(refused, Some(libc::EHOSTUNREACH));
    assert_eq!(name.to_str(), Some("/dev/null"));
    assert_eq!(continued, Some(libc::ENOENT));
}

/// A given descriptor as the answer of the call.
#[test]
fn a_call_can_return_what_the_broker_gives() {
    let (send, receive) = mpsc::channel();
    let program = thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        let listener = install(&compile(PROFILES[1]), Listener::Wanted).unwrap();
        send.send(listener.unwrap()).unwrap();
        // The standard library takes every answer but -1 for 0.
        UnixStream::connect("/there/is/no/such/socket").map(|_| ()).map_err(|e| e.raw_os_error())
    });
    let notifications = Notifications::new(receive.recv().unwrap()).unwrap();
    let call = notifications.receive().unwrap().expect("the caller lives");
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let number = notifications.give(call.id, ours.as_fd(), Place::Free, Then::Return).unwrap();
    assert!(number > 2, "{number}");
    assert!(!notifications.is_waiting(call.id));
    program.join().unwrap().unwrap();
    // The threads of this process share their descriptors, so the copy is ours.
    let copy = fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
    assert!(copy.to_string_lossy().starts_with("socket:"), "{copy:?}");
}
