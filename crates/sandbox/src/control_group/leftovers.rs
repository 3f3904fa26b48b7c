//! What an earlier client that was killed may have left: control groups, with or without processes.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Hierarchies, prefix, remove_directory};
use crate::error::SandboxError;

/// Deepest level below a hierarchy's top that is searched; systemd nests user sessions six deep.
const MAX_DEPTH: u32 = 10;

/// Kills what runs in the control groups of an earlier client with this tag and removes them. Nothing else is
/// touched. Call it at a client's start, when no other client with the tag can be alive; the processes outside
/// of groups need no such care: the VM Portal ends them when its client dies.
///
/// Returns how many groups were found.
///
/// # Errors
/// When a group can't be removed; the others are, all the same.
pub fn remove_leftovers(tag: &str) -> Result<usize, SandboxError> {
    crate::start::check_tag(tag)?;
    let mut found = Vec::new();
    for mount in Hierarchies::detect()?.mounts() {
        search(&mount, tag, 0, &mut found);
    }
    let failure = found.iter().filter_map(|group| remove_directory(group).err()).next();
    failure.map_or(Ok(found.len()), Err)
}

fn search(group: &Path, tag: &str, depth: u32, found: &mut Vec<PathBuf>) {
    // A group that can't be listed can't hold one that we made.
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name().to_str().is_some_and(|name| belongs_to(name, tag)) {
            found.push(entry.path());
        } else if depth < MAX_DEPTH {
            search(&entry.path(), tag, depth + 1, found);
        }
    }
}

/// Whether a directory's name is `dcgrid-<tag>-<pid>-<n>`.
fn belongs_to(name: &str, tag: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix(&prefix(tag))
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(pid, n)| number(pid) && number(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_exactly_this_client_are_leftovers() {
        let check = |name, expect| assert_eq!(belongs_to(name, "a1"), expect, "{name}");
        check("dcgrid-a1-7-1", true);
        check("dcgrid-a1-7-", false);
        check("dcgrid-a1-7", false);
        check("dcgrid-a1-b-7-1", false);
        check("dcgrid-a10-7-1", false);
        check("dcgrid-b1-7-1", false);
        check("a1-7-1", false);
    }
}
