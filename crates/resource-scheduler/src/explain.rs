//! Why a job waits: how many clients each clause of its request rules out, and which comes nearest.

use model::network::Reach;
use model::{Capacity, JobId, Resources, Sealing};

use crate::Scheduler;

/// What stands between a job's waiting subjobs and the clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub waiting: u64,
    pub class: Resources,
    /// Clients that have ever asked for work and are in touch.
    pub clients: usize,
    pub lack_cpus: usize,
    pub lack_memory: usize,
    pub lack_disk: usize,
    /// Clients whose owners don't permit what the job needs.
    pub refuse_network: usize,
    pub refuse_display: usize,
    /// Clients that can't seal files, as the job asks.
    pub lack_sealing: usize,
    /// The most that any one client offers.
    pub nearest: Option<Capacity>,
}

impl Scheduler {
    /// Explains why subjobs of a job wait; `None` when none does.
    ///
    /// `in_touch` says which clients count, with all that each has when nothing runs on it.
    pub fn explain(&self, job: JobId, in_touch: &[Capacity]) -> Option<Explanation> {
        let queue = self.jobs.get(&job).filter(|queue| queue.has_waiting())?;
        let class = queue.class();
        let count = |lacks: &dyn Fn(&Capacity) -> bool| in_touch.iter().filter(|c| lacks(c)).count();
        Some(Explanation {
            waiting: queue.waiting(),
            class,
            clients: in_touch.len(),
            lack_cpus: count(&|c| c.cpus < class.cpus),
            lack_memory: count(&|c| c.memory < class.memory),
            lack_disk: count(&|c| c.disk < class.disk),
            refuse_network: count(&|c| class.needs.network > c.permits.network),
            refuse_display: count(&|c| class.needs.display && !c.permits.display),
            lack_sealing: count(&|c| class.needs.sealing > Sealing::Off && c.permits.sealing == Sealing::Off),
            nearest: in_touch.iter().copied().max_by_key(|c| {
                let fits = [
                    c.cpus >= class.cpus,
                    c.memory >= class.memory,
                    c.disk >= class.disk,
                    c.permits.cover(class.needs),
                ];
                (fits.iter().filter(|fit| **fit).count(), c.memory, c.cpus)
            }),
        })
    }
}

impl Explanation {
    /// One sentence for a person, with the edit that would help.
    pub fn sentence(&self) -> String {
        let Explanation { waiting, class, clients, .. } = self;
        let Some(nearest) = self.nearest else {
            return format!(
                "{waiting} subjobs wait: no client is connected (start one with `dcgrid client`)"
            );
        };
        let lacks = [
            (self.lack_cpus, format!("{} cpus", class.cpus), "resources.cpus", nearest.cpus.to_string()),
            (
                self.lack_memory,
                format!("{} of memory", class.memory),
                "resources.memory",
                nearest.memory.to_string(),
            ),
            (self.lack_disk, format!("{} of disk", class.disk), "resources.disk", nearest.disk.to_string()),
        ];
        let network = match class.needs.network {
            Reach::Nearby => ("connections to its own machine and link", "--network nearby"),
            Reach::Elsewhere | Reach::Nothing => ("connections to the network", "--network allow"),
        };
        let refusals = [
            (self.refuse_network, network.0, network.1),
            (self.refuse_display, "a display", "--display allow"),
        ];
        if let Some((_, what, option)) = refusals.iter().find(|(count, ..)| count == clients) {
            return format!(
                "{waiting} subjobs wait: none of {clients} clients permits {what}; \
                 start one with `dcgrid client {option}`"
            );
        }
        if self.lack_sealing == *clients {
            return format!(
                "{waiting} subjobs wait: none of {clients} clients can seal files on its disk; \
                 `dcgrid doctor` on a client tells what it lacks"
            );
        }
        let none_fits = lacks.iter().find(|(count, ..)| count == clients);
        match none_fits {
            Some((_, need, key, has)) => format!(
                "{waiting} subjobs wait: none of {clients} clients has {need}; the nearest has {has}. \
                 Lower {key}, or add a larger client"
            ),
            None => format!("{waiting} subjobs wait for a free slot on one of {clients} clients"),
        }
    }
}
