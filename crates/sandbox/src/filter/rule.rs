//! What a rule of the system-call filter is, and what it means.

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
    #[cfg_attr(not(test), expect(dead_code, reason = "for people"))]
    pub(super) fn name(self) -> &'static str {
        self.constant.strip_prefix("SYS_").unwrap_or(self.constant)
    }
}

/// System calls by libc's names for their numbers.
macro_rules! calls {
    ($($constant:ident),+ $(,)?) => {
        &[$($crate::filter::rule::Call::new(libc::$constant, stringify!($constant))),+]
    };
}
pub(super) use calls;

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Allow,
    /// The program gets this errno.
    Refuse(u16),
    /// The broker of the network is asked.
    Broker,
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
    #[cfg_attr(not(test), expect(dead_code, reason = "for people"))]
    pub reason: &'static str,
}

/// In which sandboxes a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Every,
    /// Those whose connections are brokered.
    BrokeredNetwork,
}

/// A condition on the lower 32 bits of one argument, counted from 0. That is all that the kernel looks at in the
/// calls concerned; the upper half is ignored here as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Test {
    pub argument: u8,
    pub is: Is,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Is {
    /// Values in ascending order.
    OneOf(&'static [u32]),
    /// Values in ascending order.
    NoneOf(&'static [u32]),
    AnyBit(u32),
}

/// The argument is one of the values.
pub(super) const fn one_of(argument: u8, values: &'static [u32]) -> Test {
    Test { argument, is: Is::OneOf(values) }
}

/// The argument is none of the values.
pub(super) const fn none_of(argument: u8, values: &'static [u32]) -> Test {
    Test { argument, is: Is::NoneOf(values) }
}

/// The argument has at least one of the bits.
pub(super) const fn any_bit(argument: u8, bits: u32) -> Test {
    Test { argument, is: Is::AnyBit(bits) }
}
