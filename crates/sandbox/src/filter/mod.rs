//! The system-call filter: which calls a subjob may make, compiled to one program for the kernel and installed.
//!
//! `table` holds the rules, `rule` says what one is, `program` compiles them.

mod program;
mod rule;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;

use self::program::{Arm, Decisions};
use self::rule::{Rule, Within};

pub(crate) use self::program::Program;
use crate::sys;

/// What of the filter depends on the subjob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    pub connects: Connects,
}

/// Who makes the connections that a program asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connects {
    /// The kernel, in the subjob's own network namespace.
    Free,
    /// The broker: every `connect` becomes a notification to whoever holds the listener.
    #[allow(dead_code, reason = "for the broker of the network")]
    Brokered,
}

/// Whether [`install`] makes a descriptor that calls for the broker arrive at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    None,
    #[allow(dead_code, reason = "for the broker of the network")]
    Wanted,
}

/// Compiles the rules for one profile.
pub(crate) fn compile(profile: Profile) -> Program {
    program::compile(&decisions(table::RULES, profile))
}

/// Installs the filter for this thread and all it will become. Can't be undone. Returns the listener if one was
/// wanted; it closes by itself when a program is executed.
///
/// Without a listener, a call that the profile has for the broker answers ENOSYS.
///
/// # Errors
/// What the kernel says.
pub(crate) fn install(program: &Program, listener: Listener) -> io::Result<Option<OwnedFd>> {
    match listener {
        Listener::None => sys::install_filter(program.instructions()).map(|()| None),
        Listener::Wanted => sys::install_filter_with_listener(program.instructions()).map(Some),
    }
}

fn decisions(rules: &[Rule], profile: Profile) -> Decisions {
    let mut decisions = Decisions { arms: Default::default(), otherwise: table::OTHERWISE };
    for rule in rules.iter().filter(|rule| applies(rule.within, profile)) {
        for call in rule.calls {
            let arm = Arm { when: rule.when, answer: rule.answer };
            decisions.arms.entry(call.number).or_default().push(arm);
        }
    }
    decisions
}

fn applies(within: Within, profile: Profile) -> bool {
    match within {
        Within::Every => true,
        Within::BrokeredNetwork => profile.connects == Connects::Brokered,
    }
}
