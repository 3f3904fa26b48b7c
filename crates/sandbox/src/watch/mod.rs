//! The thread that watches one subjob: takes the VM Portal's reports, enforces by watching what the kernel can't,
//! and puts together how it ended.

mod meter;
mod processes;
mod throttle;
mod unnamed;

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Usage;
use rustix::event::{PollFd, PollFlags};

use self::meter::Meter;
use self::throttle::{Step, Throttle};
use crate::crash;
use crate::exit::{ClosedDialog, Ended, Exit, NetworkUse};
use crate::heartbeat::Heartbeat;
use crate::identity::Claim;
use crate::message::{Inbox, Report};
use crate::running::{Halt, Shared};
use crate::served::Tree;
use crate::spec::Spec;

/// Time between two looks at what only watching can limit.
const TICK: Duration = Duration::from_millis(100);

/// How long the VM Portal may take to kill all and report after its lifeline was cut, before it is killed too.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Watch {
    begun: Instant,
    /// Kept until all is cleared away, so that nobody else gets the id before.
    _claim: Claim,
    init: Child,
    channel: UnixStream,
    shared: Arc<Shared>,
    meter: Meter,
    throttle: Option<Throttle>,
    heartbeat: Heartbeat,
    /// When the lifeline was cut.
    cut: Option<Instant>,
    /// As many as the VM Portal let pass.
    dialogs: Vec<ClosedDialog>,
    /// The application's files, for the names of functions in a crash.
    tree: Tree,
    /// The last crash, as the portal loader has told it.
    crash: Option<Vec<u8>>,
    end: Option<End>,
    /// Why the VM Portal was given up.
    lost: Option<String>,
    network: NetworkUse,
}

/// What the VM Portal said last.
struct End {
    ended: Ended,
    cpu: Duration,
    peak: u64,
    registered: u32,
}

impl Watch {
    pub(crate) fn new(
        begun: Instant,
        spec: &Spec,
        claim: Claim,
        init: Child,
        channel: UnixStream,
        shared: Arc<Shared>,
    ) -> Self {
        Watch {
            begun,
            meter: Meter::new(spec, Arc::clone(&shared), init.id()),
            throttle: spec.limits.io_rate.map(|rate| Throttle::new(rate.0, begun)),
            heartbeat: Heartbeat::of_one_that_starts(begun),
            _claim: claim,
            init,
            channel,
            shared,
            cut: None,
            dialogs: Vec::new(),
            tree: Tree::of(spec),
            crash: None,
            end: None,
            lost: None,
            network: NetworkUse::default(),
        }
    }

    /// Watches to the end. On return nothing of the subjob is left: no process, no mount, no control group.
    pub(crate) fn run(mut self) -> Exit {
        let mut inbox = Inbox::default();
        let mut next = Instant::now() + TICK;
        while self.receive(&mut inbox, self.next_look().map_or(next, |look| look.min(next))) {
            if self.cut.is_none() && self.end.is_none() {
                self.halt_or_run();
            }
            if Instant::now() >= next {
                next = Instant::now() + TICK;
                self.keep_the_beat();
                // After its end, what a program has sent may still be on its way for a while.
                if self.cut.is_none() && self.end.is_none() {
                    self.meter.look(self.begun.elapsed());
                }
                self.press();
            }
        }
        // The channel is closed: every process that held it has ended or is about to. An init that somehow hangs on
        // has no purpose any more.
        if self.end.is_none() {
            let _ = self.init.kill();
            let _ = self.init.wait();
        }
        let wall = self.begun.elapsed();
        self.shared.note_end();
        self.meter.look_last(self.end.as_ref().map(|end| &end.ended), self.end_cpu());
        let exit = self.exit(wall);
        // What can't be removed now is found at the client's next start.
        let _ = self.shared.group().remove();
        // Only now, because meanwhile the kernel takes down its mounts.
        let _ = self.init.wait();
        exit
    }

    /// Takes reports until `deadline`; false when there will be no more.
    fn receive(&mut self, inbox: &mut Inbox, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut wanted = [PollFd::new(&self.channel, PollFlags::IN)];
        let left = left.try_into().expect("a tick fits any time type");
        match rustix::event::poll(&mut wanted, Some(&left)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return true,
            Ok(_) => (),
            Err(_) => return false,
        }
        let mut buffer = [0; 4_096];
        match self.channel.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => inbox.push(&buffer[..length]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => return false,
        }
        loop {
            match inbox.pop() {
                Ok(Some(report)) => self.take(report),
                Ok(None) => return true,
                // Our own binary wrote it, so this is a portal gone mad; treat it as lost.
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, report: Report) {
        let now = Instant::now();
        match report {
            Report::Started => (),
            Report::Dialog(dialog) => self.dialogs.push(dialog),
            Report::Beat => self.heartbeat.hear(now),
            Report::Scratch { used } => self.meter.scratch = used,
            Report::Obeyed { done } => self.shared.note_obeyed(done),
            Report::Crash { frame } => self.crash = Some(frame),
            Report::Ended { ended, cpu, peak, registered } => {
                self.end = Some(End { ended, cpu, peak, registered });
            }
            Report::Network(used) => self.network = used,
        }
    }

    /// When the rate of input and output wants a look.
    fn next_look(&self) -> Option<Instant> {
        self.throttle.as_ref().filter(|_| self.cut.is_none() && self.end.is_none()).map(Throttle::next)
    }

    /// Lets the subjob stand still as long as it is ahead of its rate of input and output.
    fn halt_or_run(&mut self) {
        let now = Instant::now();
        let Some(throttle) = self.throttle.as_mut().filter(|throttle| now >= throttle.next()) else {
            return;
        };
        // A subjob that can't be halted or released has ended, or its VM Portal has: both are found out otherwise.
        let moved = self.meter.moved();
        let _ = match throttle.look(now, moved, now.elapsed()) {
            Step::Halt => self.shared.halt_for_rate(),
            Step::Run => self.shared.release(Halt::Rate),
        };
    }

    /// Tells the VM Portal that we are there, and gives it up when it doesn't do so.
    fn keep_the_beat(&mut self) {
        if self.cut.is_some() || self.end.is_some() {
            return;
        }
        self.shared.beat();
        if self.lost.is_none() && self.heartbeat.is_lost(Instant::now()) {
            let silence = self.heartbeat.limit().as_secs();
            self.lost = Some(format!("nothing was heard of it for {silence} s"));
            // It may be stopped, when it can't even take an order to end.
            let _ = self.init.kill();
        }
    }

    fn end_cpu(&self) -> Duration {
        self.end.as_ref().map_or(Duration::ZERO, |end| end.cpu)
    }

    /// Cuts the lifeline when there is a reason to, and kills the VM Portal when that was not enough.
    fn press(&mut self) {
        match self.cut {
            None if self.meter.hit.is_some() || self.shared.terminated().is_some() => {
                self.shared.cut_lifeline();
                self.cut = Some(Instant::now());
            }
            Some(cut) if cut.elapsed() > REPORT_TIMEOUT => {
                // Kills init, on whose death the kernel kills the VM Portal, and with it all the rest.
                let _ = self.init.kill();
            }
            _ => (),
        }
    }

    fn exit(&mut self, wall: Duration) -> Exit {
        let ended = match (&self.end, self.meter.hit) {
            (Some(end), _) => end.ended.clone(),
            (None, Some(_)) => Ended::Signal(libc::SIGKILL),
            (None, None) => {
                let why = self.lost.clone().unwrap_or_else(|| "it ended without a report".to_owned());
                Ended::Lost(why)
            }
        };
        let peak = self.end.as_ref().map_or(0, |end| end.peak);
        let usage = Usage {
            wall,
            cpu: self.meter.cpu().max(self.end_cpu()),
            peak_memory: self.meter.peak_memory(peak),
        };
        Exit {
            ended,
            hit: self.meter.hit,
            usage,
            crash: self.crash.as_deref().and_then(|frame| crash::explain(&self.tree, frame)),
            registered: self.end.as_ref().map_or(0, |end| end.registered),
            dialogs: std::mem::take(&mut self.dialogs),
            network: std::mem::take(&mut self.network),
        }
    }
}
