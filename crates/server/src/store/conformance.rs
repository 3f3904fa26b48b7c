//! What every store must do, whatever it is made of.

use std::time::Duration;

use model::plan::{Output, Piece, Plan, Template};
use model::{
    BlobHash, ByteSize, ClientId, FailureReason, Fence, Inventory, JobId, JobState, OutputFile, Permits,
    SubjobId, Timestamp, Usage,
};
use protocol::api::{ResultFile, TokenGrants};
use resource_scheduler::Lease;

use super::memory::Memory;
use super::{EndedRow, NewJobRow, Op, SignedApplication, Sqlite, Store, TokenRow};
use crate::fixtures;

fn plan() -> Plan {
    Plan {
        command: vec![Template(vec![Piece::Text("x".into()), Piece::Index { width: 3 }])],
        outputs: vec![Output { path: Template(vec![Piece::Text("o".into())]), optional: false }],
        ..fixtures::plan(10)
    }
}

fn application() -> SignedApplication {
    SignedApplication { manifest: BlobHash([1; 32]), manifest_size: 99, signature: vec![3; 64] }
}

fn add_job(id: u64, key: &str) -> Op {
    Op::AddJob(Box::new(NewJobRow {
        id: JobId(id),
        user: "alice".parse().expect("valid"),
        idempotency_key: key.into(),
        plan: plan(),
        total: 10,
        application: application(),
        secrets: Some(vec![7]),
        submitted: Timestamp(1_000),
    }))
}

fn ended(index: u64, fence: u64, failure: Option<FailureReason>) -> EndedRow {
    EndedRow {
        job: JobId(1),
        index,
        fence: Fence(fence),
        attempt: 1,
        client: ClientId([4; 16]),
        ended: Timestamp(2_000),
        usage: Usage {
            wall: Duration::from_millis(1_500),
            cpu: Duration::from_millis(1_200),
            peak_memory: ByteSize(77),
        },
        failure,
        outputs: vec![OutputFile { path: "o".into(), hash: BlobHash([6; 32]), size: 3 }],
    }
}

fn lease(fence: u64, index: u64) -> Lease {
    Lease {
        fence: Fence(fence),
        subjob: SubjobId { job: JobId(1), index },
        attempt: 1,
        client: ClientId([4; 16]),
        seq: 12,
        since: Timestamp(5),
    }
}

/// Runs `test` on each store, given how to open it anew as after a crash.
fn on_every_store(test: impl Fn(&dyn Fn() -> Box<dyn Store>)) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("grid.sqlite");
    test(&|| Box::new(Sqlite::open(&path).expect("opens")));
    let memory = Memory::default();
    test(&|| Box::new(memory.clone()));
}

#[test]
fn a_restarted_server_finds_what_was_committed() {
    on_every_store(|open| {
        let exit = FailureReason::ExitCode { code: 2 };
        let tampering = FailureReason::Tampering { path: "/p".into() };
        let token = TokenRow {
            id: 3,
            secret_hash: [9; 32],
            grants: TokenGrants::Join,
            created: Timestamp(1),
            expires: Some(Timestamp(9)),
            uses_left: Some(4),
            revoked: false,
        };
        let inventory = Inventory {
            host_name: "lab-1".into(),
            cpu_model: "x".into(),
            cpus: 2,
            memory: ByteSize(1),
            disk: ByteSize(2),
            kernel: "6".into(),
            version: "0".into(),
            permits: Permits {
                network: model::network::Reach::Elsewhere,
                display: false,
                sealing: model::Sealing::OnRequest,
            },
        };
        let mut store = open();
        let batch = [
            add_job(1, "k"),
            Op::SetCursor { job: JobId(1), cursor: 5 },
            Op::AddLease(lease(11, 1)),
            Op::AddLease(lease(12, 2)),
            Op::RemoveLease(Fence(12)),
            Op::AddOutcome(ended(2, 12, None)),
            Op::AddFailedAttempt(ended(3, 10, Some(exit.clone()))),
            Op::AddFailedAttempt(ended(4, 13, Some(exit.clone()))),
            Op::AddOutcome(ended(4, 13, Some(exit.clone()))),
            Op::AddFailedAttempt(ended(1, 14, Some(tampering.clone()))),
            Op::AddFailedAttempt(ended(1, 15, Some(tampering.clone()))),
            Op::ReserveFences(Fence(500)),
            Op::AddToken(token.clone()),
            Op::SetTokenUses { id: 3, uses_left: 1 },
            Op::AddClient {
                id: ClientId([4; 16]),
                public_key: [1; 32],
                seal_key: [2; 32],
                inventory: inventory.clone(),
                registered: Timestamp(3),
            },
            Op::RevokeClient(ClientId([4; 16])),
        ];
        store.commit(&batch).expect("commits");
        drop(store);
        let loaded = open().load().expect("loads");
        let job = &loaded.jobs[0];
        assert_eq!((job.succeeded, job.failed, job.cpu), (1, 1, Duration::from_millis(1_200)));
        let open_job = job.open.as_ref().expect("running");
        assert_eq!(open_job.unfinished, [0, 1, 3]);
        let client = ClientId([4; 16]);
        let failures = [(1, client, tampering.clone()), (1, client, tampering), (3, client, exit)];
        assert_eq!(open_job.failures, failures);
        assert_eq!((&open_job.plan, &open_job.application), (&plan(), &application()));
        assert_eq!(loaded.leases, [lease(11, 1)]);
        assert_eq!(loaded.next_fence, Some(Fence(500)));
        assert_eq!(loaded.tokens, [TokenRow { uses_left: Some(1), ..token }]);
        assert!(loaded.clients[0].revoked);
        assert_eq!(loaded.clients[0].inventory, inventory);
        assert_eq!(loaded.clients[0].tampering.map(|tampering| tampering.times), Some(2));
    });
}

#[test]
fn a_batch_that_fails_leaves_nothing() {
    on_every_store(|open| {
        let mut store = open();
        store.commit(&[add_job(1, "k")]).expect("commits");
        assert!(store.commit(&[Op::AddOutcome(ended(0, 1, None)), add_job(2, "k")]).is_err(), "same key");
        let twice = [Op::AddOutcome(ended(1, 1, None)), Op::AddOutcome(ended(1, 2, None))];
        assert!(store.commit(&twice).is_err(), "an outcome twice");
        let reader = store.reader().expect("opens");
        assert_eq!(reader.outcomes(JobId(1), 0, 10).expect("reads"), []);
        store.commit(&[Op::AddOutcome(ended(1, 1, None))]).expect("the store still works");
        assert_eq!(reader.outcomes(JobId(1), 0, 10).expect("reads"), [ended(1, 1, None)]);
    });
}

#[test]
fn a_reader_sees_ended_jobs_whole() {
    on_every_store(|open| {
        let mut store = open();
        let files = vec![ResultFile { path: "hits.tbl".into(), hash: BlobHash([8; 32]), size: 5 }];
        let failed = ended(0, 1, Some(FailureReason::LeaseLost));
        store
            .commit(&[
                add_job(1, "k"),
                Op::AddFailedAttempt(failed.clone()),
                Op::SetResult { job: JobId(1), files: files.clone() },
                Op::SetJobState {
                    job: JobId(1),
                    state: JobState::Failed,
                    reason: Some("why".into()),
                    ended: Some(Timestamp(9)),
                },
            ])
            .expect("commits");
        let reader = store.reader().expect("opens");
        assert_eq!(reader.plan(JobId(1)).expect("reads"), Some(plan()));
        assert_eq!(reader.result(JobId(1)).expect("reads"), Some(files));
        assert_eq!(reader.result(JobId(2)).expect("reads"), None);
        assert_eq!(reader.last_attempt(JobId(1), 0).expect("reads"), Some(failed.clone()));
        assert_eq!(reader.failed_attempts(JobId(1), 0, 9).expect("reads"), [failed]);
        assert_eq!(reader.last_attempt(JobId(1), 1).expect("reads"), None);
        let loaded = open().load().expect("loads");
        assert!(loaded.jobs[0].open.is_none());
        assert_eq!(loaded.jobs[0].reason.as_deref(), Some("why"));
    });
}
