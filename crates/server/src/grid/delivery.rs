//! What a client may hand in under a lease: which files, and how many bytes.

use std::collections::BTreeSet;

use job_manager::decompose;
use model::{ByteSize, ClientId, Fence, SubjobId};
use protocol::api::{MAX_PART, Problem, ProblemCode};
use protocol::client_link::{MAX_PICTURES, STDERR, STDOUT, dialog_picture};

use super::Grid;
use crate::problem::problem;

/// How often over a client may send what it may send: parts that were lost on the way come again.
const REPETITIONS: u64 = 2;

/// Leases whose bytes are counted before those that have ended are forgotten.
const MAX_COUNTED: usize = 10_000;

/// What belongs to a subjob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Bytes of all its files together.
    pub limit: u64,
    /// Declared outputs, the two streams, and pictures of dialogs.
    pub paths: BTreeSet<String>,
}

impl Grid {
    /// What a client may deliver under a number; refused if that is not its own or is dead.
    pub fn delivery(&self, id: ClientId, fence: Fence) -> Result<Delivery, Problem> {
        let found = self.scheduler.deliverable(fence, id).and_then(|SubjobId { job, index }| {
            let plan = self.plan(job)?;
            let outputs = decompose::subjob(&plan, index)?.outputs.into_iter().map(|output| output.path);
            let streams = [STDOUT.to_owned(), STDERR.to_owned()];
            let paths = outputs.chain(streams).chain((1..=MAX_PICTURES).map(dialog_picture)).collect();
            Some(Delivery { limit: plan.limits.output.0, paths })
        });
        found.ok_or_else(|| {
            problem(ProblemCode::NotAllowed, format!("lease {fence} is not live"), "drop the subjob")
        })
    }

    /// Takes note that `bytes` of a blob of `total` bytes come in under a lease. A lease is no right to fill the
    /// server's disk.
    pub fn take_upload(&mut self, id: ClientId, fence: Fence, total: u64, bytes: u64) -> Result<(), Problem> {
        let limit = self.delivery(id, fence)?.limit;
        let fix = "report an output limit instead";
        if total > limit {
            let detail = format!("{} is over the job's output limit of {}", ByteSize(total), ByteSize(limit));
            return Err(problem(ProblemCode::TooLarge, detail, fix));
        }
        if self.uploaded.len() >= MAX_COUNTED {
            let scheduler = &self.scheduler;
            self.uploaded.retain(|fence, _| scheduler.lease(*fence).is_some());
        }
        let most = limit.saturating_mul(REPETITIONS).saturating_add(MAX_PART as u64);
        let uploaded = self.uploaded.entry(fence).or_default();
        let sum = uploaded.saturating_add(bytes);
        if sum > most {
            let detail = format!("{} came under lease {fence}, more than {}", ByteSize(sum), ByteSize(most));
            return Err(problem(ProblemCode::TooLarge, detail, fix));
        }
        *uploaded = sum;
        Ok(())
    }
}
