//! Whether anything in the subjob works, so that a dialog on its display is not what all wait for.
//!
//! A process that waits for a click sleeps. One that the desktop leaves no processor does not: it is ready to run,
//! and shows as such. So sleep of all processes says more than the processor time that they did not get.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Pid;

use crate::stat;

/// Processor time between two looks that is no work, in clock ticks of 10 ms: a text cursor blinks, a virtual
/// machine keeps house.
const IDLE_TICKS: u64 = 2;

/// What the processes of the subjob had done at the last look.
#[derive(Debug)]
pub(super) struct Activity {
    /// The attendant, the server and pid 1, which work because we look.
    ours: [Pid; 3],
    before: Snapshot,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Snapshot {
    processes: BTreeSet<u32>,
    ticks: u64,
    /// Some thread runs, wants to, or waits for the disk.
    working: bool,
}

impl Activity {
    pub(super) fn new(server: Pid) -> Self {
        Activity { ours: [Pid::INIT, rustix::process::getpid(), server], before: Snapshot::default() }
    }

    /// Whether nothing worked between the last look and now.
    pub(super) fn is_still(&mut self) -> bool {
        let now = self.snapshot();
        let is_still = !now.working
            && now.processes == self.before.processes
            && now.ticks.saturating_sub(self.before.ticks) <= IDLE_TICKS;
        self.before = now;
        is_still
    }

    fn snapshot(&self) -> Snapshot {
        let is_ours = |id: u32| self.ours.iter().any(|pid| pid.as_raw_nonzero().get().unsigned_abs() == id);
        let mut all = Snapshot::default();
        for id in numbers("/proc").filter(|id| !is_ours(*id)) {
            let Some(ticks) = stat::read(format!("/proc/{id}/stat")).and_then(|stat| ticks(&stat)) else {
                continue;
            };
            all.processes.insert(id);
            all.ticks += ticks;
            let tasks = format!("/proc/{id}/task");
            all.working |= numbers(&tasks)
                .filter_map(|task| stat::read(format!("{tasks}/{task}/stat")))
                .any(|stat| !is_asleep(&stat));
        }
        all
    }
}

fn numbers(directory: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processor time of a process with that of the children it has waited for.
fn ticks(stat: &str) -> Option<u64> {
    let times: Vec<u64> = stat.split(' ').skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    (times.len() == 4).then(|| times.iter().sum())
}

/// Sleeping so that it can be woken, stopped, or dead.
fn is_asleep(stat: &str) -> bool {
    stat.starts_with(['S', 'T', 't', 'Z', 'X'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_does_is_read_from_its_stat() {
        let line = "S 1 9 9 0 -1 4194304 100 200 0 0 11 22 33 44 39 19 1 0 500 ";
        assert_eq!(ticks(line), Some(110));
        assert!(is_asleep(line));
        for (state, asleep) in [("R 1", false), ("D 1", false), ("T 1", true), ("Z 1", true)] {
            assert_eq!(is_asleep(state), asleep, "{state}");
        }
        assert_eq!(ticks("S 1 9"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn a_process_that_computes_is_seen() {
        // The test itself is one, as seen by an attendant that were another process.
        let mut activity = Activity { ours: [Pid::INIT; 3], before: Snapshot::default() };
        assert!(!activity.is_still(), "there is a process that was not there before");
        assert!(!activity.is_still(), "this thread runs");
    }
}
