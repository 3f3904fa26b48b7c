//! The waiting and running subjobs of one job: a cursor, the subjobs that must run again, and the live leases.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{ClientId, FailureReason, Fence, JobId, Resources, UserName};

use crate::Lease;
use crate::attempts::{History, Verdict};

/// A job as the scheduler needs it.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub id: JobId,
    pub user: UserName,
    pub class: Resources,
    pub total: u64,
    /// Failed attempts a subjob may have.
    pub attempts: u32,
    /// First index that was never leased; 0 for a new job.
    pub cursor: u64,
    /// Indexes below the cursor that have no outcome: waiting, or running under a lease that is restored next.
    pub unfinished: Vec<u64>,
    /// Failed attempts so far, in the order in which they ended.
    pub failures: Vec<(u64, ClientId, FailureReason)>,
}

#[derive(Debug)]
pub(crate) struct Queue {
    user: UserName,
    class: Resources,
    total: u64,
    attempts: u32,
    cursor: u64,
    again: BTreeSet<u64>,
    /// Only of subjobs that have failed at least once and are not done.
    histories: HashMap<u64, History>,
    live: BTreeMap<Fence, u64>,
    /// The newest lease of a subjob, if it ran out and nobody was given the subjob since.
    run_out: HashMap<u64, Fence>,
}

impl Queue {
    pub(crate) fn new(job: NewJob) -> Self {
        let mut queue = Queue {
            user: job.user,
            class: job.class,
            total: job.total,
            attempts: job.attempts,
            cursor: job.cursor,
            again: job.unfinished.into_iter().collect(),
            histories: HashMap::new(),
            live: BTreeMap::new(),
            run_out: HashMap::new(),
        };
        for (index, client, reason) in job.failures {
            if queue.again.contains(&index) {
                let history = queue.histories.entry(index).or_default();
                history.attempts += 1;
                history.failed(client, &reason, queue.attempts);
            }
        }
        queue
    }

    pub(crate) fn user(&self) -> &UserName {
        &self.user
    }

    pub(crate) fn class(&self) -> Resources {
        self.class
    }

    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = Fence> {
        self.live.keys().copied()
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.cursor < self.total || !self.again.is_empty()
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.total - self.cursor + self.again.len() as u64
    }

    /// The subjob that `client` should run next. One that failed goes to another client while there is one.
    pub(crate) fn next_for(
        &self,
        client: ClientId,
        only_choice: impl Fn(&[ClientId]) -> bool,
    ) -> Option<u64> {
        let suits = |index: &&u64| match self.histories.get(index) {
            Some(history) if history.avoided().contains(&client) => only_choice(history.avoided()),
            _ => true,
        };
        self.again.iter().find(suits).copied().or_else(|| (self.cursor < self.total).then_some(self.cursor))
    }

    /// Moves a subjob from waiting to running; returns the attempt's number.
    pub(crate) fn lease(&mut self, index: u64, fence: Fence) -> u32 {
        if index == self.cursor {
            self.cursor += 1;
        } else {
            self.again.remove(&index);
        }
        self.run_out.remove(&index);
        self.live.insert(fence, index);
        match self.histories.get_mut(&index) {
            Some(history) => {
                history.attempts += 1;
                history.attempts
            }
            None => 1,
        }
    }

    pub(crate) fn restore_lease(&mut self, lease: &Lease) {
        let index = lease.subjob.index;
        self.again.remove(&index);
        self.live.insert(lease.fence, index);
        if let Some(history) = self.histories.get_mut(&index) {
            history.attempts = lease.attempt;
        }
    }

    pub(crate) fn released(&mut self, fence: Fence) {
        self.live.remove(&fence);
    }

    pub(crate) fn finished(&mut self, index: u64) {
        self.histories.remove(&index);
        self.run_out.remove(&index);
        self.again.remove(&index);
    }

    pub(crate) fn failed(&mut self, lease: &Lease, reason: &FailureReason) -> Verdict {
        let index = lease.subjob.index;
        let history = self.histories.entry(index).or_default();
        history.attempts = history.attempts.max(lease.attempt);
        match history.failed(lease.client, reason, self.attempts) {
            Verdict::Failed => {
                self.finished(index);
                Verdict::Failed
            }
            Verdict::Again => {
                self.again.insert(index);
                if *reason == FailureReason::LeaseExpired {
                    self.run_out.insert(index, lease.fence);
                }
                Verdict::Again
            }
        }
    }

    /// Whether nobody was given the subjob of a lease since it ran out.
    pub(crate) fn is_still_run_out(&self, lease: &Lease) -> bool {
        self.run_out.get(&lease.subjob.index) == Some(&lease.fence)
    }

    /// Makes a lease that ran out live again.
    pub(crate) fn revive(&mut self, lease: &Lease) {
        let index = lease.subjob.index;
        self.run_out.remove(&index);
        self.again.remove(&index);
        self.live.insert(lease.fence, index);
    }
}
