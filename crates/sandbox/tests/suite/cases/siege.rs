//! Sieges: acts that go on until something stops them, each in a sandbox of its own with tight limits.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use model::ByteSize;
use sandbox::{Bounds, Ended, LimitHit, Spec};

use super::Host;
use crate::harness::{Outcome, has, skip};

/// A program that wants all there is of something.
#[derive(Debug)]
pub(super) struct Siege {
    pub number: u8,
    /// Completes "the program tries to …".
    pub to: &'static str,
    pub barrier: &'static str,
    pub act: &'static str,
    pub stop: Stop,
    /// What a harmless program does that is most like it, within the same limits.
    pub twin: &'static str,
    /// What the kernel must enforce here for it, as `sandbox::probe` calls it; elsewhere it is skipped.
    pub needs: Option<&'static str>,
}

impl Siege {
    pub(super) const fn needs(self, what: &'static str) -> Self {
        Siege { needs: Some(what), ..self }
    }
}

/// How a siege ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// By one of these limits.
    Limit(&'static [Met]),
    /// The kernel refuses more, by one of these errors, or one of these limits is met.
    Refused(&'static [i32], &'static [Met]),
    /// By this signal from the kernel.
    Signal(i32),
    /// By itself, and well; there is nothing left of it.
    Gone,
}

/// Limits that can end a subjob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    Wall,
    Memory,
    Processes,
    Disk,
    Stream,
}

impl Met {
    fn of(hit: LimitHit) -> Option<Met> {
        match hit {
            LimitHit::Wall { .. } => Some(Met::Wall),
            LimitHit::Memory { .. } => Some(Met::Memory),
            LimitHit::Processes { .. } => Some(Met::Processes),
            LimitHit::Disk { .. } => Some(Met::Disk),
            LimitHit::Stream { .. } => Some(Met::Stream),
            LimitHit::Cpu { .. } | LimitHit::Tampered | LimitHit::FilesLost | LimitHit::Terminated { .. } => {
                None
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Met::Wall => "wall time",
            Met::Memory => "memory",
            Met::Processes => "processes",
            Met::Disk => "disk",
            Met::Stream => "output",
        }
    }
}

impl Stop {
    pub(super) fn words(self) -> String {
        let limits = |met: &[Met]| met.iter().map(|met| met.words()).collect::<Vec<_>>().join(" or ");
        match self {
            Stop::Limit(met) => format!("ended: {} limit", limits(met)),
            Stop::Refused(_, []) => "refused at the limit".to_owned(),
            Stop::Refused(_, met) => format!("refused at the limit, or ended: {} limit", limits(met)),
            Stop::Signal(_) => "the program dies alone".to_owned(),
            Stop::Gone => "gone".to_owned(),
        }
    }

    fn is_met_by(self, outcome: &Outcome) -> bool {
        let hit = outcome.exit.hit;
        let is_hit = |met: &[Met]| hit.and_then(Met::of).is_some_and(|hit| met.contains(&hit));
        match self {
            Stop::Limit(met) => is_hit(met),
            Stop::Refused(errors, met) => {
                is_hit(met) || matches!(outcome.exit.ended, Ended::Code(code) if errors.contains(&code))
            }
            Stop::Signal(signal) => outcome.exit.ended == Ended::Signal(signal),
            Stop::Gone => hit.is_none() && outcome.exit.ended == Ended::Code(0),
        }
    }
}

pub(super) const fn siege(
    number: u8,
    to: &'static str,
    barrier: &'static str,
    act: &'static str,
    stop: Stop,
    twin: &'static str,
) -> Siege {
    Siege { number, to, barrier, act, stop, twin, needs: None }
}

/// Sieges at one time: most of them wait.
const AT_ONCE: usize = 4;

/// Little enough of everything that a siege is short.
const BOUNDS: Bounds = Bounds {
    wall: Duration::from_millis(600),
    memory: ByteSize::mib(48),
    processes: 24,
    disk: ByteSize::mib(4),
    cpus: 1,
    stream: ByteSize::mib(1),
    cpu: None,
    io_rate: None,
};

/// For what must end by itself: a loaded machine may take its time.
const LONG: Duration = Duration::from_secs(120);

/// Runs all sieges, some at a time, and then their twins together.
#[track_caller]
pub(super) fn check(sieges: &[Siege]) {
    let Some(mut host) = Host::new() else { return };
    let tag = host.tag();
    let mut bounded = |args: &[&str], wall: Duration| {
        let mut spec = host.spec(args);
        spec.limits = Bounds { wall, ..BOUNDS };
        spec
    };
    let can_stand = |siege: &&Siege| {
        let missing = siege.needs.filter(|what| !has(what));
        missing.inspect(|what| skip(&format!("{}: no {what} by the kernel here", siege.act))).is_none()
    };
    let waiting: VecDeque<(&Siege, Spec)> = sieges
        .iter()
        .filter(can_stand)
        .map(|siege| {
            let ends_by_limit = matches!(siege.stop, Stop::Limit(met) if met.contains(&Met::Wall));
            (siege, bounded(&[siege.act, &tag], if ends_by_limit { BOUNDS.wall } else { LONG }))
        })
        .collect();
    let mut twins: Vec<&str> = sieges.iter().map(|siege| siege.twin).collect();
    twins.sort_unstable();
    twins.dedup();
    let twins: Vec<&str> = std::iter::once("each").chain(twins).collect();
    let harmless = bounded(&twins, LONG);

    let (waiting, wrong) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap().pop_front();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((siege, spec)) = next() {
                    let outcome = host.run(&spec);
                    if !siege.stop.is_met_by(&outcome) {
                        let exit = &outcome.exit;
                        let problem = format!("{}: {exit:?} instead of {:?}", siege.act, siege.stop);
                        wrong.lock().unwrap().push(problem);
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    let outcome = host.run(&harmless);
    let fails = |line: &&str| !line.ends_with(" 0");
    wrong.extend(outcome.stdout.lines().filter(fails).map(|line| format!("the twin {line}")));
    assert_eq!(outcome.stdout.lines().count(), twins.len() - 1, "{outcome:?}");
    wrong.extend(host.harm());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
