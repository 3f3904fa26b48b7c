//! Counts the processes of a subjob, and what they use, from /proc: what no control group counts.
//!
//! Everything a subjob starts stays below its VM Portal, because pid 1 of a namespace inherits the orphans.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use crate::stat;

use super::throttle::Moved;

/// Most processes that one look counts; the process limit keeps honest trees far below.
const MAX_PROCESSES: usize = 10_000;

/// Length of the clock tick in which proc(5) gives times; the kernel shows it as 10 ms on every machine.
const TICK: Duration = Duration::from_millis(10);

/// The processes below a VM Portal.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) pids: Vec<u32>,
    /// Threads of all of them.
    pub(super) tasks: u32,
}

/// Looks at what runs below the children of `init`: the VM Portal, and the helpers of the network, which have none.
pub(super) fn below_portal(init: u32) -> Tree {
    let mut tree = Tree::default();
    let mut open: Vec<u32> = children(init).iter().flat_map(|portal| children(*portal)).collect();
    while let Some(pid) = open.pop() {
        if tree.pids.len() >= MAX_PROCESSES {
            break;
        }
        let threads = threads(pid);
        tree.tasks = tree.tasks.saturating_add(u32::try_from(threads.len()).unwrap_or(u32::MAX));
        open.extend(threads.into_iter().flat_map(|thread| children_of_thread(pid, thread)));
        tree.pids.push(pid);
    }
    tree
}

impl Tree {
    /// Bytes of memory. Exact, with shared pages shared out, only when the cheap count is above `enough`.
    pub(super) fn memory(&self, enough: u64) -> u64 {
        let page = rustix::param::page_size() as u64;
        let resident = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
            text.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * page)
        };
        let upper: u64 = self.pids.iter().filter_map(resident).sum();
        if upper <= enough {
            return upper;
        }
        self.pids.iter().map(|pid| proportional(*pid).or_else(|| resident(pid)).unwrap_or(0)).sum()
    }
}

/// The proportional set size of a process.
fn proportional(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

/// Processor time of all that ever ran, put together from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Own time of each process at the last look, by its id and when it was started.
    alive: HashMap<(u32, u64), Duration>,
    /// Own time, when last seen, of those that have gone.
    gone: Duration,
}

impl Times {
    /// All time until now. A process's parent takes its time over when it waits for it; one that doesn't is caught
    /// by having been seen, so only what ran between two looks can be missed.
    pub(super) fn look(&mut self, init: u32, pids: &[u32]) -> Duration {
        let stats: Vec<Stat> = pids.iter().filter_map(|pid| Stat::read(*pid)).collect();
        let alive: HashMap<_, _> = stats.iter().map(|stat| ((stat.pid, stat.started), stat.own)).collect();
        let ended = self.alive.iter().filter(|(id, _)| !alive.contains_key(id));
        self.gone += ended.map(|(_, own)| *own).sum::<Duration>();
        self.alive = alive;
        let seen = self.gone + self.alive.values().sum::<Duration>();
        let portals = children(init);
        let waited = portals.iter().filter_map(|portal| Some(Stat::read(*portal)?.children));
        let counted = waited.chain(stats.iter().map(|stat| stat.own + stat.children)).sum();
        seen.max(counted)
    }
}

/// Times of a process, as `/proc/PID/stat` has them.
struct Stat {
    pid: u32,
    started: u64,
    own: Duration,
    /// Of those that it has waited for.
    children: Duration,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &stat::read(format!("/proc/{pid}/stat"))?)
    }

    /// From field 3 of proc(5) on.
    fn parse(pid: u32, text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.trim().parse::<u64>().ok();
        let ticks = |a: u64, b: u64| TICK * u32::try_from(a.saturating_add(b)).unwrap_or(u32::MAX);
        Some(Stat {
            pid,
            started: number(22)?,
            own: ticks(number(14)?, number(15)?),
            children: ticks(number(16)?, number(17)?),
        })
    }
}

/// What processes, and those that they have waited for, have moved: by system calls, or where that is more, from
/// and to storage, as mapped files are. Pipes and sockets count too, as the kernel doesn't tell them from files.
pub(super) fn moved(pids: &[u32]) -> Moved {
    // What can't be read has ended.
    let counts = pids.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/io")).ok());
    counts.map(|text| parse_io(&text)).fold(Moved::default(), |sum, one| Moved {
        read: sum.read.saturating_add(one.read),
        written: sum.written.saturating_add(one.written),
    })
}

fn parse_io(text: &str) -> Moved {
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    Moved {
        read: number("rchar").max(number("read_bytes")),
        written: number("wchar").max(number("write_bytes")),
    }
}

/// The VM Portal below an init, which has taken over what orphans have moved.
pub(super) fn portal(init: u32) -> Option<u32> {
    children(init).first().copied()
}

fn children(pid: u32) -> Vec<u32> {
    threads(pid).into_iter().flat_map(|thread| children_of_thread(pid, thread)).collect()
}

fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn children_of_thread(pid: u32, thread: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_in_their_fields() {
        let text = "S 1 77 77 0 -1 4194304 9 8 7 6 150 25 10 5 20 0 1 0 4242 9 9\n";
        let stat = Stat::parse(77, text).unwrap();
        assert_eq!((stat.started, stat.own), (4_242, Duration::from_millis(1_750)));
        assert_eq!(stat.children, Duration::from_millis(150));
        assert!(Stat::parse(77, "S 1").is_none());
    }

    #[test]
    fn the_larger_count_is_taken_of_each_way() {
        let text = "rchar: 10\nwchar: 20\nsyscr: 1\nsyscw: 2\nread_bytes: 4096\nwrite_bytes: 0\n\
                    cancelled_write_bytes: 0\n";
        assert_eq!(parse_io(text), Moved { read: 4_096, written: 20 });
        assert_eq!(parse_io(""), Moved::default());
    }

    #[test]
    fn our_own_time_is_seen() {
        let begun = std::time::Instant::now();
        let mut times = Times::default();
        let mut count = 0u64;
        // Until the clock of proc(5) has ticked for us, which it does when we use the processor.
        while times.look(std::process::id(), &[std::process::id()]).is_zero() {
            count = count.wrapping_mul(31).wrapping_add(7);
            assert!(begun.elapsed() < Duration::from_secs(60), "no time passes: {count}");
        }
    }
}
