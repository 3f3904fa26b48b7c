//! The system-call filter: turns the rules of `table` into BPF programs and installs them.
//!
//! Foreign architectures are killed by every program; numbers of the x32 convention, which share the
//! architecture, are answered with ENOSYS by a program of their own. Which rules there are is in `table`.

mod table;

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use table::{RULES, When};

/// Lowest system-call number of the x32 convention.
const X32: u32 = 0x4000_0000;

/// The filter could not be made or installed.
pub(crate) type FilterError = seccompiler::Error;

/// Compiles the filter. One program per answer, because a program has a single one.
///
/// # Errors
/// None that the table in this crate can cause; its test compiles it.
pub(crate) fn compile() -> Result<Vec<BpfProgram>, FilterError> {
    let mut by_answer: BTreeMap<i32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    for rule in RULES {
        for call in rule.calls {
            let rules = by_answer.entry(rule.answer).or_default().entry(*call).or_default();
            rules.extend(conditions(rule.when)?);
        }
    }
    let mut programs = vec![refuse_x32()];
    for (answer, rules) in by_answer {
        let refuse = SeccompAction::Errno(answer.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)?;
        programs.push(BpfProgram::try_from(filter)?);
    }
    Ok(programs)
}

/// Installs the compiled filter for this thread and all it will become. Can't be undone.
///
/// # Errors
/// What the kernel says.
pub(crate) fn install(programs: &[BpfProgram]) -> Result<(), FilterError> {
    programs.iter().try_for_each(|program| seccompiler::apply_filter(program))
}

/// The alternatives of which one must hold; none at all means always.
fn conditions(when: When) -> Result<Vec<SeccompRule>, FilterError> {
    let one = |argument, length, operation, value| SeccompCondition::new(argument, length, operation, value);
    let rules = match when {
        When::Always => Vec::new(),
        When::AnyBit { argument, bits } => (0..64)
            .map(|bit| 1_u64 << bit)
            .filter(|bit| bits & bit != 0)
            .map(|bit| {
                SeccompRule::new(vec![one(
                    argument,
                    SeccompCmpArgLen::Qword,
                    SeccompCmpOp::MaskedEq(bit),
                    bit,
                )?])
            })
            .collect::<Result<_, _>>()?,
        When::OneOf { argument, values } => values
            .iter()
            .map(|value| {
                SeccompRule::new(vec![one(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value)?])
            })
            .collect::<Result<_, _>>()?,
        When::NoneOf { argument, values } => {
            let all = values
                .iter()
                .map(|value| one(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *value))
                .collect::<Result<_, _>>()?;
            vec![SeccompRule::new(all)?]
        }
    };
    Ok(rules)
}

/// `if number >= 0x40000000 then ENOSYS else allow`, which the library's rules can't express.
fn refuse_x32() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let answer = |action: SeccompAction| sock_filter { code: RETURN, jt: 0, jf: 0, k: action.into() };
    vec![
        sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32 },
        answer(SeccompAction::Errno(libc::ENOSYS.unsigned_abs())),
        answer(SeccompAction::Allow),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_compiles() {
        let programs = compile().unwrap();
        assert_eq!(programs.len(), 4, "x32 and the answers ENOSYS, EPERM, EAFNOSUPPORT");
    }

    #[test]
    fn every_rule_has_a_reason_and_no_call_is_ruled_twice_in_the_same_way() {
        let mut seen = BTreeSet::new();
        for rule in RULES {
            assert!(rule.reason.len() > 10, "{rule:?}");
            for call in rule.calls {
                assert!(seen.insert((*call, format!("{:?}", rule.when))), "call {call} of {rule:?}");
            }
        }
    }
}
