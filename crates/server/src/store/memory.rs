//! The store in memory, for tests: the same promises without a disk, and a view of what has been committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use model::plan::Plan;
use model::{ClientId, FailureReason, Fence, JobId, JobState, SubjobId, Tampering, Timestamp};
use protocol::api::ResultFile;
use resource_scheduler::Lease;

use super::{
    ClientRow, EndedRow, JobRow, Loaded, NewJobRow, Op, OpenJob, Reader, Store, StoreError, TokenRow,
};

/// Clones share one content, as connections to one database do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    content: Arc<Mutex<Content>>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    jobs: BTreeMap<JobId, StoredJob>,
    leases: BTreeMap<Fence, Lease>,
    outcomes: BTreeMap<(JobId, u64), EndedRow>,
    failed: BTreeMap<(JobId, u64, Fence), EndedRow>,
    clients: HashMap<ClientId, ClientRow>,
    tokens: BTreeMap<u64, TokenRow>,
    next_fence: Option<Fence>,
}

#[derive(Clone, Debug)]
struct StoredJob {
    row: NewJobRow,
    cursor: u64,
    state: JobState,
    reason: Option<String>,
    ended: Option<Timestamp>,
    result: Option<Vec<ResultFile>>,
}

impl Memory {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("no test panics while it holds the content")
    }

    /// How many outcomes a job has.
    pub(crate) fn outcomes_of(&self, job: JobId) -> u64 {
        self.content().outcomes.range((job, 0)..=(job, u64::MAX)).count() as u64
    }

    /// The subjob whose outcome was written under a fencing number, and by which client.
    pub(crate) fn outcome_under(&self, fence: Fence) -> Option<(SubjobId, ClientId)> {
        let content = self.content();
        let row = content.outcomes.values().find(|row| row.fence == fence)?;
        Some((SubjobId { job: row.job, index: row.index }, row.client))
    }
}

fn conflict(what: String) -> StoreError {
    StoreError::Corrupt { what: "a second row with the same key", why: what }
}

impl Content {
    fn apply(&mut self, op: &Op) -> Result<(), StoreError> {
        match op {
            Op::AddJob(row) => self.add_job(row)?,
            Op::SetCursor { job, cursor } => self.job(*job)?.cursor = *cursor,
            Op::SetJobState { job, state, reason, ended } => {
                let stored = self.job(*job)?;
                (stored.state, stored.reason, stored.ended) = (*state, reason.clone(), *ended);
            }
            Op::SetResult { job, files } => self.job(*job)?.result = Some(files.clone()),
            Op::AddLease(lease) => drop(self.leases.insert(lease.fence, lease.clone())),
            Op::RemoveLease(fence) => drop(self.leases.remove(fence)),
            Op::AddOutcome(row) => {
                if self.outcomes.insert((row.job, row.index), row.clone()).is_some() {
                    return Err(conflict(format!("outcome of {}.{}", row.job, row.index)));
                }
            }
            Op::AddFailedAttempt(row) => {
                self.failed.insert((row.job, row.index, row.fence), row.clone());
            }
            Op::AddClient { id, public_key, seal_key, inventory, registered } => {
                let known = self.clients.get(id).map(|row| (row.registered, row.revoked));
                let (registered, revoked) = known.unwrap_or((*registered, false));
                let (public_key, seal_key) = (*public_key, *seal_key);
                let inventory = inventory.clone();
                let row = ClientRow {
                    id: *id,
                    public_key,
                    seal_key,
                    inventory,
                    registered,
                    revoked,
                    tampering: None,
                };
                self.clients.insert(*id, row);
            }
            Op::RevokeClient(id) => {
                if let Some(row) = self.clients.get_mut(id) {
                    row.revoked = true;
                }
            }
            Op::SetInventory { id, inventory } => {
                if let Some(row) = self.clients.get_mut(id) {
                    row.inventory = inventory.clone();
                }
            }
            Op::AddToken(row) => {
                let same = |known: &TokenRow| known.id == row.id || known.secret_hash == row.secret_hash;
                if self.tokens.values().any(same) {
                    return Err(conflict(format!("token {}", row.id)));
                }
                self.tokens.insert(row.id, row.clone());
            }
            Op::SetTokenUses { id, uses_left } => {
                if let Some(row) = self.tokens.get_mut(id) {
                    row.uses_left = Some(*uses_left);
                }
            }
            Op::RevokeToken(id) => {
                if let Some(row) = self.tokens.get_mut(id) {
                    row.revoked = true;
                }
            }
            Op::ReserveFences(next) => self.next_fence = Some(*next),
        }
        Ok(())
    }

    fn tampering(&self, client: ClientId) -> Option<Tampering> {
        let is_tampering = |row: &&EndedRow| {
            row.client == client && matches!(row.failure, Some(FailureReason::Tampering { .. }))
        };
        let times: Vec<Timestamp> = self.failed.values().filter(is_tampering).map(|row| row.ended).collect();
        Some(Tampering { times: times.len() as u64, last: times.into_iter().max()? })
    }

    fn add_job(&mut self, row: &NewJobRow) -> Result<(), StoreError> {
        let same = |known: &StoredJob| {
            known.row.id == row.id
                || (&known.row.user, &known.row.idempotency_key) == (&row.user, &row.idempotency_key)
        };
        if self.jobs.values().any(same) {
            return Err(conflict(format!("job {}", row.id)));
        }
        let state = JobState::Running;
        let stored =
            StoredJob { row: row.clone(), cursor: 0, state, reason: None, ended: None, result: None };
        self.jobs.insert(row.id, stored);
        Ok(())
    }

    fn job(&mut self, id: JobId) -> Result<&mut StoredJob, StoreError> {
        let gone = || StoreError::Corrupt { what: "a change of a job", why: format!("there is no job {id}") };
        self.jobs.get_mut(&id).ok_or_else(gone)
    }

    fn job_row(&self, id: JobId, stored: &StoredJob) -> JobRow {
        let outcomes: Vec<&EndedRow> =
            self.outcomes.range((id, 0)..=(id, u64::MAX)).map(|(_, row)| row).collect();
        let succeeded: Vec<&&EndedRow> = outcomes.iter().filter(|row| row.failure.is_none()).collect();
        let open = (!stored.state.is_final()).then(|| OpenJob {
            plan: stored.row.plan.clone(),
            application: stored.row.application.clone(),
            secrets: stored.row.secrets.clone(),
            cursor: stored.cursor,
            unfinished: (0..stored.cursor)
                .filter(|index| !self.outcomes.contains_key(&(id, *index)))
                .collect(),
            failures: self
                .failed
                .range((id, 0, Fence(0))..=(id, u64::MAX, Fence(u64::MAX)))
                .filter(|((_, index, _), _)| !self.outcomes.contains_key(&(id, *index)))
                .filter_map(|((_, index, _), row)| Some((*index, row.client, row.failure.clone()?)))
                .collect(),
        });
        JobRow {
            id,
            user: stored.row.user.clone(),
            name: stored.row.plan.name.clone(),
            idempotency_key: stored.row.idempotency_key.clone(),
            total: stored.row.total,
            state: stored.state,
            reason: stored.reason.clone(),
            submitted: stored.row.submitted,
            ended: stored.ended,
            succeeded: succeeded.len() as u64,
            failed: (outcomes.len() - succeeded.len()) as u64,
            cpu: succeeded.iter().map(|row| row.usage.cpu).sum::<Duration>(),
            open,
        }
    }
}

impl Store for Memory {
    fn commit(&mut self, batch: &[Op]) -> Result<(), StoreError> {
        let mut content = self.content();
        let mut changed = content.clone();
        batch.iter().try_for_each(|op| changed.apply(op))?;
        *content = changed;
        Ok(())
    }

    fn load(&self) -> Result<Loaded, StoreError> {
        let content = self.content();
        let mut clients: Vec<ClientRow> = content.clients.values().cloned().collect();
        clients.sort_by_key(|row| row.id);
        for client in &mut clients {
            client.tampering = content.tampering(client.id);
        }
        Ok(Loaded {
            jobs: content.jobs.iter().map(|(id, stored)| content.job_row(*id, stored)).collect(),
            leases: content.leases.values().cloned().collect(),
            clients,
            tokens: content.tokens.values().cloned().collect(),
            next_fence: content.next_fence.or(Some(Fence(1))),
        })
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        Ok(Box::new(self.clone()))
    }
}

impl Reader for Memory {
    fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError> {
        Ok(self.content().jobs.get(&job).map(|stored| stored.row.plan.clone()))
    }

    fn result(&self, job: JobId) -> Result<Option<Vec<ResultFile>>, StoreError> {
        Ok(self.content().jobs.get(&job).and_then(|stored| stored.result.clone()))
    }

    fn outcomes(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<EndedRow>, StoreError> {
        let content = self.content();
        let rows = content.outcomes.range((job, from)..=(job, u64::MAX));
        Ok(rows.take(limit as usize).map(|(_, row)| row.clone()).collect())
    }

    fn failed_attempts(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<EndedRow>, StoreError> {
        let content = self.content();
        let rows = content.failed.range((job, from, Fence(0))..=(job, u64::MAX, Fence(u64::MAX)));
        Ok(rows.take(limit as usize).map(|(_, row)| row.clone()).collect())
    }

    fn last_attempt(&self, job: JobId, index: u64) -> Result<Option<EndedRow>, StoreError> {
        let content = self.content();
        if let Some(row) = content.outcomes.get(&(job, index)) {
            return Ok(Some(row.clone()));
        }
        let mut rows = content.failed.range((job, index, Fence(0))..=(job, index, Fence(u64::MAX)));
        Ok(rows.next_back().map(|(_, row)| row.clone()))
    }
}
