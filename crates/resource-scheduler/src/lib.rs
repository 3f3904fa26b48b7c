//! Resource Scheduler (§2.1): which subjob runs on which client, and what happens when an attempt ends.
//!
//! Pure. A job is a cursor and the few subjobs that must run again, never a list of its subjobs: a job of a
//! million costs as much as a job of one. Matching goes by equivalence class of resources, so its cost does not
//! depend on how much waits. `attempts` has the rules of §4.2.3 for trying again.
#![forbid(unsafe_code)]

pub mod attempts;
pub mod explain;
mod matching;
mod queue;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use attempts::Verdict;
use model::{Capacity, ClientId, FailureReason, Fence, JobId, Resources, SubjobId, Timestamp, UserName};
pub use queue::NewJob;
use queue::Queue;

/// One subjob on one client, under a fencing number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub fence: Fence,
    pub subjob: SubjobId,
    /// From 1.
    pub attempt: u32,
    pub client: ClientId,
    /// Sequence number of the poll that it was given to.
    pub seq: u64,
    pub since: Timestamp,
}

/// A lease that has ended without success, and what becomes of its subjob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub lease: Lease,
    pub reason: FailureReason,
    pub verdict: Verdict,
}

/// What a poll's list of held leases means.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Given to this client earlier, and gone from it.
    pub lost: Vec<Ended>,
    /// Held by the client, but no longer live.
    pub dead: Vec<Fence>,
    /// Had run out, but nobody else has the subjob yet: live again.
    pub revived: Vec<Lease>,
}

/// A client's poll, as an offer to work.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub client: ClientId,
    /// Number of the poll.
    pub seq: u64,
    /// Newest poll whose reply the client had when it made the offer.
    pub answered: u64,
    pub capacity: Capacity,
    /// Most leases to give.
    pub most: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A client that was not heard of for this long loses its leases.
    pub lease_ttl: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config { lease_ttl: Duration::from_secs(120) }
    }
}

#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    next_fence: Fence,
    jobs: HashMap<JobId, Queue>,
    /// Class → user → jobs with something waiting: what matching looks at.
    waiting: BTreeMap<Resources, BTreeMap<UserName, BTreeSet<JobId>>>,
    leases: HashMap<Fence, Lease>,
    /// Leases that ran out and may come back, as long as their queue says so.
    run_out: HashMap<Fence, Lease>,
    clients: HashMap<ClientId, ClientLeases>,
    /// Processors that each user's subjobs keep busy now: who has least goes first.
    busy: HashMap<UserName, u64>,
}

#[derive(Debug, Default)]
struct ClientLeases {
    leases: BTreeSet<Fence>,
    last_contact: Timestamp,
    /// The most it has offered since it is in touch.
    offered: Option<Capacity>,
}

impl Scheduler {
    pub fn new(config: Config, next_fence: Fence) -> Self {
        Scheduler {
            config,
            next_fence,
            jobs: HashMap::new(),
            waiting: BTreeMap::new(),
            leases: HashMap::new(),
            run_out: HashMap::new(),
            clients: HashMap::new(),
            busy: HashMap::new(),
        }
    }

    /// The number that the next lease will have.
    pub fn next_fence(&self) -> Fence {
        self.next_fence
    }

    pub fn lease(&self, fence: Fence) -> Option<&Lease> {
        self.leases.get(&fence)
    }

    /// The subjob that a client may still deliver under a number: the lease is live, or it ran out and nobody took
    /// over.
    pub fn deliverable(&self, fence: Fence, client: ClientId) -> Option<SubjobId> {
        match self.leases.get(&fence) {
            Some(lease) => (lease.client == client).then_some(lease.subjob),
            None => {
                let lease = self.run_out.get(&fence).filter(|lease| lease.client == client)?;
                let queue = self.jobs.get(&lease.subjob.job)?;
                queue.is_still_run_out(lease).then_some(lease.subjob)
            }
        }
    }

    /// Live leases of a job, in no order.
    pub fn running(&self, job: JobId) -> impl Iterator<Item = &Lease> {
        let fences = self.jobs.get(&job).into_iter().flat_map(Queue::live);
        fences.filter_map(|fence| self.leases.get(&fence))
    }

    pub fn running_count(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, |queue| queue.live().count() as u64)
    }

    /// First index that was never leased.
    pub fn cursor(&self, job: JobId) -> Option<u64> {
        self.jobs.get(&job).map(Queue::cursor)
    }

    pub fn client_running(&self, client: ClientId) -> u64 {
        self.clients.get(&client).map_or(0, |leases| leases.leases.len() as u64)
    }

    /// Whether any subjob of any job waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Adds a job, fresh or as it was when the server stopped.
    pub fn add_job(&mut self, job: NewJob) {
        let id = job.id;
        self.jobs.insert(id, Queue::new(job));
        self.index(id);
    }

    /// Puts back a lease that was live when the server stopped. Its client is given time to be heard of.
    pub fn restore_lease(&mut self, lease: Lease, now: Timestamp) {
        let Some(queue) = self.jobs.get_mut(&lease.subjob.job) else { return };
        queue.restore_lease(&lease);
        self.next_fence = self.next_fence.max(Fence(lease.fence.0 + 1));
        self.clients.entry(lease.client).or_default().last_contact = now;
        self.hold(lease);
    }

    /// Removes a job; returns its live leases, whose clients must be told.
    pub fn remove_job(&mut self, job: JobId) -> Vec<Lease> {
        let Some(queue) = self.jobs.get(&job) else { return Vec::new() };
        let live: Vec<Fence> = queue.live().collect();
        let leases = live.into_iter().filter_map(|fence| self.release(fence)).collect();
        self.unindex(job);
        self.jobs.remove(&job);
        self.run_out.retain(|_, lease| lease.subjob.job != job);
        leases
    }

    /// Takes note of a client's poll: renews its leases, and finds what it lost and what it holds in vain.
    ///
    /// `answered` is the newest poll whose reply the client has: leases given to later ones are on their way, not
    /// lost.
    pub fn contact(&mut self, now: Timestamp, client: ClientId, answered: u64, held: &[Fence]) -> Held {
        let held_set: BTreeSet<Fence> = held.iter().copied().collect();
        let known = self.clients.entry(client).or_default();
        known.last_contact = now;
        let missing: Vec<Fence> = known.leases.difference(&held_set).copied().collect();
        let mut result = Held::default();
        for fence in missing {
            if self.leases.get(&fence).is_some_and(|lease| lease.seq <= answered) {
                result.lost.extend(self.fail(fence, FailureReason::LeaseLost));
            }
        }
        for fence in held_set {
            match self.leases.get(&fence) {
                Some(lease) if lease.client == client => {}
                _ => match self.revive(fence, client) {
                    Some(lease) => result.revived.push(lease),
                    None => result.dead.push(fence),
                },
            }
        }
        result
    }

    /// The leases that were given to a poll, for when it is repeated.
    pub fn granted_to(&self, client: ClientId, seq: u64) -> Vec<Lease> {
        let Some(known) = self.clients.get(&client) else { return Vec::new() };
        let leases = known.leases.iter().filter_map(|fence| self.leases.get(fence));
        leases.filter(|lease| lease.seq == seq).cloned().collect()
    }

    /// Gives a client as many waiting subjobs as fit into what it offers.
    pub fn assign(&mut self, now: Timestamp, offer: &Offer) -> Vec<Lease> {
        self.note_offer(offer);
        let mut free = self.less_what_is_on_its_way(offer);
        let mut granted = Vec::new();
        while granted.len() < offer.most {
            let Some((job, left)) = self.best_job(offer.client, free) else { break };
            let Some(lease) = self.grant(now, offer, job) else { break };
            free = left;
            granted.push(lease);
        }
        granted
    }

    /// Ends a lease with success. `None` when the number is dead: nothing may then be counted.
    ///
    /// A lease that had run out still counts as long as nobody else was given the subjob.
    pub fn succeed(&mut self, fence: Fence, client: ClientId) -> Option<Lease> {
        self.ensure_live(fence, client)?;
        let lease = self.release(fence)?;
        self.with_queue(lease.subjob.job, |queue| queue.finished(lease.subjob.index));
        Some(lease)
    }

    /// Ends a lease that a client reports as failed. `None` when the number is dead.
    pub fn fail_reported(&mut self, fence: Fence, client: ClientId, reason: FailureReason) -> Option<Ended> {
        self.ensure_live(fence, client)?;
        self.fail(fence, reason)
    }

    /// Begins the time anew in which clients must be heard of: nobody was listening.
    pub fn excuse_silence(&mut self, now: Timestamp) {
        for known in self.clients.values_mut() {
            known.last_contact = now;
        }
    }

    /// Ends the leases of clients that have not been heard of for too long.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Ended> {
        let ttl = self.config.lease_ttl;
        let mut fences: Vec<Fence> = Vec::new();
        for known in self.clients.values_mut().filter(|known| now.since(known.last_contact) >= ttl) {
            // Nobody waits for it to take what failed elsewhere.
            known.offered = None;
            fences.extend(&known.leases);
        }
        fences.into_iter().filter_map(|fence| self.fail(fence, FailureReason::LeaseExpired)).collect()
    }

    /// Ends all leases of a client that is no longer trusted.
    pub fn drop_client(&mut self, client: ClientId, why: &str) -> Vec<Ended> {
        let fences: Vec<Fence> =
            self.clients.remove(&client).map_or_else(Vec::new, |known| known.leases.into_iter().collect());
        let reason = || FailureReason::Evicted { why: why.to_owned() };
        fences.into_iter().filter_map(|fence| self.fail(fence, reason())).collect()
    }

    fn fail(&mut self, fence: Fence, reason: FailureReason) -> Option<Ended> {
        let lease = self.release(fence)?;
        let verdict = self
            .with_queue(lease.subjob.job, |queue| queue.failed(&lease, &reason))
            .unwrap_or(Verdict::Failed);
        if verdict == Verdict::Again && reason == FailureReason::LeaseExpired {
            self.run_out.insert(fence, lease.clone());
        }
        Some(Ended { lease, reason, verdict })
    }

    fn grant(&mut self, now: Timestamp, offer: &Offer, job: JobId) -> Option<Lease> {
        let queue = self.jobs.get(&job)?;
        let class = queue.class();
        let index = queue.next_for(offer.client, |avoided| self.is_only_choice(avoided, &class))?;
        let fence = self.next_fence;
        self.next_fence = Fence(fence.0 + 1);
        let attempt = self.with_queue(job, |queue| queue.lease(index, fence))?;
        let subjob = SubjobId { job, index };
        let Offer { client, seq, .. } = *offer;
        let lease = Lease { fence, subjob, attempt, client, seq, since: now };
        self.hold(lease.clone());
        Some(lease)
    }

    fn hold(&mut self, lease: Lease) {
        if let Some(queue) = self.jobs.get(&lease.subjob.job) {
            *self.busy.entry(queue.user().clone()).or_default() += u64::from(queue.class().cpus);
        }
        self.clients.entry(lease.client).or_default().leases.insert(lease.fence);
        self.leases.insert(lease.fence, lease);
    }

    fn release(&mut self, fence: Fence) -> Option<Lease> {
        let lease = self.leases.remove(&fence)?;
        if let Some(known) = self.clients.get_mut(&lease.client) {
            known.leases.remove(&fence);
        }
        if let Some(queue) = self.jobs.get_mut(&lease.subjob.job) {
            queue.released(fence);
            if let Some(busy) = self.busy.get_mut(queue.user()) {
                *busy = busy.saturating_sub(u64::from(queue.class().cpus));
                if *busy == 0 {
                    self.busy.remove(queue.user());
                }
            }
        }
        Some(lease)
    }

    /// Makes sure that `fence` is live and `client`'s, reviving it if it ran out and nobody took over.
    fn ensure_live(&mut self, fence: Fence, client: ClientId) -> Option<()> {
        match self.leases.get(&fence) {
            Some(lease) => (lease.client == client).then_some(()),
            None => self.revive(fence, client).map(|_| ()),
        }
    }

    fn revive(&mut self, fence: Fence, client: ClientId) -> Option<Lease> {
        let SubjobId { job, .. } = self.deliverable(fence, client)?;
        let lease = self.run_out.remove(&fence)?;
        self.with_queue(job, |queue| queue.revive(&lease))?;
        self.hold(lease.clone());
        Some(lease)
    }

    /// Changes a queue and keeps the index of waiting jobs true.
    fn with_queue<T>(&mut self, job: JobId, change: impl FnOnce(&mut Queue) -> T) -> Option<T> {
        let result = change(self.jobs.get_mut(&job)?);
        self.index(job);
        Some(result)
    }
}

#[cfg(test)]
mod tests;
