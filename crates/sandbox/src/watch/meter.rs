//! What a subjob uses, held against its limits: what the kernel counts is asked for, everything else is counted here.
//!
//! The first limit that is met is the one that is told, with its value and the peak.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::ByteSize;

use super::processes::{self, Times};
use super::throttle::Moved;
use super::unnamed::Unnamed;
use crate::disk;
use crate::exit::{Ended, LimitHit};
use crate::running::Shared;
use crate::served::{FileServer, FileState, FileTrouble};
use crate::spec::{Bounds, Output, Spec};

/// Looks between two measurements of the work directory, which cost a system call per file.
const DISK_LOOKS: u32 = 5;

/// Processes and threads that may be refused. A program that goes on asking does nothing else, and ends.
const MAX_REFUSALS: u64 = 250;

#[derive(Debug)]
pub(super) struct Meter {
    limits: Bounds,
    /// Processes and threads that the program and its display may have.
    tasks_allowed: u32,
    files: Files,
    /// Those of the streams that go to files.
    streams: Vec<PathBuf>,
    shared: Arc<Shared>,
    init: u32,
    /// The first limit that was met.
    pub(super) hit: Option<LimitHit>,
    /// Bytes in `/tmp` and `/dev/shm`, as the VM Portal last said, where no control group counts them.
    pub(super) scratch: u64,
    looks: u32,
    /// The most memory that was counted at one look.
    memory: u64,
    /// Most processes and threads that were counted at one look.
    tasks: u32,
    /// Whether the number of processes was seen at its limit.
    crowded: bool,
    times: Times,
    cpu: Duration,
    /// Of the server of its files, which works for nobody else.
    served: Duration,
}

/// Where the subjob's files are, and how it is found out what they take.
#[derive(Debug)]
enum Files {
    Plain { work: PathBuf, unnamed: Unnamed },
    Served(Arc<dyn FileServer>),
}

impl Meter {
    /// `init` is the process whose only child is the VM Portal.
    pub(super) fn new(spec: &Spec, shared: Arc<Shared>, init: u32) -> Self {
        let streams = [&spec.stdout, &spec.stderr].into_iter().filter_map(Output::path).map(Path::to_owned);
        Meter {
            limits: spec.limits,
            tasks_allowed: spec.tasks(),
            files: match &spec.served {
                Some(served) => Files::Served(Arc::clone(&served.server)),
                None => Files::Plain { work: spec.work.clone(), unnamed: Unnamed::new(&spec.work) },
            },
            streams: streams.filter(|path| !spec.is_served(path)).collect(),
            shared,
            init,
            hit: None,
            scratch: 0,
            looks: 0,
            memory: 0,
            tasks: 0,
            crowded: false,
            times: Times::default(),
            cpu: Duration::ZERO,
            served: Duration::ZERO,
        }
    }

    /// Looks whether a limit is met, `since_start` after it began.
    pub(super) fn look(&mut self, since_start: Duration) {
        if self.shared.running_time(since_start) > self.limits.wall {
            self.met(LimitHit::Wall { limit: self.limits.wall });
        }
        self.look_at_memory_kills();
        self.look_at_streams();
        self.look_at_cpu();
        self.looks += 1;
        if self.looks.is_multiple_of(DISK_LOOKS) {
            self.look_at_disk();
        }
        self.look_at_processes();
    }

    /// What must be known at the end even of a program too quick to be looked at. `cpu` is what the VM Portal counted.
    pub(super) fn look_last(&mut self, ended: Option<&Ended>, cpu: Duration) {
        self.look_at_memory_kills();
        self.look_at_streams();
        self.look_at_disk();
        self.cpu = self.own_cpu().max(cpu);
        if ended != Some(&Ended::Code(0)) {
            if self.crowded || self.shared.group().refused_processes() > 0 {
                self.met_processes();
            }
            self.check_cpu();
        }
        // A program that was done already is done, whoever wanted to end it.
        let by_itself = matches!(ended, Some(Ended::Code(_)));
        if let Some(cause) = self.shared.terminated().filter(|_| !by_itself) {
            self.met(LimitHit::Terminated { cause });
        }
    }

    /// Processor time of all its processes and of what serves its files, as far as it is known by now.
    pub(super) fn cpu(&self) -> Duration {
        self.own_cpu() + self.served
    }

    fn own_cpu(&self) -> Duration {
        self.shared.group().cpu_time().unwrap_or(self.cpu)
    }

    /// The most memory it had; `single` is the most that any one process had.
    pub(super) fn peak_memory(&self, single: u64) -> ByteSize {
        self.shared.group().peak_memory().unwrap_or(ByteSize(self.memory.max(single)))
    }

    /// What its processes have read from files, and written.
    pub(super) fn moved(&self) -> Moved {
        let mut pids = self.pids();
        pids.extend(processes::portal(self.init));
        processes::moved(&pids)
    }

    fn pids(&self) -> Vec<u32> {
        self.shared.group().members().unwrap_or_else(|| processes::below_portal(self.init).pids)
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

    fn look_at_cpu(&mut self) {
        if self.limits.cpu.is_none() {
            return;
        }
        self.cpu = match self.shared.group().cpu_time() {
            Some(used) => used,
            None => self.times.look(self.init, &self.pids()).max(self.cpu),
        };
        self.check_cpu();
    }

    fn check_cpu(&mut self) {
        let used = self.cpu + self.served;
        if let Some(limit) = self.limits.cpu.filter(|limit| used > *limit) {
            self.met(LimitHit::Cpu { limit, used });
        }
    }

    fn look_at_disk(&mut self) {
        let limit = self.limits.disk;
        let (work, unnamed) = match &self.files {
            Files::Plain { work, unnamed } => (work, unnamed),
            Files::Served(server) => {
                let state = server.state().ok();
                return self.look_at_served(state);
            }
        };
        let shared = Arc::clone(&self.shared);
        let used =
            disk::usage(work, &mut || shared.beat()).and(|| unnamed.space(work, limit.0, || self.pids()));
        if used.exceeds(limit.0) {
            self.met(LimitHit::Disk { limit, used: ByteSize(used.bytes_or(limit.0)) });
        }
    }

    /// The server has refused already what was too much; the program may not have noticed, as the kernel writes later
    /// than it.
    fn look_at_served(&mut self, state: Option<FileState>) {
        let Some(FileState { used, stream, cpu, trouble }) = state else {
            return self.met(LimitHit::FilesLost);
        };
        self.served = cpu;
        let limit = self.limits.disk;
        match trouble {
            Some(FileTrouble::OutOfSpace) => self.met(LimitHit::Disk { limit, used: used.max(limit) }),
            Some(FileTrouble::Tampered) => self.met(LimitHit::Tampered),
            Some(FileTrouble::Lost) => self.met(LimitHit::FilesLost),
            None => {}
        }
        let limit = self.limits.stream;
        if stream > limit {
            self.met(LimitHit::Stream { limit, size: stream });
        }
    }

    /// Counts what no control group counts.
    fn look_at_processes(&mut self) {
        let group = self.shared.group();
        if group.refused_processes() > MAX_REFUSALS {
            self.met_processes();
        }
        let group = self.shared.group();
        let (watch_memory, watch_processes) = (!group.limits_memory(), !group.limits_processes());
        if !watch_memory && !watch_processes {
            return;
        }
        let tree = processes::below_portal(self.init);
        self.tasks = self.tasks.max(tree.tasks);
        if watch_processes && tree.tasks >= self.tasks_allowed {
            self.crowded = true;
        }
        if watch_memory {
            let limit = self.limits.memory;
            let used = tree.memory(limit.0.saturating_sub(self.scratch)) + self.scratch;
            self.memory = self.memory.max(used);
            if used > limit.0 {
                self.met(LimitHit::Memory { limit, peak: ByteSize(used) });
            }
        }
    }

    fn met_processes(&mut self) {
        // Where the kernel counts them it is never more than the limit; older ones don't keep the peak.
        let limit = self.limits.processes;
        let refused = self.shared.group().refused_processes() > 0;
        let seen = if refused { limit } else { self.tasks };
        let peak = self.shared.group().peak_processes().unwrap_or(seen);
        // Those of a display are not the program's.
        self.met(LimitHit::Processes { limit, peak: peak.min(limit) });
    }

    fn met(&mut self, hit: LimitHit) {
        self.hit.get_or_insert(hit);
    }
}
