//! The system-call filter: which calls a subjob may make, compiled to one program for the kernel and installed.
//!
//! `table` holds the rules, `rule` says what one is, `program` compiles them.

mod broker;
mod file_server;
mod linux;
mod program;
mod rule;
mod table;
#[cfg(test)]
mod tests;

use std::io;

use self::program::{Arm, Decisions};
use self::rule::{Call, Rule, Within};
use self::table::{ABSENT, GROUPS};

pub(crate) use self::program::Program;
use crate::spec::Code;
use crate::sys;

/// What of the filter depends on the subjob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    pub code: Code,
}

/// Compiles the rules for one profile.
pub(crate) fn compile(profile: Profile) -> Program {
    program::compile(&decisions(GROUPS.iter().flat_map(|group| group.rules), profile))
}

/// Compiles the rules for the broker of the network.
pub(crate) fn compile_broker() -> Program {
    let mut decisions = Decisions { arms: Default::default(), otherwise: broker::OTHERWISE };
    add_rules(&mut decisions, broker::RULES.iter());
    program::compile(&decisions)
}

/// Compiles the rules for the server of a subjob's files.
pub(crate) fn compile_file_server() -> Program {
    let mut decisions = Decisions { arms: Default::default(), otherwise: file_server::OTHERWISE };
    add_rules(&mut decisions, file_server::RULES.iter());
    program::compile(&decisions)
}

/// Installs the filter for this thread and all it will become. Can't be undone.
///
/// # Errors
/// What the kernel says.
pub(crate) fn install(program: &Program) -> io::Result<()> {
    sys::install_filter(program.instructions())
}

/// One rule of the system-call filter, for people. Of the rules that name a call the first that holds decides;
/// calls that no rule names answer ENOSYS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterRule {
    /// What the rule is about, such as `memory`. All rules of a call have the same.
    pub group: &'static str,
    /// Names of system calls, as in the manual.
    pub calls: Vec<&'static str>,
    /// When it holds; empty if always.
    pub when: String,
    /// What comes of the call: `allowed`, the name of an error, or another few words.
    pub answer: String,
    pub reason: &'static str,
}

/// The rules of the system-call filter in the order in which they are tried, and after them the calls that are
/// left out on purpose.
pub fn filter_rules() -> impl Iterator<Item = FilterRule> {
    let names = |calls: &[Call]| calls.iter().map(|call| call.name()).collect();
    let rules = GROUPS.iter().flat_map(|group| group.rules.iter().map(|rule| (group.name, rule)));
    let rules = rules.map(move |(group, rule)| {
        let tests = rule.when.iter().map(ToString::to_string);
        let conditions: Vec<String> = tests.chain(sandboxes(rule.within).map(str::to_owned)).collect();
        FilterRule {
            group,
            calls: names(rule.calls),
            when: conditions.join(", "),
            answer: rule.answer.to_string(),
            reason: rule.reason,
        }
    });
    let absent = ABSENT.iter().map(move |absent| FilterRule {
        group: "left out",
        calls: names(absent.calls),
        when: String::new(),
        answer: table::OTHERWISE.to_string(),
        reason: absent.reason,
    });
    rules.chain(absent)
}

/// In which sandboxes a rule applies, if not in all.
fn sandboxes(within: Within) -> Option<&'static str> {
    match within {
        Within::Every => None,
        Within::FixedCode => Some("unless the application makes code at run time"),
    }
}

fn decisions<'a>(rules: impl Iterator<Item = &'a Rule>, profile: Profile) -> Decisions {
    let mut decisions = Decisions { arms: Default::default(), otherwise: table::OTHERWISE };
    add_rules(&mut decisions, rules.filter(|rule| applies(rule.within, profile)));
    decisions
}

fn add_rules<'a>(decisions: &mut Decisions, rules: impl Iterator<Item = &'a Rule>) {
    for rule in rules {
        for call in rule.calls {
            let arm = Arm { when: rule.when, answer: rule.answer };
            decisions.arms.entry(call.number).or_default().push(arm);
        }
    }
}

fn applies(within: Within, profile: Profile) -> bool {
    match within {
        Within::Every => true,
        Within::FixedCode => profile.code == Code::Fixed,
    }
}
