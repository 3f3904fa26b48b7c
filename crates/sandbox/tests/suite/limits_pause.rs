//! Pausing a busy tree: that it stands still. How long it takes is measured by `examples/pause`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sandbox::Cause;

use crate::harness::{Bench, eventually};

/// What each thread of the tree has counted to.
fn counters(file: &Path) -> Vec<u64> {
    let bytes = fs::read(file).unwrap_or_default();
    bytes.chunks_exact(64).map(|line| u64::from_le_bytes(line[..8].try_into().unwrap())).collect()
}

#[test]
fn eight_processes_of_eight_threads_stand_still_and_go_on() {
    let Some(mut bench) = Bench::new() else { return };
    let mut spec = bench.spec(&["busy_tree", "counters", "8", "8"]);
    spec.limits.processes = 128;
    let running = bench.start(&spec);
    let file = spec.work.join("counters");
    // All but the first thread of the first process, which waits. They run when nobody else on the machine does.
    let all_count = || counters(&file).iter().skip(1).filter(|counter| **counter > 0).count() == 63;
    eventually(Duration::from_secs(600), "all threads count", all_count);
    for _ in 0..3 {
        running.control().pause().unwrap();
        let at = counters(&file);
        // Long enough for any that runs to count on; those that are paused can't, however long.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(counters(&file), at);
        running.control().resume().unwrap();
        eventually(Duration::from_secs(600), "they count on", || counters(&file) != at);
    }
    running.control().terminate(Cause::Cancelled);
    running.wait();
}
