//! The one thread that owns the grid.
//!
//! It drains what waits, lets the grid decide, commits what must be durable in one transaction, and only then do
//! answers leave. How much goes into one commit adapts to the disk by itself: while one is written, the next
//! gathers. If a commit fails, everybody in it is told so, and the state is loaded again as it was before.

mod handle;
mod parking;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use handle::Handle;
use handle::{Answer, Deferred, Message, deferred};
use model::{ClientId, JobId, Timestamp};
use parking::{Parked, Parking};
use protocol::api::{JobView, Problem, ProblemCode};
use protocol::client_link::{MAX_WAIT, PollReply, PollRequest};
use tokio::sync::oneshot;

use crate::aggregate::Aggregation;
use crate::files::Files;
use crate::grid::{Caller, Grid, PollOutcome, VerifiedReport};
use crate::keys::GridKeys;
use crate::problem::{files_problem, problem, store_problem};
use crate::store::{Op, Store, StoreError};

/// Most messages that wait for the loop; what comes on top is refused as overload.
const QUEUE: usize = 8_192;

/// Most messages in one commit.
const BATCH: usize = 4_096;

/// How often leases are looked at for having run out.
const TICK: Duration = Duration::from_secs(1);

/// Longer than this between two looks, and the server was suspended or starved: it could not hear its clients.
const STANDSTILL: Duration = Duration::from_secs(3);

/// Longest time for which a watched job may be waited for in one request.
const MAX_WATCH: Duration = Duration::from_secs(30);

/// The parts that a loop is made of.
pub struct Parts {
    pub store: Box<dyn Store>,
    pub files: Arc<dyn Files>,
    pub keys: Arc<GridKeys>,
    pub lease_ttl: Duration,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("files", &self.files).field("lease_ttl", &self.lease_ttl).finish()
    }
}

/// Starts the loop and the aggregator on threads of their own, which end with [`Handle::stop`].
pub fn start(parts: Parts) -> Result<(Handle, std::thread::JoinHandle<()>), StoreError> {
    let (messages, receiver) = sync_channel(QUEUE);
    let handle = Handle::new(messages);
    let grid = Grid::load(parts.store.load()?, Arc::clone(&parts.keys), parts.lease_ttl, clock());
    let aggregation = Aggregation::start(parts.store.reader()?, Arc::clone(&parts.files), &handle);
    let event_loop = EventLoop {
        parts,
        grid,
        aggregation,
        parked: Parking::default(),
        watchers: Vec::new(),
        deferred: Vec::new(),
        next_tick: Instant::now() + TICK,
        last_tick: clock(),
    };
    let thread = std::thread::Builder::new()
        .name("grid".into())
        .spawn(move || {
            // A server without its loop would refuse everybody for ever; one that is started again loads what
            // was committed.
            if catch_unwind(AssertUnwindSafe(|| event_loop.run(&receiver))).is_err() {
                std::process::abort();
            }
        })
        .expect("the system can start one more thread");
    Ok((handle, thread))
}

struct EventLoop {
    parts: Parts,
    grid: Grid,
    aggregation: Aggregation,
    /// Polls that are held because there is nothing to say.
    parked: Parking,
    watchers: Vec<Watcher>,
    /// Answers that leave after the next commit.
    deferred: Vec<Deferred>,
    next_tick: Instant,
    last_tick: Timestamp,
}

struct Watcher {
    caller: Caller,
    job: JobId,
    after: u64,
    until: Instant,
    reply: oneshot::Sender<Answer<JobView>>,
}

impl EventLoop {
    fn run(mut self, messages: &Receiver<Message>) {
        // What was left to do when the server last stopped.
        self.commit();
        loop {
            let wait = self.next_deadline().saturating_duration_since(Instant::now());
            let first = match messages.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(first, messages)));
            let stopping = turn.unwrap_or_else(|_| {
                tracing::error!("a request made the grid panic: the state is loaded again");
                let detail = "the server failed at a request that came together with this one";
                self.give_up(&problem(ProblemCode::Internal, detail, "try again"));
                false
            });
            self.commit();
            self.answer_watchers();
            if stopping {
                return;
            }
        }
    }

    fn tick(&mut self, now: Timestamp) {
        if now.since(self.last_tick) > STANDSTILL {
            tracing::info!("the server stood still for a while");
            self.grid.stood_still(now);
        }
        self.last_tick = now;
        self.grid.tick(now);
    }

    /// Takes what waits and decides; returns whether the loop is to stop.
    fn turn(&mut self, first: Option<Message>, messages: &Receiver<Message>) -> bool {
        let mut stopping = false;
        for message in first.into_iter().chain(messages.try_iter()).take(BATCH) {
            stopping |= matches!(message, Message::Stop);
            self.take(message);
        }
        if Instant::now() >= self.next_tick {
            self.next_tick = Instant::now() + TICK;
            self.tick(clock());
        }
        if self.grid.take_new_work() {
            self.offer_work();
        }
        stopping
    }

    fn next_deadline(&self) -> Instant {
        let watched = self.watchers.iter().map(|watcher| watcher.until);
        watched.chain(self.parked.first_deadline()).fold(self.next_tick, Instant::min)
    }

    fn take(&mut self, message: Message) {
        let now = clock();
        match message {
            Message::Call(call) => {
                let answer = call(&mut self.grid, now);
                self.deferred.push(answer);
            }
            Message::Poll { client, request, reports, reply } => {
                self.take_poll(now, client, request, reports, reply);
            }
            Message::Watch { caller, job, after, wait, reply } => {
                let until = Instant::now() + wait.min(MAX_WATCH);
                self.watchers.push(Watcher { caller, job, after, until, reply });
            }
            Message::Aggregated { job, result } => self.grid.aggregated(now, job, result),
            Message::Stop => {}
        }
    }

    fn take_poll(
        &mut self,
        now: Timestamp,
        client: ClientId,
        request: Box<PollRequest>,
        reports: Vec<VerifiedReport>,
        reply: oneshot::Sender<Answer<PollReply>>,
    ) {
        // A client has one poll at a time: an earlier one is a broken connection's.
        if let Some(earlier) = self.parked.remove(client) {
            let answer = poll_reply(&earlier.request, PollOutcome::default());
            self.deferred.push(deferred(earlier.reply, Ok(answer)));
        }
        match self.grid.poll(now, client, &request, reports) {
            Ok(outcome) if outcome.is_empty() && request.wait_s > 0 => {
                // A held poll is a heartbeat that has not come: a lease must outlast it by far.
                let most = MAX_WAIT.min(self.parts.lease_ttl / 3);
                let wait = Duration::from_secs(u64::from(request.wait_s)).min(most);
                self.parked.insert(client, Parked { request, until: Instant::now() + wait, reply });
            }
            Ok(outcome) => self.deferred.push(deferred(reply, Ok(poll_reply(&request, outcome)))),
            Err(problem) => self.deferred.push(deferred(reply, Err(problem))),
        }
    }

    /// Gives parked clients what has come to wait.
    fn offer_work(&mut self) {
        let now = clock();
        let clients: Vec<ClientId> = self.parked.clients();
        for client in clients {
            if !self.grid.has_waiting() {
                return;
            }
            let Some(parked) = self.parked.get(client) else { continue };
            let leases = self.grid.assign(now, client, &parked.request);
            if !leases.is_empty() {
                self.release(client, PollOutcome { leases, ..PollOutcome::default() });
            }
        }
    }

    /// Answers a parked poll after the next commit.
    fn release(&mut self, client: ClientId, outcome: PollOutcome) {
        if let Some(parked) = self.parked.remove(client) {
            let answer = poll_reply(&parked.request, outcome);
            self.deferred.push(deferred(parked.reply, Ok(answer)));
        }
    }

    fn commit(&mut self) {
        let now = Instant::now();
        for client in self.parked.late(now) {
            self.release(client, PollOutcome::default());
        }
        let effects = self.grid.take_effects();
        for (client, cancel) in effects.revoked_leases {
            self.release(client, PollOutcome { cancel, ..PollOutcome::default() });
        }
        if let Err(problem) = self.write(&effects.ops) {
            return self.give_up(&problem);
        }
        for answer in std::mem::take(&mut self.deferred) {
            answer(None);
        }
        effects.to_aggregate.into_iter().for_each(|job| self.aggregation.request(job));
    }

    /// Tells everybody who waits for the commit that there is none, and goes back to the last one.
    fn give_up(&mut self, problem: &Problem) {
        for answer in std::mem::take(&mut self.deferred) {
            answer(Some(problem));
        }
        self.reload();
    }

    fn write(&mut self, ops: &[Op]) -> Result<(), Problem> {
        if ops.is_empty() {
            return Ok(());
        }
        if ops.iter().any(refers_to_files) {
            self.parts.files.sync().map_err(|error| files_problem(&error))?;
        }
        self.parts.store.commit(ops).map_err(|error| store_problem(&error))
    }

    /// Goes back to what is committed. Held polls end, so that their clients ask again.
    fn reload(&mut self) {
        let clients: Vec<ClientId> = self.parked.clients();
        for client in clients {
            self.release(client, PollOutcome::default());
        }
        for answer in std::mem::take(&mut self.deferred) {
            answer(None);
        }
        let Parts { store, keys, lease_ttl, .. } = &self.parts;
        match store.load() {
            Ok(loaded) => self.grid = Grid::load(loaded, Arc::clone(keys), *lease_ttl, clock()),
            // Going on with a state that is not the committed one would lose or double work.
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the store can't be read: stopping"
                );
                std::process::abort();
            }
        }
    }

    fn answer_watchers(&mut self) {
        let now = Instant::now();
        for watcher in std::mem::take(&mut self.watchers) {
            match self.grid.view_job(&watcher.caller, watcher.job) {
                // Versions begin anew when the server is restarted, so a lower one is news too.
                Ok(view)
                    if view.version == watcher.after && !view.state.is_final() && watcher.until > now =>
                {
                    self.watchers.push(watcher);
                }
                answer => drop(watcher.reply.send(answer)),
            }
        }
    }
}

fn poll_reply(request: &PollRequest, outcome: PollOutcome) -> PollReply {
    let PollOutcome { leases, cancel, settled } = outcome;
    PollReply { seq: request.seq, leases, cancel, settled, next_poll_ms: 0 }
}

/// Whether an operation names blobs, which must then be as durable as it.
fn refers_to_files(op: &Op) -> bool {
    matches!(op, Op::AddJob(_) | Op::AddOutcome(_) | Op::AddFailedAttempt(_) | Op::SetResult { .. })
}

/// The time, asked for here and nowhere below.
fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
