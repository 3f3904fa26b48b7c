//! Programs that want more than they may have, each beside one that stays within.

use std::time::Duration;

use model::ByteSize;
use sandbox::{Bounds, Ended, LimitHit};

use crate::harness::{Bench, Outcome};

/// Runs an act within changed bounds.
fn bounded(args: &[&str], change: impl FnOnce(&mut Bounds)) -> Option<Outcome> {
    let mut bench = Bench::new()?;
    let mut spec = bench.spec(args);
    change(&mut spec.limits);
    Some(bench.run(&spec))
}

#[test]
fn wall_time() {
    let limit = Duration::from_millis(500);
    for act in ["busy", "forever"] {
        let Some(outcome) = bounded(&[act], |limits| limits.wall = limit) else { return };
        assert_eq!(outcome.exit.hit, Some(LimitHit::Wall { limit }), "{act}");
        assert_eq!(outcome.exit.ended, Ended::Signal(9), "{act}");
        let over = outcome.exit.usage.wall.saturating_sub(limit);
        assert!(over < Duration::from_secs(1), "{act} was ended {over:?} late");
    }
    bounded(&["spin", "50"], |_| ()).map(Outcome::ok);
}

#[test]
fn memory() {
    let limit = ByteSize::mib(64);
    let Some(outcome) = bounded(&["eat", "512"], |limits| limits.memory = limit) else { return };
    match outcome.exit.hit {
        Some(LimitHit::Memory { limit: found, peak }) => {
            assert_eq!(found, limit);
            assert!(peak.0 > 32 << 20, "{peak}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(outcome.stdout, "");
    bounded(&["eat", "32"], |limits| limits.memory = limit).map(Outcome::ok);
}

#[test]
fn memory_of_the_scratch_directory() {
    let Some(mut bench) = Bench::new() else { return };
    let mut spec = bench.spec(&["fill", "/tmp/a", "200"]);
    spec.limits.memory = ByteSize::mib(32);
    spec.scratch = ByteSize::gib(1);
    // Where the client has to watch, a program this quick may be done before it is looked at.
    let outcome = bench.run(&spec);
    let hit = matches!(outcome.exit.hit, Some(LimitHit::Memory { .. }));
    assert!(hit || outcome.exit.usage.peak_memory.0 < 32 << 20, "{outcome:?}");
    let spec = bench.spec(&["fill", "/tmp/a", "200"]);
    let full = bench.run(&spec);
    assert_eq!((full.exit.ended, full.stdout.as_str()), (Ended::Code(1), "fill 28\n"));
}

#[test]
fn processes_and_threads() {
    for act in ["processes", "threads"] {
        let Some(outcome) = bounded(&[act, "200"], |limits| limits.processes = 16) else { return };
        assert_eq!(outcome.stdout, "15\n", "{act}");
        assert_eq!(outcome.exit.ended, Ended::Code(1), "{act}");
        bounded(&[act, "15"], |limits| limits.processes = 16).map(Outcome::ok);
    }
}

#[test]
fn the_process_limit_is_told_when_the_program_failed_by_it() {
    let Some(mut bench) = Bench::new() else { return };
    let mut spec = bench.spec(&["processes", "200"]);
    spec.limits.processes = 16;
    let hit = bench.run(&spec).exit.hit;
    // Without a control group the limit holds, but a quick program is not caught at it.
    assert!(
        hit == Some(LimitHit::Processes { limit: 16, peak: 16 }) || !crate::harness::has("process limit"),
        "{hit:?}"
    );
}

#[test]
fn disk() {
    let limit = ByteSize::mib(8);
    let Some(mut bench) = Bench::new() else { return };
    // One file is stopped by the kernel at the limit.
    let mut spec = bench.spec(&["fill", "a", "64"]);
    spec.limits.disk = limit;
    let outcome = bench.run(&spec);
    assert_eq!(outcome.exit.ended, Ended::Signal(25));
    // Many small ones are seen by watching.
    let mut spec = bench.spec(&["empty_files", "40000"]);
    spec.limits.disk = limit;
    match bench.run(&spec).exit.hit {
        Some(LimitHit::Disk { limit: found, used }) => assert!(found == limit && used > limit, "{used}"),
        other => panic!("{other:?}"),
    }
    let mut spec = bench.spec(&["fill", "a", "4"]);
    spec.limits.disk = limit;
    bench.run(&spec).ok();
}

#[test]
fn streams() {
    let limit = ByteSize::mib(1);
    let Some(outcome) = bounded(&["flood", "16"], |limits| limits.stream = limit) else { return };
    match outcome.exit.hit {
        Some(LimitHit::Stream { limit: found, size }) => assert!(found == limit && size > limit, "{size}"),
        other => panic!("{other:?}"),
    }
    let Some(outcome) = bounded(&["flood", "1"], |limits| limits.stream = limit) else { return };
    outcome.ok();
}
