//! The grid's state, owned by one thread: the three layers, the tokens, and what must be written.
//!
//! Every function takes the time and a request, changes the state, and adds to `ops` what must be durable before
//! anybody may hear of it. If that can't be written, the whole state is thrown away and loaded again.

mod clients;
mod delivery;
mod jobs;
mod lease_keys;
#[cfg(test)]
mod simulation;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use job_manager::jobs::{Job, JobManager};
use model::plan::Plan;
use model::{ClientId, Fence, JobId, Timestamp, UserName};
use node_manager::NodeManager;
use resource_scheduler::{Config, NewJob, Scheduler};
use tokens::Tokens;

use crate::keys::GridKeys;
use crate::store::{JobRow, Loaded, Op, OpenJob, SignedApplication};

pub use clients::{PollOutcome, VerifiedReport};
pub use delivery::Delivery;
pub use jobs::{LiveJob, MAX_OPEN_JOBS, Submission};
pub use tokens::{Caller, secret_hash};

/// Fencing numbers that one write sets aside: a restart skips at most this many.
const FENCE_BLOCK: u64 = 10_000;

#[derive(Debug)]
pub struct Grid {
    keys: Arc<GridKeys>,
    jobs: JobManager,
    scheduler: Scheduler,
    nodes: NodeManager,
    tokens: Tokens,
    open: HashMap<JobId, Open>,
    submitted: HashMap<(UserName, String), JobId>,
    next_job: JobId,
    fences_reserved: Fence,
    moved_cursors: BTreeSet<JobId>,
    ops: Vec<Op>,
    to_aggregate: Vec<JobId>,
    /// Leases that clients must be told to drop, for those whose poll is parked.
    revoked_leases: BTreeMap<ClientId, Vec<Fence>>,
    new_work: bool,
    /// Bytes that came under each lease.
    uploaded: BTreeMap<Fence, u64>,
}

/// What is needed of a job while it runs.
#[derive(Debug)]
struct Open {
    user: UserName,
    plan: Arc<Plan>,
    application: SignedApplication,
    secrets: Option<Vec<u8>>,
    /// A client or two on which a subjob of it succeeded: shows that another client's failure is its own.
    succeeded_on: Vec<ClientId>,
}

/// What the event loop does for the grid after a commit.
#[derive(Debug, Default)]
pub struct Effects {
    pub ops: Vec<Op>,
    pub to_aggregate: Vec<JobId>,
    pub revoked_leases: BTreeMap<ClientId, Vec<Fence>>,
}

impl Grid {
    /// The state as it was committed. Clients with live leases get time to be heard of.
    pub fn load(loaded: Loaded, keys: Arc<GridKeys>, lease_ttl: Duration, now: Timestamp) -> Self {
        let next_fence = loaded.next_fence.unwrap_or(Fence(1));
        let mut grid = Grid {
            keys,
            jobs: JobManager::default(),
            scheduler: Scheduler::new(Config { lease_ttl }, next_fence),
            nodes: NodeManager::default(),
            tokens: Tokens::new(loaded.tokens),
            open: HashMap::new(),
            submitted: HashMap::new(),
            next_job: JobId(loaded.jobs.last().map_or(1, |job| job.id.0 + 1)),
            fences_reserved: next_fence,
            moved_cursors: BTreeSet::new(),
            ops: Vec::new(),
            to_aggregate: Vec::new(),
            revoked_leases: BTreeMap::new(),
            new_work: true,
            uploaded: BTreeMap::new(),
        };
        for client in loaded.clients {
            let known = grid.nodes.register(
                client.id,
                client.public_key,
                client.seal_key,
                client.inventory,
                client.registered,
            );
            known.expect("nobody is revoked in a registry that is being filled");
            grid.nodes.restore_tampering(client.id, client.tampering);
            if client.revoked {
                grid.nodes.revoke(client.id);
            }
        }
        for job in loaded.jobs {
            grid.restore_job(job);
        }
        for lease in loaded.leases {
            grid.nodes.restore_sequence(lease.client, lease.seq);
            grid.scheduler.restore_lease(lease, now);
        }
        grid
    }

    fn restore_job(&mut self, row: JobRow) {
        let job = Job {
            state: row.state,
            reason: row.reason,
            ended: row.ended,
            succeeded: row.succeeded,
            failed: row.failed,
            cpu: row.cpu,
            ..Job::new(row.name, row.user.clone(), row.total, row.submitted)
        };
        let state = job.state;
        self.jobs.add(row.id, job);
        self.submitted.insert((row.user.clone(), row.idempotency_key), row.id);
        let Some(OpenJob { plan, application, secrets, cursor, unfinished, failures }) = row.open else {
            return;
        };
        if state == model::JobState::Aggregating {
            self.to_aggregate.push(row.id);
        } else {
            self.scheduler.add_job(NewJob {
                id: row.id,
                user: row.user.clone(),
                class: plan.resources,
                total: row.total,
                attempts: plan.attempts,
                cursor,
                unfinished,
                failures,
            });
        }
        let open =
            Open { user: row.user, plan: Arc::new(plan), application, secrets, succeeded_on: Vec::new() };
        self.open.insert(row.id, open);
    }

    /// Takes what has gathered since the last time: to be written, then acted upon.
    pub fn take_effects(&mut self) -> Effects {
        for job in std::mem::take(&mut self.moved_cursors) {
            if let Some(cursor) = self.scheduler.cursor(job) {
                self.ops.push(Op::SetCursor { job, cursor });
            }
        }
        // The numbers are set aside before the first of them is given out: in the same commit.
        if self.scheduler.next_fence() > self.fences_reserved {
            self.fences_reserved = Fence(self.scheduler.next_fence().0 + FENCE_BLOCK);
            self.ops.push(Op::ReserveFences(self.fences_reserved));
        }
        Effects {
            ops: std::mem::take(&mut self.ops),
            to_aggregate: std::mem::take(&mut self.to_aggregate),
            revoked_leases: std::mem::take(&mut self.revoked_leases),
        }
    }

    /// Whether parked clients should be offered work: something has come to wait since this was last asked.
    pub fn take_new_work(&mut self) -> bool {
        std::mem::take(&mut self.new_work) && self.scheduler.has_waiting()
    }

    pub fn has_waiting(&self) -> bool {
        self.scheduler.has_waiting()
    }

    /// Gives all clients time to be heard of again after the server itself was away.
    pub fn stood_still(&mut self, now: Timestamp) {
        self.scheduler.excuse_silence(now);
    }

    /// Ends what has run out. Called about once a second.
    pub fn tick(&mut self, now: Timestamp) {
        for ended in self.scheduler.expire(now) {
            self.attempt_failed(now, ended, model::Usage::default(), Vec::new());
        }
        if self.scheduler.has_waiting() {
            // A back-off may have ended, or a client that was avoided may be the only one left.
            self.new_work = true;
        }
    }
}
