//! Pausing, resuming and terminating from outside.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use model::ByteSize;
use sandbox::{Cause, Ended, LimitHit};

use crate::harness::{Bench, eventually, has};

/// For what a subjob does, when the machine lets it.
const SOON: Duration = Duration::from_secs(60);

fn count(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.lines().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_busy_tree_is_paused_and_goes_on_afterwards() {
    let Some(mut bench) = Bench::new() else { return };
    let spec = bench.spec(&["count_up", "count", "7"]);
    let file = spec.work.join("count");
    let running = bench.start(&spec);
    let control = running.control();
    eventually(SOON, "the program counts", || count(&file) > 0);

    let begun = Instant::now();
    control.pause().unwrap();
    let took = begun.elapsed();
    let most = Duration::from_secs(if has("freezer") { 1 } else { 10 });
    assert!(took < most, "paused after {took:?}");
    let at = fs::read_to_string(&file).unwrap();
    // Long enough for a program that runs to count on; a paused one can't, however long.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(fs::read_to_string(&file).unwrap(), at);

    control.resume().unwrap();
    let paused_at = count(&file);
    eventually(SOON, "the program counts on", || count(&file) > paused_at);
    control.terminate(Cause::Contention);
    let exit = running.wait();
    assert_eq!(exit.ended, Ended::Signal(9));
    assert_eq!(exit.hit, Some(LimitHit::Terminated { cause: Cause::Contention }));
    assert!(control.pause().is_err());
}

#[test]
fn a_paused_subjob_can_be_terminated() {
    let Some(mut bench) = Bench::new() else { return };
    let spec = bench.spec(&["busy"]);
    let running = bench.start(&spec);
    running.control().pause().unwrap();
    let begun = Instant::now();
    running.control().terminate(Cause::Cancelled);
    let exit = running.wait();
    assert_eq!(exit.hit, Some(LimitHit::Terminated { cause: Cause::Cancelled }));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn time_spent_paused_is_not_running_time() {
    let Some(mut bench) = Bench::new() else { return };
    let (limit, pause) = (Duration::from_millis(600), Duration::from_millis(900));
    let mut spec = bench.spec(&["forever"]);
    spec.limits.wall = limit;
    let running = bench.start(&spec);
    running.control().pause().unwrap();
    // Longer than the limit; the point is that it passes.
    std::thread::sleep(pause);
    running.control().resume().unwrap();
    let exit = running.wait();
    assert_eq!(exit.hit, Some(LimitHit::Wall { limit }));
    assert!(exit.usage.wall >= limit + pause, "{:?}", exit.usage);
}

#[test]
fn a_subjob_that_is_dropped_is_gone() {
    let Some(mut bench) = Bench::new() else { return };
    let tag = bench.launcher.tag.clone();
    let spec = bench.spec(&["forever", &tag]);
    let running = bench.start(&spec);
    eventually(SOON, "the program runs", || bench.processes().len() == 3);
    drop(running);
    assert_eq!(bench.processes(), []);
    assert_eq!(bench.control_groups(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn several_run_beside_one_another() {
    let Some(mut bench) = Bench::new() else { return };
    let specs: Vec<_> = (0..8).map(|_| bench.spec(&["fill", "/tmp/a", "2"])).collect();
    let running: Vec<_> = specs.iter().map(|spec| bench.start(spec)).collect();
    for one in running {
        let exit = one.wait();
        assert_eq!((exit.ended, exit.hit), (Ended::Code(0), None));
        assert!(exit.usage.peak_memory < ByteSize::mib(64));
    }
}
