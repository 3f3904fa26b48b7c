//! A subjob that runs: waiting for its end, and pausing, resuming or terminating it meanwhile.
//!
//! ```text
//! running ──pause──► paused        any ──terminate, a limit, the program's end, drop──► ended
//!    ▲                  │
//!    └─────resume───────┘
//! ```

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use model::Usage;
use thiserror::Error;

use crate::control_group::{ControlGroup, Hurry};
use crate::error::SandboxError;
use crate::exit::{Cause, Ended, Exit, NetworkUse};
use crate::heartbeat::Heartbeat;
use crate::identity::Claim;
use crate::message::Order;
use crate::spec::Spec;
use crate::watch::Watch;

/// How long the VM Portal may take to stop or continue all processes, where there is no freezer. To stop, each has
/// to run once more, and on a busy desktop one of the idle class waits for that.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// A started subjob. Dropped, it is killed and all of it cleared away.
#[derive(Debug)]
pub struct Running {
    control: Control,
    /// Ends with the subjob; taken by `wait` or `drop`.
    watcher: Option<JoinHandle<Exit>>,
}

/// Steers a running subjob from any thread; outlives it without harm.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

/// Why a subjob could not be paused or resumed.
#[derive(Debug, Error)]
pub enum ControlError {
    #[error("the subjob has ended")]
    Ended,
    #[error("can't {operation} the subjob")]
    Failed { operation: &'static str, source: io::Error },
}

/// What the watching thread and the controls share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Our end of the channel: for orders, and to cut the lifeline. Reading is the watcher's.
    channel: UnixStream,
    group: ControlGroup,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while the processes are told, so that they are told in the order of the decisions.
    halts: Mutex<Halts>,
}

/// Who wants the processes to stand still. They run when nobody does.
#[derive(Debug, Default)]
struct Halts {
    owner: bool,
    rate: bool,
    /// Orders that the VM Portal was given, where there is no freezer.
    ordered: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The desktop's owner, or the policy that speaks for them.
    Owner,
    /// The rate of file input and output.
    Rate,
}

#[derive(Debug)]
struct State {
    /// Set while paused.
    paused_since: Option<Instant>,
    /// Time of the pauses that are over.
    paused: Duration,
    /// Orders that the VM Portal has answered.
    obeyed: u64,
    /// What it said of the last of them.
    done: bool,
    /// Of our own beats.
    heartbeat: Heartbeat,
    terminated: Option<Cause>,
    ended: bool,
}

impl Running {
    pub(crate) fn watch(
        begun: Instant,
        spec: &Spec,
        claim: Claim,
        group: ControlGroup,
        init: Child,
        channel: UnixStream,
    ) -> Result<Running, SandboxError> {
        let reading = channel.try_clone().map_err(|source| SandboxError::Channel { source })?;
        let state = State {
            paused_since: None,
            paused: Duration::ZERO,
            obeyed: 0,
            done: false,
            heartbeat: Heartbeat::new(begun),
            terminated: None,
            ended: false,
        };
        let shared = Arc::new(Shared {
            channel,
            group,
            state: Mutex::new(state),
            changed: Condvar::new(),
            halts: Mutex::default(),
        });
        let watch = Watch::new(begun, spec, claim, init, reading, Arc::clone(&shared));
        // The kernel cuts a thread's name at 15 bytes; a subjob's number fits.
        let watcher = thread::Builder::new()
            .name(format!("watch {}", spec.name))
            .spawn(move || watch.run())
            .map_err(|source| SandboxError::Thread { source })?;
        Ok(Running { control: Control { shared }, watcher: Some(watcher) })
    }

    /// Waits until nothing of the subjob runs any more.
    pub fn wait(mut self) -> Exit {
        let ended = self.watcher.take().map(JoinHandle::join);
        match ended {
            Some(Ok(exit)) => exit,
            Some(Err(_)) | None => {
                self.control.shared.cut_lifeline();
                let ended = Ended::Setup("the thread that watched the subjob failed".to_owned());
                Exit {
                    ended,
                    hit: None,
                    usage: Usage::default(),
                    crash: None,
                    registered: 0,
                    dialogs: Vec::new(),
                    network: NetworkUse::default(),
                }
            }
        }
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            self.control.terminate(Cause::Shutdown);
            // A panic of the watcher has been printed where it happened; here is nobody to tell.
            let _ = watcher.join();
        }
    }
}

impl Control {
    /// Stops every process of the subjob and returns when they stand still. Wall time stops with them.
    ///
    /// # Errors
    /// When the subjob has ended or doesn't stop in time; it may then be partly stopped.
    pub fn pause(&self) -> Result<(), ControlError> {
        self.shared.check_runs()?;
        let failed = |source| ControlError::Failed { operation: "pause", source };
        self.shared.halt_for_owner().map_err(failed)?;
        self.shared.lock().paused_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Lets the subjob run again.
    ///
    /// # Errors
    /// When the subjob has ended or can't be told.
    pub fn resume(&self) -> Result<(), ControlError> {
        self.shared.check_runs()?;
        let failed = |source| ControlError::Failed { operation: "resume", source };
        self.shared.release(Halt::Owner).map_err(failed)?;
        let mut state = self.shared.lock();
        if let Some(since) = state.paused_since.take() {
            state.paused += since.elapsed();
        }
        Ok(())
    }

    /// Kills the subjob with all that it started. The first cause given is the one reported.
    pub fn terminate(&self, cause: Cause) {
        self.shared.lock().terminated.get_or_insert(cause);
        self.shared.cut_lifeline();
    }
}

impl Shared {
    /// A panic while the lock is held leaves plain numbers behind, which are good to use.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn group(&self) -> &ControlGroup {
        &self.group
    }

    /// The VM Portal takes the end of what we write as our death, and ends everything; it can still report.
    pub(crate) fn cut_lifeline(&self) {
        self.group.hurry(Hurry::On);
        // Fails when the VM Portal is gone, which is what is wanted.
        let _ = self.channel.shutdown(Shutdown::Write);
    }

    pub(crate) fn terminated(&self) -> Option<Cause> {
        self.lock().terminated
    }

    /// Time not spent paused, of `since_start`.
    pub(crate) fn running_time(&self, since_start: Duration) -> Duration {
        let state = self.lock();
        let now = state.paused_since.map_or(Duration::ZERO, |since| since.elapsed());
        since_start.saturating_sub(state.paused + now)
    }

    /// Takes note of what became of an order.
    pub(crate) fn note_obeyed(&self, done: bool) {
        let mut state = self.lock();
        state.obeyed += 1;
        state.done = done;
        self.changed.notify_all();
    }

    pub(crate) fn note_end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Tells the VM Portal that we are there, when it is time to; may be called as often as one likes.
    pub(crate) fn beat(&self) {
        if self.lock().heartbeat.take_due(Instant::now()) {
            // Fails when the VM Portal is gone, which is found out otherwise.
            let _ = (&self.channel).write_all(&[Order::Beat as u8]);
        }
    }

    fn check_runs(&self) -> Result<(), ControlError> {
        if self.lock().ended { Err(ControlError::Ended) } else { Ok(()) }
    }

    /// Stops the processes for the desktop's owner, and waits until they stand still.
    fn halt_for_owner(&self) -> io::Result<()> {
        let order = {
            let mut halts = self.halts();
            halts.owner = true;
            self.apply(true, &mut halts)?
        };
        match order {
            None => {
                self.group.hurry(Hurry::On);
                let frozen = self.group.await_frozen();
                self.group.hurry(Hurry::Off);
                frozen
            }
            Some(order) => self.await_order(order),
        }
    }

    /// Stops the processes for the rate of their input and output; does not wait.
    pub(crate) fn halt_for_rate(&self) -> io::Result<()> {
        let mut halts = self.halts();
        halts.rate = true;
        // Those that stand still for the owner need no telling.
        if halts.owner { Ok(()) } else { self.apply(true, &mut halts).map(|_| ()) }
    }

    /// Lets the processes run as far as `halt` goes: they do when nobody else has halted them.
    pub(crate) fn release(&self, halt: Halt) -> io::Result<()> {
        let mut halts = self.halts();
        match halt {
            Halt::Owner => halts.owner = false,
            Halt::Rate => halts.rate = false,
        }
        if halts.owner || halts.rate { Ok(()) } else { self.apply(false, &mut halts).map(|_| ()) }
    }

    /// Freezes or thaws the group, or has the VM Portal send SIGSTOP or SIGCONT and gives the order's number.
    fn apply(&self, halt: bool, halts: &mut Halts) -> io::Result<Option<u64>> {
        if self.group.can_freeze() {
            return self.group.set_frozen(halt).map(|()| None);
        }
        let order = if halt { Order::Stop } else { Order::Continue };
        (&self.channel).write_all(&[order as u8])?;
        halts.ordered += 1;
        Ok(Some(halts.ordered))
    }

    /// Waits for the VM Portal's word that an order is carried out.
    fn await_order(&self, order: u64) -> io::Result<()> {
        let waiting = |state: &mut State| state.obeyed < order && !state.ended;
        let (state, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), ORDER_TIMEOUT, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() || state.ended || !state.done {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the VM Portal did not carry it out"));
        }
        Ok(())
    }

    fn halts(&self) -> MutexGuard<'_, Halts> {
        self.halts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
