//! Rows of the store as the API shows them. Pure.

use std::collections::BTreeMap;

use job_manager::decompose::coordinates;
use model::plan::Plan;
use model::{ClientId, FailureReason, OutputFile};
use protocol::api::{AttemptView, FailureGroup, ResultFile, SubjobPage, SubjobState, SubjobView};

use crate::store::EndedRow;

/// Clients' machines by name, for people.
pub(super) type HostNames = BTreeMap<ClientId, String>;

/// The subjobs of which an attempt has ended, from two lists in the order of the index, of which each is complete
/// unless it has `limit` rows: then the page ends where the first of them does.
pub(super) fn subjob_page(
    plan: &Plan,
    outcomes: &[EndedRow],
    failed: &[EndedRow],
    limit: usize,
    hosts: &HostNames,
) -> SubjobPage {
    let cut = |rows: &[EndedRow]| (rows.len() >= limit).then(|| rows.last().map_or(0, |row| row.index));
    let end = [cut(outcomes), cut(failed)].into_iter().flatten().min();
    let mut subjobs: BTreeMap<u64, SubjobView> = BTreeMap::new();
    for row in outcomes.iter().chain(failed).filter(|row| end.is_none_or(|end| row.index <= end)) {
        let view = subjobs.entry(row.index).or_insert_with(|| SubjobView {
            subjob: row.index,
            state: SubjobState::Waiting,
            values: coordinates(plan, row.index).into_iter().collect(),
            attempts: Vec::new(),
        });
        // The outcome of a failed subjob is its last failed attempt: once is enough.
        if view.attempts.iter().all(|attempt| attempt.attempt != row.attempt) {
            view.attempts.push(attempt_view(row, hosts));
            view.attempts.sort_by_key(|attempt| attempt.attempt);
        }
    }
    for row in outcomes {
        if let Some(view) = subjobs.get_mut(&row.index) {
            view.state = if row.failure.is_none() { SubjobState::Succeeded } else { SubjobState::Failed };
        }
    }
    SubjobPage { subjobs: subjobs.into_values().collect(), next: end }
}

fn attempt_view(row: &EndedRow, hosts: &HostNames) -> AttemptView {
    AttemptView {
        attempt: row.attempt,
        client: row.client,
        host_name: hosts.get(&row.client).cloned().unwrap_or_default(),
        ended: row.ended,
        wall_s: row.usage.wall.as_secs_f64(),
        cpu_s: row.usage.cpu.as_secs_f64(),
        peak_memory_bytes: row.usage.peak_memory.0,
        failure: row.failure.as_ref().map(ToString::to_string),
        class: row.failure.as_ref().map(FailureReason::class),
        files: row.outputs.iter().map(result_file).collect(),
    }
}

fn result_file(file: &OutputFile) -> ResultFile {
    ResultFile { path: file.path.clone(), hash: file.hash, size: file.size }
}

/// Failed attempts by what they say, the commonest first.
pub(super) fn group_failures(failed: &[EndedRow], hosts: &HostNames) -> Vec<FailureGroup> {
    let mut groups: BTreeMap<String, FailureGroup> = BTreeMap::new();
    for row in failed {
        let Some(reason) = &row.failure else { continue };
        let group = groups.entry(like(reason)).or_insert_with(|| FailureGroup {
            class: reason.class(),
            reason: reason.to_string(),
            attempts: 0,
            example: row.index,
            host_name: hosts.get(&row.client).cloned().unwrap_or_default(),
        });
        group.attempts += 1;
    }
    let mut groups: Vec<FailureGroup> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.attempts));
    groups
}

/// What reasons that count as one have in common. Crashes of one program differ in their addresses.
fn like(reason: &FailureReason) -> String {
    match reason {
        FailureReason::Signal { signal, crash: Some(crash) } => {
            format!("{} in {}", FailureReason::Signal { signal: *signal, crash: None }, crash.program)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use model::{Fence, JobId, Timestamp, Usage};

    use super::*;
    use crate::fixtures::plan;

    fn row(index: u64, attempt: u32, failure: Option<i32>) -> EndedRow {
        EndedRow {
            job: JobId(1),
            index,
            fence: Fence(index * 10 + u64::from(attempt)),
            attempt,
            client: ClientId([1; 16]),
            ended: Timestamp(0),
            usage: Usage::default(),
            failure: failure.map(|code| FailureReason::ExitCode { code }),
            outputs: Vec::new(),
        }
    }

    #[test]
    fn a_page_shows_each_attempt_once_and_ends_where_a_list_may_go_on() {
        let outcomes = [row(0, 2, None), row(1, 1, Some(7)), row(4, 1, None)];
        let failed = [row(0, 1, Some(1)), row(1, 1, Some(7)), row(3, 1, Some(1))];
        let page = subjob_page(&plan(1), &outcomes, &failed, 3, &HostNames::new());
        let found: Vec<_> =
            page.subjobs.iter().map(|view| (view.subjob, view.state, view.attempts.len())).collect();
        let expect =
            [(0, SubjobState::Succeeded, 2), (1, SubjobState::Failed, 1), (3, SubjobState::Waiting, 1)];
        assert_eq!((found.as_slice(), page.next), (expect.as_slice(), Some(3)));
        let whole = subjob_page(&plan(1), &outcomes, &failed, 4, &HostNames::new());
        assert_eq!((whole.subjobs.len(), whole.next), (4, None));
    }

    #[test]
    fn like_failures_are_one_group() {
        let groups =
            group_failures(&[row(0, 1, Some(1)), row(1, 1, Some(2)), row(2, 1, Some(2))], &HostNames::new());
        let found: Vec<_> = groups.iter().map(|group| (group.attempts, group.example)).collect();
        assert_eq!(found, [(2, 1), (1, 0)]);
    }
}
