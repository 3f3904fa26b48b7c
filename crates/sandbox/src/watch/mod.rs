//! The thread that watches one subjob: takes the VM Portal's reports, enforces by watching what the kernel can't,
//! and puts together how it ended.

mod processes;
mod unnamed;

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{ByteSize, Usage};
use rustix::event::{PollFd, PollFlags};

use crate::disk;
use crate::exit::{ClosedDialog, Ended, Exit, LimitHit, NetworkUse};
use crate::identity::Claim;
use crate::message::{Inbox, Report};
use crate::running::Shared;
use crate::spec::{Bounds, Output, Spec};
use unnamed::Unnamed;

/// Time between two looks at what only watching can limit.
const TICK: Duration = Duration::from_millis(100);

/// Looks between two measurements of the work directory, which cost a system call per file.
const DISK_TICKS: u32 = 5;

/// How long the VM Portal may take to kill all and report after its lifeline was cut, before it is killed too.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Watch {
    begun: Instant,
    limits: Bounds,
    /// Processes and threads that the program and its display may have.
    allowed_tasks: u32,
    work: PathBuf,
    unnamed: Unnamed,
    /// Those of the streams that go to files.
    streams: Vec<PathBuf>,
    /// Kept until all is cleared away, so that nobody else gets the id before.
    _claim: Claim,
    init: Child,
    channel: UnixStream,
    shared: Arc<Shared>,
    /// The first limit that was met.
    hit: Option<LimitHit>,
    /// When the lifeline was cut.
    cut: Option<Instant>,
    peak: u64,
    scratch: u64,
    /// Most processes and threads that were counted at one look.
    tasks: u32,
    /// Whether the number of processes was seen at its limit.
    crowded: bool,
    /// As many as the VM Portal let pass.
    dialogs: Vec<ClosedDialog>,
    end: Option<End>,
}

/// What the VM Portal said last.
struct End {
    ended: Ended,
    cpu: Duration,
    peak: u64,
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
            limits: spec.limits,
            allowed_tasks: spec.tasks(),
            work: spec.work.clone(),
            unnamed: Unnamed::new(&spec.work),
            streams: [&spec.stdout, &spec.stderr]
                .into_iter()
                .filter_map(Output::path)
                .map(Path::to_owned)
                .collect(),
            _claim: claim,
            init,
            channel,
            shared,
            hit: None,
            cut: None,
            peak: 0,
            scratch: 0,
            tasks: 0,
            crowded: false,
            dialogs: Vec::new(),
            end: None,
        }
    }

    /// Watches to the end. On return nothing of the subjob is left: no process, no mount, no control group.
    pub(crate) fn run(mut self) -> Exit {
        let mut inbox = Inbox::default();
        let mut next = Instant::now() + TICK;
        let mut ticks = 0;
        while self.receive(&mut inbox, next) {
            if Instant::now() >= next {
                next = Instant::now() + TICK;
                ticks += 1;
                if self.cut.is_none() {
                    self.look(ticks % DISK_TICKS == 0);
                }
                self.press();
            }
        }
        // The channel is closed: every process that held it has ended or is about to. Its exit follows at once;
        // an init that somehow hangs on has no purpose any more.
        if self.end.is_none() {
            let _ = self.init.kill();
        }
        let _ = self.init.wait();
        let wall = self.begun.elapsed();
        self.shared.note_end();
        self.look_last();
        let exit = self.exit(wall);
        // What can't be removed now is found at the client's next start.
        let _ = self.shared.group().remove();
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
        match report {
            Report::Started => (),
            Report::Scratch { used } => self.scratch = used,
            Report::Stopped(stopped) => self.shared.note_stopped(stopped),
            Report::Dialog(dialog) => self.dialogs.push(dialog),
            Report::Ended { ended, cpu, peak } => self.end = Some(End { ended, cpu, peak }),
        }
    }

    /// Cuts the lifeline when there is a reason to, and kills the VM Portal when that was not enough.
    fn press(&mut self) {
        match self.cut {
            None if self.hit.is_some() || self.shared.terminated().is_some() => {
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

    /// Looks whether a limit is met.
    fn look(&mut self, measure_disk: bool) {
        if self.shared.running_time(self.begun.elapsed()) > self.limits.wall {
            self.met(LimitHit::Wall { limit: self.limits.wall });
        }
        self.look_at_memory_kills();
        self.look_at_streams();
        if measure_disk {
            self.look_at_disk();
        }
        self.look_at_processes();
    }

    /// What must be known at the end even of a program too quick to be looked at.
    fn look_last(&mut self) {
        self.look_at_memory_kills();
        self.look_at_streams();
        self.look_at_disk();
        let failed = !matches!(self.end, Some(End { ended: Ended::Code(0), .. }));
        if failed && (self.crowded || self.shared.group().refused_processes() > 0) {
            let peak = self.shared.group().peak_processes().unwrap_or(self.tasks);
            // Those of a display are not the program's.
            let peak = peak.min(self.limits.processes);
            self.met(LimitHit::Processes { limit: self.limits.processes, peak });
        }
        // A program that was done already is done, whoever wanted to end it.
        let by_itself = matches!(self.end, Some(End { ended: Ended::Code(_), .. }));
        if let Some(cause) = self.shared.terminated().filter(|_| !by_itself) {
            self.met(LimitHit::Terminated { cause });
        }
    }

    fn look_at_memory_kills(&mut self) {
        if self.shared.group().memory_kills() > 0 {
            let limit = self.limits.memory;
            let peak = self.shared.group().peak_memory().unwrap_or(limit);
            self.met(LimitHit::Memory { limit, peak });
        }
    }

    fn look_at_streams(&mut self) {
        let limit = self.limits.stream;
        let sizes = self.streams.iter().filter_map(|path| path.metadata().ok()).map(|found| found.len());
        if let Some(size) = sizes.max().map(ByteSize).filter(|size| *size > limit) {
            self.met(LimitHit::Stream { limit, size });
        }
    }

    fn look_at_disk(&mut self) {
        let limit = self.limits.disk;
        let tree = || processes::below_portal(self.init.id());
        let used = disk::usage(&self.work).and(|| self.unnamed.space(&self.work, limit.0, || tree().pids));
        if used.exceeds(limit.0) {
            self.met(LimitHit::Disk { limit, used: ByteSize(used.bytes_or(limit.0)) });
        }
    }

    /// Counts what no control group counts.
    fn look_at_processes(&mut self) {
        let group = self.shared.group();
        let (watch_memory, watch_processes) = (!group.limits_memory(), !group.limits_processes());
        if !watch_memory && !watch_processes {
            return;
        }
        let tree = processes::below_portal(self.init.id());
        self.tasks = self.tasks.max(tree.tasks);
        if watch_processes && tree.tasks >= self.allowed_tasks {
            self.crowded = true;
        }
        if watch_memory {
            let limit = self.limits.memory;
            let used = tree.memory(limit.0.saturating_sub(self.scratch)) + self.scratch;
            self.peak = self.peak.max(used);
            if used > limit.0 {
                self.met(LimitHit::Memory { limit, peak: ByteSize(used) });
            }
        }
    }

    fn met(&mut self, hit: LimitHit) {
        self.hit.get_or_insert(hit);
    }

    fn exit(&mut self, wall: Duration) -> Exit {
        let group = self.shared.group();
        let (ended, cpu, peak) = match &self.end {
            Some(end) => (end.ended.clone(), end.cpu, end.peak),
            None if self.hit.is_some() => (Ended::Signal(libc::SIGKILL), Duration::ZERO, 0),
            None => {
                let why = "it ended without a report".to_owned();
                (Ended::Lost(why), Duration::ZERO, 0)
            }
        };
        let usage = Usage {
            wall,
            cpu: group.cpu_time().unwrap_or(cpu),
            peak_memory: group.peak_memory().unwrap_or(ByteSize(self.peak.max(peak))),
        };
        Exit {
            ended,
            hit: self.hit,
            usage,
            crash: None,
            dialogs: std::mem::take(&mut self.dialogs),
            network: NetworkUse::default(),
        }
    }
}
