//! Counts the processes of a subjob and their memory from /proc, where no control group does.
//!
//! Everything a subjob starts stays below its VM Portal, because pid 1 of a namespace inherits the orphans.

use std::fs;

/// Most processes that one look counts; the process limit keeps honest trees far below.
const MAX_PROCESSES: usize = 10_000;

/// The processes below a VM Portal.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub pids: Vec<u32>,
    /// Threads of all of them.
    pub tasks: u32,
}

/// Looks at what runs below the only child of `init`, which is the VM Portal.
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
