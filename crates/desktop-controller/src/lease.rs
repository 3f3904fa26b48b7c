//! Whether a lease makes sense on a desktop. The server is believed about what to run, never about where: no path
//! of a lease may lead out of the attempt's own directory, whoever wrote it.

use std::collections::BTreeSet;

use model::network::MAX_ENDPOINTS;
use model::{ByteSize, FailureReason, Permits};
use protocol::client_link::Lease;
use protocol::spec::{MAX_OUTPUTS, check_path};

/// Most inputs of one subjob: what a spec may name, and its columns of files.
const MAX_INPUTS: usize = 4_096;

/// Checks all of a lease that names a place or takes one, or that needs what the desktop's owner may forbid.
///
/// # Errors
/// The reason to report: no honest server gives out such a lease, so it is no failure of the subjob.
pub(crate) fn check(lease: &Lease, permits: Permits) -> Result<(), FailureReason> {
    let refused = |why: String| FailureReason::ClientSetup { why: format!("a bad lease: {why}") };
    if lease.inputs.len() > MAX_INPUTS || lease.outputs.len() > MAX_OUTPUTS {
        return Err(refused("too many inputs or outputs".to_owned()));
    }
    let inputs = || lease.inputs.iter().map(|input| input.path.as_str());
    let outputs = lease.outputs.iter().map(|output| output.path.as_str());
    for path in inputs().chain(outputs).chain(lease.stdin.as_deref()) {
        check_path(path)
            .map_err(|problem| refused(format!("the path '{}' {problem}", path.escape_debug())))?;
    }
    if lease.network.allow.len() > MAX_ENDPOINTS {
        return Err(refused("too many endpoints".to_owned()));
    }
    let needs = Permits {
        network: lease.network.reach(),
        display: lease.display.is_some(),
        sealing: lease.resources.needs.sealing,
    };
    if !permits.cover(needs) {
        return Err(refused("it needs what this client's owner does not permit".to_owned()));
    }
    if let Some(path) = collision(inputs()) {
        return Err(refused(format!("two inputs at '{path}'")));
    }
    if lease.command.is_empty() {
        return Err(refused("no command".to_owned()));
    }
    let total = lease.inputs.iter().fold(0u64, |sum, input| sum.saturating_add(input.size));
    if total > lease.resources.disk.0 {
        return Err(FailureReason::DiskLimit { limit: lease.resources.disk, used: ByteSize(total) });
    }
    Ok(())
}

/// A path that is there twice, or that would have to be both a file and a directory.
fn collision<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = paths.clone().find(|path| !seen.insert(*path)) {
        return Some(twice);
    }
    let above = |path: &'a str| path.match_indices('/').map(move |(end, _)| &path[..end]);
    paths.flat_map(above).find(|directory| seen.contains(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_do_not_share_a_name() {
        let check = |paths: &[&str], expect: Option<&str>| {
            assert_eq!(collision(paths.iter().copied()), expect, "{paths:?}");
        };
        check(&["a", "b/a", "b/c/a", "ab"], None);
        check(&["a", "b", "a"], Some("a"));
        check(&["a/b/c", "a"], Some("a"));
        check(&["a/b", "a/b/c"], Some("a/b"));
    }
}
