//! The loop from outside: what is answered, when, and what stands after a commit that failed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{BlobHash, Capacity, Permits, Usage};
use protocol::api::{Role, TokenGrants, TokenRequest};
use protocol::token::{SECRET_LEN, Token};

use super::*;
use crate::files::MemoryFiles;
use crate::fixtures::{admin, inventory, submission};
use crate::grid::secret_hash;
use crate::store::Sqlite;
use crate::store::faulty::Faulty;

const SECRET: [u8; SECRET_LEN] = [5; SECRET_LEN];

/// Much less than anything is held for.
const AT_ONCE: Duration = Duration::from_secs(10);

struct Bench {
    handle: Handle,
    thread: Option<std::thread::JoinHandle<()>>,
    full: Arc<std::sync::atomic::AtomicBool>,
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    client: link::keys::SigningKey,
}

impl Bench {
    /// A grid with one client that has joined.
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (handle, thread, full) = open(directory.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = link::keys::SigningKey::generate().expect("random");
        let bench = Bench { handle, thread: Some(thread), full, directory, runtime, client };
        bench.create_token(TokenGrants::Join, SECRET).expect("not full");
        let public = bench.client.public();
        let joined = bench.handle.call(move |grid, now| {
            grid.register_client(now, &secret_hash(&SECRET), public, BlobHash([9; 32]), inventory())
        });
        bench.runtime.block_on(joined).expect("joins");
        bench
    }

    fn restart(&mut self) {
        self.handle.stop();
        self.thread.take().expect("running").join().expect("ends well");
        let (handle, thread, full) = open(self.directory.path());
        (self.handle, self.thread, self.full) = (handle, Some(thread), full);
    }

    fn create_token(&self, grants: TokenGrants, secret: [u8; SECRET_LEN]) -> Answer<String> {
        let request = TokenRequest { grants, uses: None, expires_s: None };
        let made = self.handle.call(move |grid, now| grid.create_token(now, &request, secret));
        self.runtime.block_on(made).map(|reply| reply.token)
    }

    fn submit(&self, times: u64) -> Answer<JobId> {
        let submission = submission(times, format!("key {times}"));
        let submitted = self.handle.call(move |grid, now| grid.submit(now, submission));
        self.runtime.block_on(submitted).map(|reply| reply.job)
    }

    fn request(seq: u64, held: Vec<model::Fence>) -> PollRequest {
        let capacity = Capacity {
            cpus: 2,
            memory: model::ByteSize::gib(8),
            disk: model::ByteSize::gib(8),
            permits: Permits::default(),
        };
        PollRequest {
            seq,
            answered: seq - 1,
            capacity,
            held,
            reports: Vec::new(),
            inventory: None,
            wait_s: 0,
        }
    }

    fn poll(&self, request: PollRequest, reports: Vec<VerifiedReport>) -> Answer<PollReply> {
        let id = link::keys::client_id(&self.client.public());
        self.runtime.block_on(self.handle.poll(id, request, reports))
    }

    fn counts(&self, job: JobId) -> model::Counts {
        let admin = admin();
        let view = self.handle.call(move |grid, _| grid.view_job(&admin, job));
        self.runtime.block_on(view).expect("there").counts
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the loop panicked");
        }
    }
}

fn open(path: &std::path::Path) -> (Handle, std::thread::JoinHandle<()>, Arc<std::sync::atomic::AtomicBool>) {
    let (store, full) = Faulty::new(Sqlite::open(&path.join("grid.sqlite")).expect("opens"));
    let (handle, thread) = start(Parts {
        store: Box::new(store),
        files: Arc::new(MemoryFiles::new()),
        keys: Arc::new(GridKeys::open(path).expect("keys")),
        lease_ttl: Duration::from_secs(60),
    })
    .expect("starts");
    (handle, thread, full)
}

fn success(fence: model::Fence) -> VerifiedReport {
    VerifiedReport { fence, failure: None, outputs: Vec::new(), usage: Usage::default() }
}

#[test]
fn what_a_full_disk_refuses_has_not_happened() {
    let bench = Bench::new();
    let job = bench.submit(4).expect("not full");
    bench.full.store(true, Ordering::SeqCst);
    assert_eq!(bench.submit(5).expect_err("full").code, ProblemCode::StorageFull);
    let refused = bench.poll(Bench::request(1, Vec::new()), Vec::new());
    assert_eq!(refused.expect_err("full").code, ProblemCode::StorageFull);
    bench.full.store(false, Ordering::SeqCst);
    assert_eq!(bench.counts(job).waiting, 4, "the refused leases are not held by anybody");
    let reply = bench.poll(Bench::request(1, Vec::new()), Vec::new()).expect("room again");
    assert_eq!(reply.leases.len(), 2);
    assert_eq!(bench.submit(5).expect("room again"), JobId(job.0 + 1), "no number was used up");
}

#[test]
fn a_report_that_could_not_be_written_is_not_settled_and_counts_once_when_repeated() {
    let bench = Bench::new();
    let job = bench.submit(1).expect("submits");
    let fence = bench.poll(Bench::request(1, Vec::new()), Vec::new()).expect("polls").leases[0].fence;
    bench.full.store(true, Ordering::SeqCst);
    assert!(bench.poll(Bench::request(2, vec![fence]), vec![success(fence)]).is_err());
    bench.full.store(false, Ordering::SeqCst);
    for seq in 2..5 {
        let reply = bench.poll(Bench::request(seq, vec![fence]), vec![success(fence)]).expect("polls");
        assert_eq!((reply.settled, reply.cancel), (vec![fence], Vec::new()));
    }
    assert_eq!(bench.counts(job).succeeded, 1);
}

#[test]
fn a_repeated_poll_gets_the_same_leases_even_after_a_restart() {
    let mut bench = Bench::new();
    bench.submit(10).expect("submits");
    let first = bench.poll(Bench::request(7, Vec::new()), Vec::new()).expect("polls");
    let fences = |reply: &PollReply| reply.leases.iter().map(|lease| lease.fence).collect::<Vec<_>>();
    let again = bench.poll(Bench::request(7, Vec::new()), Vec::new()).expect("polls");
    assert_eq!(fences(&first), fences(&again));
    bench.restart();
    let after = bench.poll(Bench::request(7, Vec::new()), Vec::new()).expect("polls");
    assert_eq!(fences(&first), fences(&after));
    let stale = bench.poll(Bench::request(6, Vec::new()), Vec::new());
    assert_eq!(stale.expect_err("older").code, ProblemCode::StaleSequence);
    let next = bench.poll(Bench::request(8, fences(&first)), Vec::new()).expect("polls");
    assert!(next.leases.iter().all(|lease| !fences(&first).contains(&lease.fence)));
}

#[test]
fn a_parked_poll_is_answered_as_soon_as_there_is_work() {
    let bench = Bench::new();
    let id = link::keys::client_id(&bench.client.public());
    let request = PollRequest { wait_s: 40, ..Bench::request(1, Vec::new()) };
    let handle = bench.handle.clone();
    let reply = bench.runtime.block_on(async {
        let poll = handle.poll(id, request, Vec::new());
        let submit = handle.call(move |grid, now| grid.submit(now, submission(3, "key".into())));
        tokio::join!(poll, submit).0
    });
    assert_eq!(reply.expect("polls").leases.len(), 2);
}

#[test]
fn a_revoked_client_hears_of_it_while_its_poll_is_held() {
    let bench = Bench::new();
    let id = link::keys::client_id(&bench.client.public());
    let request = PollRequest { wait_s: 45, ..Bench::request(1, Vec::new()) };
    let handle = bench.handle.clone();
    let answered = bench.runtime.block_on(async {
        let poll = handle.poll(id, request, Vec::new());
        let revoke = handle.call(move |grid, now| grid.revoke_client(now, id));
        tokio::time::timeout(AT_ONCE, async { tokio::join!(poll, revoke) }).await
    });
    let (reply, revoked) = answered.expect("not held any longer");
    assert!(reply.is_ok() && revoked.is_ok());
    let next = bench.poll(Bench::request(2, Vec::new()), Vec::new());
    assert_eq!(next.expect_err("revoked").code, ProblemCode::ClientRevoked);
}

#[test]
fn who_watches_a_job_over_a_restart_is_not_kept_waiting() {
    let mut bench = Bench::new();
    let job = bench.submit(4).expect("submits");
    bench.poll(Bench::request(1, Vec::new()), Vec::new()).expect("polls");
    let admin = admin();
    let view = bench.runtime.block_on(bench.handle.call(move |grid, _| grid.view_job(&admin, job)));
    let before = view.expect("there").version;
    bench.restart();
    let watch = bench.handle.watch(self::admin(), job, before, Duration::from_secs(30));
    let answered = bench.runtime.block_on(async { tokio::time::timeout(AT_ONCE, watch).await });
    assert_ne!(answered.expect("not held").expect("there").version, before);
}

#[test]
fn a_job_whose_subjobs_have_all_ended_is_aggregated_and_stays_so() {
    let mut bench = Bench::new();
    let job = bench.submit(1).expect("submits");
    let fence = bench.poll(Bench::request(1, Vec::new()), Vec::new()).expect("polls").leases[0].fence;
    bench.poll(Bench::request(2, Vec::new()), vec![success(fence)]).expect("polls");
    let ended = |bench: &Bench| {
        let mut after = 0;
        loop {
            let watch = bench.handle.watch(admin(), job, after, Duration::from_secs(20));
            let view = bench.runtime.block_on(watch).expect("there");
            if view.state.is_final() {
                return view.state;
            }
            after = view.version;
        }
    };
    assert_eq!(ended(&bench), model::JobState::Succeeded);
    bench.restart();
    assert_eq!(ended(&bench), model::JobState::Succeeded);
}

#[test]
fn a_token_names_its_grid() {
    let bench = Bench::new();
    let keys = GridKeys::open(bench.directory.path()).expect("keys");
    let other = TokenGrants::User { user: "bob".parse().expect("valid"), role: Role::User };
    let text = bench.create_token(other, [6; SECRET_LEN]).expect("made");
    assert_eq!(text.parse::<Token>().expect("a token").ca_key, keys.ca_public().0);
}

#[test]
fn a_request_that_panics_takes_nobody_with_it() {
    let mut bench = Bench::new();
    let job = bench.submit(1).expect("submits");
    let call = bench.handle.call(|_, _| -> Answer<()> { panic!("a bug") });
    assert!(bench.runtime.block_on(call).is_err());
    let view = bench.handle.call(move |grid, _| grid.view_job(&admin(), job));
    assert_eq!(bench.runtime.block_on(view).expect("served").job, job);
    bench.restart();
    let view = bench.handle.call(move |grid, _| grid.view_job(&admin(), job));
    assert_eq!(bench.runtime.block_on(view).expect("served").job, job);
}
