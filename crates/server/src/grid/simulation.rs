//! The grid's state through thousands of random days: crashes before and after each commit, replies that get
//! lost, clients that vanish, restart and come back late, jobs that are cancelled. After every step all subjobs
//! add up, and in the end each has ended exactly once. A failure names its seed, which runs it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{
    BlobHash, ByteSize, Capacity, ClientId, FailureReason, Fence, JobId, JobState, Permits, SubjobId,
    Timestamp, Usage,
};
use protocol::api::{TokenGrants, TokenRequest};
use protocol::client_link::PollRequest;
use protocol::token::SECRET_LEN;

use super::{Grid, PollOutcome, VerifiedReport, secret_hash};
use crate::fixtures::{admin, inventory, submission};
use crate::keys::GridKeys;
use crate::store::Store as _;
use crate::store::memory::Memory;

const TTL: Duration = Duration::from_secs(60);
const SECRET: [u8; SECRET_LEN] = [7; SECRET_LEN];
const CLIENTS: u8 = 5;

/// A small deterministic generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

struct Client {
    id: ClientId,
    seq: u64,
    answered: u64,
    /// What it runs.
    held: BTreeMap<Fence, SubjobId>,
    /// Reports that have not been settled, with the subjob that was run.
    outbox: BTreeMap<Fence, (SubjobId, VerifiedReport)>,
}

struct Simulation {
    seed: u64,
    random: Random,
    now: u64,
    keys: Arc<GridKeys>,
    store: Memory,
    grid: Grid,
    clients: Vec<Client>,
    submitted: u64,
    /// Jobs whose submission was acknowledged, with their size.
    acknowledged: BTreeMap<JobId, u64>,
    to_aggregate: Vec<JobId>,
    /// Whether nothing goes wrong any more.
    calm: bool,
}

/// What becomes of a step's changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    /// The server died, or its disk was full, before the commit.
    Lost,
    /// The server died after the commit, before anybody heard of it.
    Unheard,
}

impl Simulation {
    fn new(seed: u64, keys: &Arc<GridKeys>) -> Self {
        let store = Memory::default();
        let loaded = store.load().expect("empty");
        let grid = Grid::load(loaded, Arc::clone(keys), TTL, Timestamp(0));
        let client = |number: u8| Client {
            id: link::keys::client_id(&BlobHash([number; 32])),
            seq: 1,
            answered: 1,
            held: BTreeMap::new(),
            outbox: BTreeMap::new(),
        };
        let mut simulation = Simulation {
            seed,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: 0,
            keys: Arc::clone(keys),
            store,
            grid,
            clients: (1..=CLIENTS).map(client).collect(),
            submitted: 0,
            acknowledged: BTreeMap::new(),
            to_aggregate: Vec::new(),
            calm: false,
        };
        simulation.join_all();
        simulation
    }

    fn join_all(&mut self) {
        let request = TokenRequest { grants: TokenGrants::Join, uses: None, expires_s: None };
        self.grid.create_token(Timestamp(0), &request, SECRET).expect("made");
        for number in 1..=CLIENTS {
            let key = BlobHash([number; 32]);
            self.grid
                .register_client(Timestamp(0), &secret_hash(&SECRET), key, key, inventory())
                .expect("joins");
        }
        assert!(self.end(Fate::Committed));
    }

    fn step(&mut self) {
        self.now += self.random.below(5_000);
        match self.random.below(20) {
            0 => self.submit(),
            1 if !self.calm => self.cancel(),
            2 if !self.calm => self.restart_client(),
            3 if !self.calm => {
                // A weekend: leases run out.
                self.now += self.random.below(200_000);
                self.tick();
            }
            4 => self.tick(),
            5 if !self.calm => self.crash(),
            6..8 => self.aggregate(),
            _ => self.poll(),
        }
        self.check();
    }

    /// Commits what a step changed, or doesn't. Returns whether those who wait for an answer get it.
    fn end(&mut self, fate: Fate) -> bool {
        let effects = self.grid.take_effects();
        if fate != Fate::Lost {
            let seed = self.seed;
            self.store.commit(&effects.ops).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        if fate == Fate::Committed {
            self.to_aggregate.extend(effects.to_aggregate);
        } else {
            self.crash();
        }
        fate == Fate::Committed
    }

    fn fate(&mut self) -> Fate {
        match self.random.below(30) {
            0 if !self.calm => Fate::Lost,
            1 if !self.calm => Fate::Unheard,
            _ => Fate::Committed,
        }
    }

    /// The server dies and starts again with what is committed.
    fn crash(&mut self) {
        let loaded = self.store.load().expect("readable");
        self.grid = Grid::load(loaded, Arc::clone(&self.keys), TTL, Timestamp(self.now));
        self.to_aggregate.clear();
        self.end(Fate::Committed);
    }

    fn submit(&mut self) {
        if self.calm {
            return;
        }
        let total = 1 + self.random.below(25);
        self.submitted += 1;
        let key = format!("{}", self.submitted);
        // A submitter who gets no answer asks again with the same key.
        loop {
            let submission = submission(total, key.clone());
            let reply = self.grid.submit(Timestamp(self.now), submission).expect("there is room");
            let fate = self.fate();
            if self.end(fate) {
                self.acknowledged.insert(reply.job, total);
                return;
            }
        }
    }

    fn cancel(&mut self) {
        let jobs: Vec<JobId> = self.acknowledged.keys().copied().collect();
        if jobs.is_empty() || !self.random.one_in(4) {
            return;
        }
        let job = jobs[self.random.below(jobs.len() as u64) as usize];
        // A job that has ended can't be cancelled, which is as good.
        let _ = self.grid.cancel_job(Timestamp(self.now), &admin(), job);
        let fate = self.fate();
        self.end(fate);
    }

    fn tick(&mut self) {
        self.grid.tick(Timestamp(self.now));
        let fate = self.fate();
        self.end(fate);
    }

    fn restart_client(&mut self) {
        let client = &mut self.clients[self.random.below(u64::from(CLIENTS)) as usize];
        client.seq += 1_000;
        client.answered = client.seq;
        client.held.clear();
        client.outbox.clear();
    }

    /// Some client ends what it runs, or some of it, and polls.
    fn poll(&mut self) {
        let at = self.random.below(u64::from(CLIENTS)) as usize;
        for (fence, subjob) in std::mem::take(&mut self.clients[at].held) {
            let failure = match self.random.below(24) {
                0..12 => None,
                12 => Some(FailureReason::ExitCode { code: 1 }),
                13 => Some(FailureReason::ClientSetup { why: "no".into() }),
                14 => Some(FailureReason::Evicted { why: "owner".into() }),
                _ => {
                    self.clients[at].held.insert(fence, subjob);
                    continue;
                }
            };
            let usage = Usage { wall: Duration::from_secs(60), ..Usage::default() };
            let report = VerifiedReport { fence, failure, outputs: Vec::new(), usage };
            self.clients[at].outbox.insert(fence, (subjob, report));
        }
        // A poll whose reply was lost is repeated with its number, or given up for a new one.
        let repeat = self.clients[at].seq > self.clients[at].answered && self.random.one_in(2);
        let client = &mut self.clients[at];
        client.seq += u64::from(!repeat);
        let request = PollRequest {
            seq: client.seq,
            answered: client.answered,
            capacity: Capacity {
                cpus: 3,
                memory: ByteSize::gib(9),
                disk: ByteSize::gib(9),
                permits: Permits::default(),
            },
            held: client.held.keys().chain(client.outbox.keys()).copied().collect(),
            reports: Vec::new(),
            inventory: None,
            wait_s: 0,
        };
        let reports = client.outbox.values().map(|(_, report)| report.clone()).collect();
        let outcome = self.grid.poll(Timestamp(self.now), client.id, &request, reports);
        let outcome = outcome.unwrap_or_else(|problem| panic!("seed {}: {}", self.seed, problem.detail));
        let fate = self.fate();
        let committed = self.end(fate);
        self.check_reports(at);
        let arrives = committed && (self.calm || !self.random.one_in(12));
        if arrives {
            self.take_reply(at, outcome);
        }
    }

    fn take_reply(&mut self, at: usize, outcome: PollOutcome) {
        let client = &mut self.clients[at];
        client.answered = client.seq;
        for fence in outcome.settled {
            client.outbox.remove(&fence);
        }
        for fence in outcome.cancel {
            client.held.remove(&fence);
            client.outbox.remove(&fence);
        }
        for lease in outcome.leases {
            client.held.entry(lease.fence).or_insert(lease.subjob);
        }
    }

    /// What was written under a fencing number must be of the subjob that the client ran under it.
    fn check_reports(&self, at: usize) {
        let client = &self.clients[at];
        for (fence, (subjob, _)) in &client.outbox {
            if let Some((written, by)) = self.store.outcome_under(*fence) {
                assert_eq!((written, by), (*subjob, client.id), "seed {}: lease {fence}", self.seed);
            }
        }
    }

    fn aggregate(&mut self) {
        let Some(job) = self.to_aggregate.pop() else { return };
        self.grid.aggregated(Timestamp(self.now), job, Ok(Vec::new()));
        let fate = self.fate();
        self.end(fate);
    }

    /// What must hold at every moment.
    fn check(&self) {
        let seed = self.seed;
        for (job, total) in &self.acknowledged {
            let view = self.grid.view_job(&admin(), *job);
            let view = view.unwrap_or_else(|_| panic!("seed {seed}: job {job} was lost"));
            let counts = view.counts;
            assert_eq!(counts.total, *total, "seed {seed}");
            let sum = counts.waiting + counts.running + counts.succeeded + counts.failed + counts.cancelled;
            assert_eq!(sum, *total, "seed {seed}: job {job} {counts:?}");
            let written = self.store.outcomes_of(*job);
            assert_eq!(written, counts.succeeded + counts.failed, "seed {seed}: job {job} {counts:?}");
        }
    }

    /// Lets everything end in peace.
    fn finish(&mut self) {
        self.calm = true;
        for _ in 0..20_000 {
            let open = |grid: &Grid, job: &JobId| {
                !grid.view_job(&admin(), *job).expect("acknowledged").state.is_final()
            };
            if !self.acknowledged.keys().any(|job| open(&self.grid, job)) {
                return;
            }
            self.step();
            // Back-offs end.
            self.now += 30_000;
        }
        panic!("seed {}: some job never ends", self.seed);
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_counts_twice() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let keys = Arc::new(GridKeys::open(directory.path()).expect("keys"));
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..=60 {
        let mut simulation = Simulation::new(seed, &keys);
        for _ in 0..600 {
            simulation.step();
        }
        simulation.finish();
        for (job, total) in &simulation.acknowledged {
            let view = simulation.grid.view_job(&admin(), *job).expect("acknowledged");
            *states.entry(view.state.name()).or_default() += 1;
            if view.state == JobState::Succeeded {
                assert_eq!(simulation.store.outcomes_of(*job), *total, "seed {seed}");
            }
        }
    }
    // The days were eventful enough to mean something.
    for state in ["succeeded", "failed", "cancelled"] {
        assert!(states.get(state).is_some_and(|count| *count > 20), "{states:?}");
    }
}
