//! The main loop of a client: polls, attempts, reports.
//!
//! ```text
//!             ┌── poll (held by the server while there is nothing to say) ──┐
//!   leases ◄──┤                                                             │◄── reports of attempts
//!   cancels ◄─┘   a second one is sent at once when there is a report; the  ┘    that have ended
//!                 server then answers the first
//! ```
//! An attempt's report is kept and sent again until the server has settled it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use link::http::Address;
use link::trust::Trust;
use link::{ClientLink, LinkError};
use model::{ByteSize, Capacity, FailureClass, FailureReason, Fence, Permits, Resources, Usage};
use protocol::api::ProblemCode;
use protocol::client_link::{Lease, MAX_PER_POLL, PollReply, PollRequest, Report};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ControllerError;
use crate::attempt::{self, Order};
use crate::backoff::Backoff;
use crate::controller::Controller;
use crate::inventory::{available_memory, free_disk, inventory};
use crate::verdict::describe;

/// How long the server may hold a poll; also the rhythm of heartbeats.
const POLL_WAIT: Duration = Duration::from_secs(25);

/// How long a client that stops waits for its last report to be taken.
const FAREWELL: Duration = Duration::from_secs(5);

const SECOND: Duration = Duration::from_secs(1);

/// Longest pause between polls that the server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A running controller's state.
pub(crate) struct Work<'a> {
    controller: &'a Controller,
    address: Address,
    trust: Trust,
    idle_links: Vec<ClientLink>,
    /// Number of the newest poll.
    seq: u64,
    /// Number of the newest poll whose reply has arrived.
    answered: u64,
    polls: JoinSet<Polled>,
    attempts: JoinSet<(Fence, Report)>,
    /// What runs: how to tell it something, and what it takes.
    orders: HashMap<Fence, Begun>,
    /// Reports that the server has not settled, with the poll that carries each.
    unsettled: BTreeMap<Fence, (Report, Option<u64>)>,
    inventory_sent: bool,
    backoff: Backoff,
    /// Pauses after failures of our own, and until when this one lasts: what is broken here now would fail the next
    /// subjob just as soon.
    faults: Backoff,
    resting_until: Option<tokio::time::Instant>,
    /// No poll before this time: the server could not be reached, or asked for a pause.
    waiting_until: Option<tokio::time::Instant>,
}

/// A subjob that runs here.
struct Begun {
    orders: watch::Sender<Order>,
    resources: Resources,
    /// Its files are sealed, so what it is and why it failed is not written to a log.
    is_sealed: bool,
}

/// A poll that has come back, with its connection.
struct Polled {
    seq: u64,
    link: ClientLink,
    carried_inventory: bool,
    result: Result<PollReply, LinkError>,
}

impl<'a> Work<'a> {
    pub(crate) fn new(controller: &'a Controller) -> Result<Self, ControllerError> {
        // Newer than any number of an earlier run, without keeping a counter on the disk.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seq = u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2);
        Ok(Work {
            controller,
            address: Address::parse(&controller.membership.server)?,
            trust: controller.membership.trust(),
            idle_links: Vec::new(),
            seq,
            answered: seq,
            polls: JoinSet::new(),
            attempts: JoinSet::new(),
            orders: HashMap::new(),
            unsettled: BTreeMap::new(),
            inventory_sent: false,
            backoff: Backoff::default(),
            faults: Backoff::default(),
            resting_until: None,
            waiting_until: None,
        })
    }

    /// Works until it is told to stop.
    pub(crate) async fn until(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), ControllerError> {
        loop {
            self.poll_if_due(POLL_WAIT)?;
            let wake = self.waiting_until.unwrap_or_else(|| tokio::time::Instant::now() + POLL_WAIT);
            tokio::select! {
                stopped = stop.wait_for(|stop| *stop) => {
                    drop(stopped);
                    return Ok(());
                }
                Some(polled) = self.polls.join_next() => {
                    self.take_poll(polled.expect("a poll does not panic"))?;
                }
                Some(ended) = self.attempts.join_next() => {
                    let (fence, report) = ended.expect("an attempt does not panic");
                    self.take_report(fence, report);
                }
                () = tokio::time::sleep_until(wake), if self.waiting_until.is_some() => {
                    self.waiting_until = None;
                }
            }
        }
    }

    /// Sends a poll when none is under way, or when there is a report that none carries.
    fn poll_if_due(&mut self, wait: Duration) -> Result<(), ControllerError> {
        if self.waiting_until.is_some() {
            return Ok(());
        }
        let news = self.unsettled.values().any(|(_, carrier)| carrier.is_none());
        let due = self.polls.is_empty() || (news && self.polls.len() < 2);
        if !due {
            return Ok(());
        }
        let mut link = match self.idle_links.pop() {
            Some(link) => link,
            None => self.new_link()?,
        };
        self.seq += 1;
        let request = self.request(wait);
        let (seq, carried_inventory) = (request.seq, request.inventory.is_some());
        let grid_key = self.controller.membership.grid_key;
        self.polls.spawn(async move {
            let result = link.poll(&request, &grid_key).await;
            Polled { seq, link, carried_inventory, result }
        });
        Ok(())
    }

    fn request(&mut self, wait: Duration) -> PollRequest {
        let seq = self.seq;
        let mut reports = Vec::new();
        for (report, carrier) in self.unsettled.values_mut().filter(|(_, carrier)| carrier.is_none()) {
            if reports.len() == MAX_PER_POLL / 2 {
                break;
            }
            *carrier = Some(seq);
            reports.push(report.clone());
        }
        let held = self.orders.keys().chain(self.unsettled.keys()).copied().collect();
        let config = &self.controller.config;
        let inventory = (!self.inventory_sent).then(|| inventory(config, self.controller.memory));
        PollRequest {
            seq,
            answered: self.answered,
            capacity: self.capacity(),
            held,
            reports,
            inventory,
            // Rounded up, so that a short rest is no reason to ask again and again.
            wait_s: u32::try_from(self.rest().map_or(wait, |rest| wait.min(rest + SECOND)).as_secs())
                .unwrap_or(0),
        }
    }

    /// How long no subjob is to be begun, if there is reason to wait.
    fn rest(&self) -> Option<Duration> {
        let left = self.resting_until?.saturating_duration_since(tokio::time::Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// What is free: the configured share less what runs, and never more than the machine has at the moment.
    fn capacity(&self) -> Capacity {
        let config = &self.controller.config;
        let cpus = if self.rest().is_some() { 0 } else { config.cpus };
        let taken = self.taken();
        let free = free_disk(&config.state).0.saturating_sub(config.disk_floor.0);
        let available = available_memory().0;
        Capacity {
            cpus: cpus.saturating_sub(taken.cpus),
            memory: ByteSize(self.controller.memory.0.saturating_sub(taken.memory.0).min(available)),
            disk: ByteSize(free.saturating_sub(taken.disk.0)),
            permits: config.permits,
        }
    }

    /// What runs may use together.
    fn taken(&self) -> Resources {
        let none = Resources { cpus: 0, memory: ByteSize(0), disk: ByteSize(0), needs: Permits::default() };
        self.orders.values().fold(none, |sum, Begun { resources, .. }| Resources {
            cpus: sum.cpus.saturating_add(resources.cpus),
            memory: ByteSize(sum.memory.0.saturating_add(resources.memory.0)),
            disk: ByteSize(sum.disk.0.saturating_add(resources.disk.0)),
            needs: sum.needs,
        })
    }

    /// Whether a lease stays within what the desktop's owner gives, whatever the server makes of it.
    fn fits(&self, more: Resources) -> bool {
        let (taken, given) = (self.taken(), self.controller.memory);
        more.cpus <= self.controller.config.cpus.saturating_sub(taken.cpus)
            && more.memory.0 <= given.0.saturating_sub(taken.memory.0)
    }

    fn take_poll(&mut self, polled: Polled) -> Result<(), ControllerError> {
        let Polled { seq, link, carried_inventory, result } = polled;
        self.idle_links.push(link);
        match result {
            Ok(reply) => {
                self.backoff = Backoff::default();
                self.inventory_sent |= carried_inventory;
                self.answered = self.answered.max(seq);
                self.take_reply(&reply);
                if reply.next_poll_ms > 0 {
                    let pause = Duration::from_millis(reply.next_poll_ms).min(LONGEST_PAUSE);
                    self.waiting_until = Some(tokio::time::Instant::now() + pause);
                }
                for lease in reply.leases {
                    self.begin(lease)?;
                }
            }
            Err(error) => {
                let refused =
                    matches!(error.code(), Some(ProblemCode::ClientRevoked | ProblemCode::NotLoggedIn));
                if refused {
                    return Err(error.into());
                }
                self.retry(seq, &error);
            }
        }
        Ok(())
    }

    fn take_reply(&mut self, reply: &PollReply) {
        for fence in &reply.settled {
            self.unsettled.remove(fence);
        }
        for fence in &reply.cancel {
            self.unsettled.remove(fence);
            if let Some(begun) = self.orders.get(fence) {
                begun.orders.send_replace(Order::Cancel);
            }
        }
    }

    /// Lets a poll's reports be sent again. What the server can't store however often it is sent is reported as
    /// this client's failure instead.
    fn retry(&mut self, seq: u64, error: &LinkError) {
        let hopeless = matches!(
            error.code(),
            Some(ProblemCode::MissingBlobs | ProblemCode::HashMismatch | ProblemCode::TooLarge)
        );
        for (report, carrier) in self.unsettled.values_mut().filter(|(_, carrier)| *carrier == Some(seq)) {
            *carrier = None;
            if hopeless {
                report.outputs.clear();
                report.failure = Some(FailureReason::ClientSetup { why: describe(error) });
            }
        }
        let pause = self.backoff.next();
        tracing::warn!(error = describe(error), ?pause, "poll failed");
        self.waiting_until = Some(tokio::time::Instant::now() + pause);
    }

    fn begin(&mut self, lease: Lease) -> Result<(), ControllerError> {
        if self.orders.contains_key(&lease.fence) {
            return Ok(());
        }
        if !self.fits(lease.resources) {
            let why = "the lease is for more than this client offered".to_owned();
            let failure = Some(FailureReason::ClientSetup { why });
            let usage = Usage::default();
            let report = Report { fence: lease.fence, failure, outputs: Vec::new(), usage };
            self.unsettled.insert(lease.fence, (report, None));
            return Ok(());
        }
        let is_sealed = self.controller.shared.seals(&lease);
        let job = if is_sealed { "sealed" } else { lease.job_name.as_str() };
        tracing::info!(subjob = %lease.subjob, attempt = lease.attempt, job, "subjob begins");
        let (sender, orders) = watch::channel(Order::Run);
        let begun = Begun { orders: sender, resources: lease.resources, is_sealed };
        self.orders.insert(lease.fence, begun);
        let link = self.new_link()?;
        let shared = Arc::clone(&self.controller.shared);
        self.attempts.spawn(async move {
            let report = attempt::run(&shared, link, &lease, orders).await;
            (lease.fence, report)
        });
        Ok(())
    }

    fn take_report(&mut self, fence: Fence, report: Report) {
        let begun = self.orders.remove(&fence);
        let order = begun.as_ref().map(|begun| *begun.orders.borrow());
        if report.failure.as_ref().is_some_and(|reason| reason.class() == FailureClass::ClientFault) {
            self.resting_until = Some(tokio::time::Instant::now() + self.faults.next());
        } else {
            self.faults = Backoff::default();
        }
        match &report.failure {
            None => tracing::info!(%fence, wall = ?report.usage.wall, "subjob succeeded"),
            Some(reason) if begun.is_some_and(|begun| begun.is_sealed) => {
                tracing::info!(%fence, class = %reason.class(), "sealed subjob failed");
            }
            Some(reason) => tracing::info!(%fence, %reason, "subjob failed"),
        }
        if order != Some(Order::Cancel) {
            self.unsettled.insert(fence, (report, None));
        }
    }

    fn new_link(&self) -> Result<ClientLink, ControllerError> {
        let keys = Arc::clone(&self.controller.shared.keys);
        Ok(ClientLink::new(self.address.clone(), &self.trust, keys)?)
    }

    /// Ends what runs and says so to the server, for as long as it takes but no longer than [`FAREWELL`].
    pub(crate) async fn farewell(&mut self) {
        for begun in self.orders.values() {
            begun.orders.send_replace(Order::Stop);
        }
        while let Some(ended) = self.attempts.join_next().await {
            let (fence, report) = ended.expect("an attempt does not panic");
            self.take_report(fence, report);
        }
        self.polls.abort_all();
        self.polls.shutdown().await;
        if self.unsettled.is_empty() {
            return;
        }
        for (_, carrier) in self.unsettled.values_mut() {
            *carrier = None;
        }
        self.waiting_until = None;
        let said = async {
            self.poll_if_due(Duration::ZERO).ok()?;
            self.polls.join_next().await
        };
        if tokio::time::timeout(FAREWELL, said).await.is_err() {
            tracing::info!("the server could not be told; its leases will run out");
        }
    }
}
