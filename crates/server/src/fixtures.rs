//! What the server's tests share: a plain plan, a machine, an administrator, a job.

use model::plan::{Piece, Plan, Repeat, Template};
use model::{BlobHash, ByteSize, Inventory, Limits, NetworkAccess, Permits, Resources};
use protocol::api::Role;

use crate::grid::{Caller, Submission};
use crate::store::SignedApplication;

/// A job that runs one command `times` times.
pub(crate) fn plan(times: u64) -> Plan {
    Plan {
        name: "job".into(),
        application: BlobHash([1; 32]),
        command: vec![Template(vec![Piece::Text("true".into())])],
        env: Vec::new(),
        stdin: None,
        inputs: Vec::new(),
        axes: Vec::new(),
        split: None,
        repeat: Some(Repeat { times, seed: 1 }),
        outputs: Vec::new(),
        aggregate: Vec::new(),
        resources: Resources::default(),
        limits: Limits::default(),
        network: NetworkAccess::default(),
        display: None,
        attempts: 3,
    }
}

pub(crate) fn submission(times: u64, idempotency_key: String) -> Submission {
    let manifest = BlobHash([1; 32]);
    Submission {
        user: "alice".parse().expect("valid"),
        idempotency_key,
        plan: plan(times),
        total: times,
        application: SignedApplication { manifest, manifest_size: 1, signature: vec![0; 64] },
        secrets: None,
    }
}

pub(crate) fn admin() -> Caller {
    Caller { user: "admin".parse().expect("valid"), role: Role::Admin }
}

pub(crate) fn inventory() -> Inventory {
    Inventory {
        host_name: "lab-1".into(),
        cpu_model: "x".into(),
        cpus: 3,
        memory: ByteSize::gib(9),
        disk: ByteSize::gib(9),
        kernel: "6".into(),
        version: "0".into(),
        permits: Permits::default(),
    }
}
