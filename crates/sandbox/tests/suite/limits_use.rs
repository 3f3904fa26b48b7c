//! Limits on what a subjob uses over time: processor time, files moved, space that hides, processes without end.

use std::time::Duration;

use model::ByteSize;
use sandbox::{Bounds, Cause, Ended, LimitHit};

use crate::harness::{Bench, Outcome, has};

/// Runs an act within changed bounds.
fn bounded(args: &[&str], change: impl FnOnce(&mut Bounds)) -> Option<Outcome> {
    let mut bench = Bench::new()?;
    let mut spec = bench.spec(args);
    change(&mut spec.limits);
    Some(bench.run(&spec))
}

#[test]
fn processor_time_of_one_process_and_of_many() {
    let limit = Duration::from_millis(600);
    for act in [&["busy"] as &[&str], &["spin_children", "4"]] {
        let Some(outcome) = bounded(act, |limits| limits.cpu = Some(limit)) else { return };
        match outcome.exit.hit {
            Some(LimitHit::Cpu { limit: found, used }) => {
                assert!(found == limit && used > limit, "{used:?}");
                assert!(used < limit + Duration::from_secs(2), "{act:?} used {used:?}");
            }
            other => panic!("{act:?}: {other:?}"),
        }
        assert_eq!(outcome.exit.ended, Ended::Signal(9), "{act:?}");
        assert!(outcome.exit.usage.cpu >= limit, "{:?}", outcome.exit.usage);
    }
    let spent = |limits: &mut Bounds| limits.cpu = Some(Duration::from_secs(60));
    bounded(&["spin", "300"], spent).map(Outcome::ok);
}

#[test]
fn time_that_passes_is_no_processor_time() {
    let bounds = |limits: &mut Bounds| {
        limits.cpu = Some(Duration::from_millis(300));
        limits.wall = Duration::from_millis(1_200);
    };
    let Some(outcome) = bounded(&["forever"], bounds) else { return };
    assert!(matches!(outcome.exit.hit, Some(LimitHit::Wall { .. })), "{:?}", outcome.exit);
}

/// KiB per second that a program made of its files at a rate.
fn streamed(way: &str, rate: Option<ByteSize>) -> Option<f64> {
    let outcome = bounded(&["stream", way, "4"], |limits| limits.io_rate = rate)?;
    Some(outcome.ok().trim().parse().unwrap())
}

#[test]
fn reading_and_writing_go_at_the_set_rate() {
    let rate = ByteSize(40 << 20);
    for way in ["write", "read"] {
        let Some(found) = streamed(way, Some(rate)) else { return };
        let part = found / (rate.0 as f64 / 1_024.0);
        // A machine that is short of processors may hold the program up, but never let it run ahead.
        assert!(part < 1.1, "{way}: {part} of the rate");
        assert!(part > 0.5, "{way}: {part} of the rate");
        let free = streamed(way, None).unwrap();
        assert!(free > 2.0 * found, "{way}: {free} KiB/s without a rate, {found} with");
    }
}

#[test]
fn the_rate_and_the_owner_do_not_undo_each_other() {
    let Some(mut bench) = Bench::new() else { return };
    let mut spec = bench.spec(&["stream", "write", "600"]);
    spec.limits.io_rate = Some(ByteSize(8 << 20));
    let running = bench.start(&spec);
    let file = spec.work.join("stream");
    let written = || std::fs::metadata(&file).and_then(|found| found.modified()).ok();
    crate::harness::eventually(Duration::from_secs(60), "it writes", || written().is_some());
    for _ in 0..5 {
        running.control().pause().unwrap();
        let at = written();
        // As long as several halts and releases of the rate; a program that is paused writes nothing in it.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(written(), at);
        running.control().resume().unwrap();
        crate::harness::eventually(Duration::from_secs(60), "it writes on", || written() != at);
    }
    running.control().terminate(Cause::Cancelled);
    let exit = running.wait();
    assert_eq!(exit.hit, Some(LimitHit::Terminated { cause: Cause::Cancelled }));
}

#[test]
fn files_without_names_take_space_too() {
    let limit = ByteSize::mib(8);
    let Some(outcome) = bounded(&["hide", "4", "6"], |limits| limits.disk = limit) else { return };
    match outcome.exit.hit {
        Some(LimitHit::Disk { limit: found, used }) => assert!(found == limit && used > limit, "{used}"),
        other => panic!("{other:?}"),
    }
    bounded(&["hide", "1", "6"], |limits| limits.disk = limit).map(Outcome::ok);
}

#[test]
fn bombs_end_and_the_peak_is_told() {
    for act in ["forkbomb", "threadbomb"] {
        let bounds = |limits: &mut Bounds| {
            limits.processes = 32;
            limits.wall = Duration::from_secs(if has("process limit") { 600 } else { 2 });
        };
        let Some(outcome) = bounded(&[act], bounds) else { return };
        if !has("process limit") {
            // The limit holds all the same; what can't be seen is that it was asked for more and more.
            assert!(matches!(outcome.exit.hit, Some(LimitHit::Wall { .. })), "{act}: {:?}", outcome.exit);
            continue;
        }
        assert_eq!(outcome.exit.hit, Some(LimitHit::Processes { limit: 32, peak: 32 }), "{act}");
    }
}
