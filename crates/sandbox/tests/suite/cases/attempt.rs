//! Attempts: acts that are over at once. Many share a sandbox, each in a process of its own.

use std::collections::BTreeMap;

use super::Host;

/// One thing that a hostile program tries, in one or more ways.
#[derive(Debug)]
pub(super) struct Attempt {
    pub number: u8,
    /// Completes "the program tries to …".
    pub to: &'static str,
    /// What stands in the way.
    pub barrier: &'static str,
    pub acts: &'static [&'static str],
    pub expect: Expect,
    /// What a harmless program does that is most like it, and must be able to.
    pub twin: &'static str,
}

/// What must come of every act of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    /// The kernel says no, by one of these errors.
    Refused(&'static [i32]),
    /// What it looks for is not there; one of these errors says so.
    Absent(&'static [i32]),
    /// It goes through or not, and nothing but the program's own sandbox is touched: the host is looked at.
    InVain,
    /// The program harms itself, and ends by this signal.
    Dies(i32),
}

impl Expect {
    pub(super) fn words(self) -> &'static str {
        match self {
            Expect::Refused(_) => "refused",
            Expect::Absent(_) => "not there",
            Expect::InVain => "no effect outside",
            Expect::Dies(libc::SIGSYS) => "the program dies by SIGSYS",
            Expect::Dies(_) => "the program dies alone",
        }
    }
}

/// What came of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// To this error, or 0: it was possible.
    Errno(i32),
    Signal(i32),
}

impl Expect {
    fn is_met_by(self, came: Came) -> bool {
        match (self, came) {
            (Expect::Refused(errors) | Expect::Absent(errors), Came::Errno(errno)) => errors.contains(&errno),
            (Expect::InVain, Came::Errno(_)) => true,
            (Expect::Dies(expected), Came::Signal(signal)) => signal == expected,
            _ => false,
        }
    }
}

pub(super) const fn attempt(
    number: u8,
    to: &'static str,
    barrier: &'static str,
    acts: &'static [&'static str],
    expect: Expect,
    twin: &'static str,
) -> Attempt {
    Attempt { number, to, barrier, acts, expect, twin }
}

/// Runs all acts and twins in one sandbox; names every one that came to something else than it must.
#[track_caller]
pub(super) fn check(attempts: &[Attempt]) {
    let Some(mut host) = Host::new() else { return };
    let mut acts: Vec<&str> = vec!["each"];
    acts.extend(attempts.iter().flat_map(|attempt| attempt.acts));
    // Afterwards: what the hostile acts did must not keep a harmless program from its work.
    acts.extend(attempts.iter().map(|attempt| attempt.twin));
    let spec = host.spec(&acts);
    let outcome = host.run(&spec);
    let came = read(&outcome.stdout);
    let mut wrong = Vec::new();
    for attempt in attempts {
        for act in attempt.acts {
            match came.get(act) {
                Some(came) if attempt.expect.is_met_by(*came) => (),
                other => wrong.push(format!("{act}: {other:?} instead of {:?}", attempt.expect)),
            }
        }
        if came.get(attempt.twin) != Some(&Came::Errno(0)) {
            wrong.push(format!("the twin {}: {:?}", attempt.twin, came.get(attempt.twin)));
        }
    }
    wrong.extend(host.harm());
    assert!(wrong.is_empty(), "{}\n{outcome:?}", wrong.join("\n"));
}

/// Reads lines of `NAME ERRNO` and `NAME signal NUMBER`.
fn read(text: &str) -> BTreeMap<&str, Came> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            let came = match rest.strip_prefix("signal ") {
                Some(signal) => Came::Signal(signal.parse().ok()?),
                None => Came::Errno(rest.parse().ok()?),
            };
            Some((name, came))
        })
        .collect()
}
