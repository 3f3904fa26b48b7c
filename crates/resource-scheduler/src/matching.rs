//! Matching: whose turn it is, and which job has something for which client.
//!
//! By class and user, so that the cost does not depend on how much waits or how many jobs there are.

use model::{ByteSize, Capacity, ClientId, JobId, Resources};

use crate::queue::Queue;
use crate::{ClientLeases, Offer, Scheduler};

impl Scheduler {
    /// What an offer leaves when leases that the client did not know of yet when it made it are taken off.
    pub(crate) fn less_what_is_on_its_way(&self, offer: &Offer) -> Capacity {
        let fences = self.clients.get(&offer.client).into_iter().flat_map(|known| &known.leases);
        let leases = fences.filter_map(|fence| self.leases.get(fence));
        let unknown = leases.filter(|lease| lease.seq > offer.answered);
        let classes = unknown.filter_map(|lease| self.jobs.get(&lease.subjob.job)).map(Queue::class);
        classes.fold(offer.capacity, |free, class| {
            let nothing = Capacity { cpus: 0, memory: ByteSize(0), disk: ByteSize(0), permits: free.permits };
            free.take(&class).unwrap_or(nothing)
        })
    }

    /// Remembers what a client can take when nothing runs on it, as far as its offers have shown it.
    pub(crate) fn note_offer(&mut self, offer: &Offer) {
        let known = self.clients.entry(offer.client).or_default();
        let before = known.offered.unwrap_or(offer.capacity);
        known.offered = Some(Capacity {
            cpus: before.cpus.max(offer.capacity.cpus),
            memory: before.memory.max(offer.capacity.memory),
            disk: before.disk.max(offer.capacity.disk),
            // Not summed up over time: an owner may take a permit back.
            permits: offer.capacity.permits,
        });
    }

    /// The job whose turn it is for a client with `free` capacity, and what is then left of it.
    pub(crate) fn best_job(&self, client: ClientId, free: Capacity) -> Option<(JobId, Capacity)> {
        let mut best: Option<(u64, JobId, Capacity)> = None;
        for (class, users) in &self.waiting {
            let Some(left) = free.take(class) else { continue };
            for (user, jobs) in users {
                let busy = self.busy.get(user).copied().unwrap_or(0);
                let Some(job) = jobs.iter().find(|job| self.has_work_for(**job, client, class)) else {
                    continue;
                };
                if best.is_none_or(|(least, first, _)| (busy, *job) < (least, first)) {
                    best = Some((busy, *job, left));
                }
            }
        }
        best.map(|(_, job, left)| (job, left))
    }

    fn has_work_for(&self, job: JobId, client: ClientId, class: &Resources) -> bool {
        let Some(queue) = self.jobs.get(&job) else { return false };
        queue.next_for(client, |avoided| self.is_only_choice(avoided, class)).is_some()
    }

    /// Whether no client in touch outside `avoided` could run the class: then a client that failed may try again.
    pub(crate) fn is_only_choice(&self, avoided: &[ClientId], class: &Resources) -> bool {
        let fits = |known: &ClientLeases| known.offered.is_some_and(|offered| offered.take(class).is_some());
        !self.clients.iter().any(|(id, known)| !avoided.contains(id) && fits(known))
    }

    /// Lists the job among those with something waiting, or not, as it is.
    pub(crate) fn index(&mut self, job: JobId) {
        let Some(queue) = self.jobs.get(&job) else { return };
        if queue.has_waiting() {
            let users = self.waiting.entry(queue.class()).or_default();
            users.entry(queue.user().clone()).or_default().insert(job);
        } else {
            self.unindex(job);
        }
    }

    pub(crate) fn unindex(&mut self, job: JobId) {
        let Some(queue) = self.jobs.get(&job) else { return };
        let (class, user) = (queue.class(), queue.user());
        let Some(users) = self.waiting.get_mut(&class) else { return };
        if let Some(jobs) = users.get_mut(user) {
            jobs.remove(&job);
            if jobs.is_empty() {
                users.remove(user);
            }
        }
        if users.is_empty() {
            self.waiting.remove(&class);
        }
    }
}
