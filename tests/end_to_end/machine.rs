//! What this machine has at a moment: processes, control groups, what /proc lists, files in shared places.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A process, told apart from a later one with the same id by when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub id: u32,
    parent: u32,
    /// Clock ticks since boot.
    started: u64,
}

/// All processes but this one.
pub fn processes() -> Vec<Process> {
    let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| *id != std::process::id()).filter_map(process).collect()
}

/// Reads stat of proc(5); none if the process has gone.
fn process(id: u32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{id}/stat")).ok()?;
    // The name before may hold any bytes, also blanks and parentheses.
    let stat = String::from_utf8_lossy(&stat);
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(Process { id, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
}

/// Processes that were started by another, or by one that it started.
pub fn descendants(of: u32) -> Vec<Process> {
    let all = processes();
    let mut found: Vec<Process> = Vec::new();
    loop {
        let is_new = |process: &&Process| {
            let is_below = process.parent == of || found.iter().any(|known| known.id == process.parent);
            is_below && !found.contains(process)
        };
        let more: Vec<Process> = all.iter().filter(is_new).copied().collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Processes with a text in their command line or environment.
pub fn marked(text: &str) -> Vec<Process> {
    let has = |process: &Process, file: &str| {
        let path = format!("/proc/{}/{file}", process.id);
        fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    processes().into_iter().filter(|process| has(process, "cmdline") || has(process, "environ")).collect()
}

/// Control groups of clients, in all hierarchies.
pub fn control_groups() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    search(Path::new("/sys/fs/cgroup"), &mut found);
    found
}

fn search(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().starts_with("dcgrid-") {
                found.insert(entry.path());
            }
            search(&entry.path(), found);
        }
    }
}

/// Lines of some files of /proc.
pub fn lines(paths: &[&str]) -> BTreeSet<String> {
    let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap_or_default());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What lies in some directories, without what lies deeper.
pub fn entries(directories: &[&str]) -> BTreeSet<PathBuf> {
    let read = directories.iter().filter_map(|directory| fs::read_dir(directory).ok());
    read.flatten().flatten().map(|entry| entry.path()).collect()
}

/// This process, which no other function here tells of.
pub fn own() -> Option<Process> {
    process(std::process::id())
}

/// The namespaces that some processes are in, as /proc names them.
pub fn namespaces<'a>(of: impl IntoIterator<Item = &'a Process>) -> BTreeSet<String> {
    let links = of.into_iter().flat_map(|process| {
        let entries = fs::read_dir(format!("/proc/{}/ns", process.id)).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read_link(entry.path()).ok())
    });
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// Ports of this machine on which somebody listens for TCP connections.
pub fn listening() -> BTreeSet<u16> {
    let local_port = |line: String| {
        let mut fields = line.split_whitespace().skip(1).map(str::to_owned);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (state == "0A").then_some(port)
    };
    lines(&["/proc/net/tcp", "/proc/net/tcp6"]).into_iter().filter_map(local_port).collect()
}
