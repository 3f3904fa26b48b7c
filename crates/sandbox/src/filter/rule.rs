//! What a rule of the system-call filter is, and what it means.

use std::fmt;

/// A system call: the number that the kernel knows it by, under the name that people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub number: u32,
    /// As libc spells the constant, so that the two can't come apart.
    constant: &'static str,
}

impl Call {
    pub(super) const fn new(number: libc::c_long, constant: &'static str) -> Self {
        assert!(number >= 0 && number < 1 << 16, "a system call's number is small");
        Call { number: number as u32, constant }
    }

    /// As in the manual: `openat`.
    pub(super) fn name(self) -> &'static str {
        self.constant.strip_prefix("SYS_").unwrap_or(self.constant)
    }
}

/// A value that an argument is compared with, under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub number: u32,
    pub name: &'static str,
}

/// System calls by libc's names for their numbers.
macro_rules! calls {
    ($($constant:ident)+) => {
        &[$($crate::filter::rule::Call::new(libc::$constant, stringify!($constant))),+]
    };
}
pub(super) use calls;

/// Values by their names in [`super::linux`].
macro_rules! values {
    ($($constant:ident)+) => {
        &[$($crate::filter::rule::Value {
            number: $crate::filter::linux::$constant as u32,
            name: stringify!($constant),
        }),+]
    };
}
pub(super) use values;

/// The errors that the filter answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(clippy::upper_case_acronyms, reason = "as in the manual")]
pub(super) enum Errno {
    EPERM = libc::EPERM as u16,
    ENOMEM = libc::ENOMEM as u16,
    EACCES = libc::EACCES as u16,
    EINVAL = libc::EINVAL as u16,
    ENOTTY = libc::ENOTTY as u16,
    ENOSYS = libc::ENOSYS as u16,
    ENOPROTOOPT = libc::ENOPROTOOPT as u16,
    EPROTONOSUPPORT = libc::EPROTONOSUPPORT as u16,
    EAFNOSUPPORT = libc::EAFNOSUPPORT as u16,
}

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    /// The program gets this error.
    Refuse(Errno),
    /// The program hears that it is done, and nothing is.
    Pretend,
    /// The process dies with SIGSYS.
    Kill,
}

/// One line of the table. Of the rules that name a call and apply to the profile, the first whose tests all hold
/// decides.
#[derive(Debug)]
pub(super) struct Rule {
    pub calls: &'static [Call],
    pub within: Within,
    /// All must hold; none at all means always.
    pub when: &'static [Test],
    pub answer: Answer,
    pub reason: &'static str,
}

impl Rule {
    /// Lets calls through, whatever their arguments.
    pub(super) const fn allow(calls: &'static [Call], reason: &'static str) -> Self {
        Rule { calls, within: Within::Every, when: &[], answer: Answer::Allow, reason }
    }

    /// Tells of calls that they are done, and does nothing.
    pub(super) const fn pretend(calls: &'static [Call], reason: &'static str) -> Self {
        Rule { calls, within: Within::Every, when: &[], answer: Answer::Pretend, reason }
    }

    /// Answers calls with an error, whatever their arguments.
    pub(super) const fn refuse(calls: &'static [Call], error: Errno, reason: &'static str) -> Self {
        Rule { calls, within: Within::Every, when: &[], answer: Answer::Refuse(error), reason }
    }

    /// The same for the calls whose arguments pass the tests only.
    pub(super) const fn when(self, when: &'static [Test]) -> Self {
        Rule { when, ..self }
    }

    /// The same in some sandboxes only.
    pub(super) const fn within(self, within: Within) -> Self {
        Rule { within, ..self }
    }
}

/// In which sandboxes a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Every,
    /// Those whose programs don't make code at run time.
    FixedCode,
}

/// A condition on the lower 32 bits of one argument. That is all that the kernel looks at in the calls concerned;
/// the upper half is ignored here as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    /// Which argument, counted from 0.
    pub argument: u8,
    /// What the manual calls it.
    pub name: &'static str,
    /// The bits that count for the comparison.
    pub mask: u32,
    pub is: Is,
    pub values: &'static [Value],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    OneOf,
    NoneOf,
    /// It has at least one of the bits of the values.
    AnyBit,
    /// It has all the bits of the values.
    AllBits,
}

impl Test {
    const fn new(argument: u8, name: &'static str, is: Is, values: &'static [Value]) -> Self {
        assert!(argument < 6, "a system call has at most six arguments");
        Test { argument, name, mask: u32::MAX, is, values }
    }

    pub(super) const fn one_of(argument: u8, name: &'static str, values: &'static [Value]) -> Self {
        Test::new(argument, name, Is::OneOf, values)
    }

    pub(super) const fn none_of(argument: u8, name: &'static str, values: &'static [Value]) -> Self {
        Test::new(argument, name, Is::NoneOf, values)
    }

    pub(super) const fn any_bit(argument: u8, name: &'static str, bits: &'static [Value]) -> Self {
        Test::new(argument, name, Is::AnyBit, bits)
    }

    pub(super) const fn all_bits(argument: u8, name: &'static str, bits: &'static [Value]) -> Self {
        Test::new(argument, name, Is::AllBits, bits)
    }

    /// Compares these bits of the argument and ignores the others.
    pub(super) const fn masked(self, mask: u32) -> Self {
        Test { mask, ..self }
    }

    /// The bits of all values together.
    pub(super) fn bits(&self) -> u32 {
        self.values.iter().fold(0, |bits, value| bits | value.number)
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.values.iter().map(|value| value.name).collect();
        let (is, between) = match (self.is, names.len()) {
            (Is::OneOf, 1) => ("is", ""),
            (Is::OneOf, _) => ("is one of", ", "),
            (Is::NoneOf, 1) => ("is not", ""),
            (Is::NoneOf, _) => ("is none of", ", "),
            (Is::AnyBit, _) => ("has", " or "),
            (Is::AllBits, _) => ("has", " and "),
        };
        write!(f, "{} {is} {}", self.name, names.join(between))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Allow => f.write_str("allowed"),
            Answer::Refuse(errno) => write!(f, "{errno:?}"),
            Answer::Pretend => f.write_str("nothing is done, and success told"),
            Answer::Kill => f.write_str("killed"),
        }
    }
}
