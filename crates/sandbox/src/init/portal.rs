//! The VM Portal (§4.2.1): pid 1 of the subjob's pid namespace. Reaps, forwards the program's end, and carries
//! out the client's orders. When it exits, the kernel kills everything else in the namespace.
//!
//! ```text
//! preparing ──root built, program forked──► starting ──executed──► serving ──program ended──► finishing
//!     └────────── a step failed ──────────────┴─── lifeline cut (the client ended or asked), or silence ─▲
//! ```
//! It stays outside of the subjob's control groups, and out of the program's sight and reach: another user when
//! the client is root, undumpable, hidden from /proc, and immune to signals as every pid 1 is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::display::Dialogs;
use super::doors::OpenDoors;
use super::lifeline::Lifeline;
use super::registry::Registry;
use super::step::{StepError, step, step_at};
use super::{Handed, program, report_failure, root, scratch};
use crate::exit::Ended;
use crate::heartbeat;
use crate::identity::{INSIDE_ID, Identity};
use crate::message::{self, Inbox, Order, Report, Setup};
use crate::network;
use crate::stat;
use crate::sys::{self, ChildSignals, Fork};

/// Time between two reports of how full `/tmp` is, where the client asked for them.
const SCRATCH_PERIOD: Duration = Duration::from_millis(500);

/// Time between two tries to lower the weight of the session.
const WEIGHT_PERIOD: Duration = Duration::from_millis(100);

/// Looks at whether all processes stand still, 1 ms apart, before that is reported as not done.
const STOP_LOOKS: u32 = 8_000;

/// What the program's process tells the VM Portal until it executes the program, which closes their socket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// It has entered its user namespace and waits for its ids.
    NeedsIds,
    /// A step failed.
    Failed(String),
    /// The program itself could not be executed.
    NotExecuted(String),
}

struct Portal<'a> {
    lifeline: Lifeline<'a>,
    setup: &'a Setup,
    signals: ChildSignals,
    program: Pid,
    /// To the program's process, until it has executed the program.
    starting: Option<UnixStream>,
    words: Inbox,
    /// What the attendant of the display says, until it ends.
    dialogs: Option<Dialogs>,
    registry: Registry,
    /// The weight of our session among all sessions, until it has been lowered.
    session_weight: Option<File>,
    /// Why there is no program, or no end of it to tell.
    failure: Option<Ended>,
    status: Option<WaitStatus>,
}

/// Builds the sandbox, runs the program in it and reports its end.
pub(super) fn run(channel: &UnixStream, setup: &Setup, doors: &OpenDoors, handed: Handed) -> ! {
    match prepare(channel, setup, doors, handed).and_then(Portal::serve) {
        Ok(()) => sys::exit_now(0),
        Err(e) => {
            report_failure(channel, &e);
            sys::exit_now(1)
        }
    }
}

fn prepare<'a>(
    channel: &'a UnixStream,
    setup: &'a Setup,
    doors: &OpenDoors,
    handed: Handed,
) -> Result<Portal<'a>, StepError> {
    step("die with init", rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
    step("set the host name", rustix::system::sethostname(b"subjob"))?;
    step("bring up the loopback interface", sys::raise_loopback())?;
    if let (Some(network), Some(link)) = (&setup.network, handed.link) {
        network::prepare(network, &link)
            .or_else(|(endpoint, e)| step_at("make the network's way to", endpoint, Err(e)))?;
    }
    let mut root = root::build(setup, handed.server)?;
    root.stdin = root.stdin.or(handed.stdin);
    let (ours, theirs) = step("make a socket", UnixStream::pair())?;
    let (dialogs, attendant) = match &setup.display {
        Some(_) => step("make a socket for dialogs", Dialogs::new())
            .map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
        None => (None, None),
    };
    let signals = step("watch for children", ChildSignals::new())?;
    let session_weight = open_session_weight()?;
    let registry = Registry::open()?;
    // All that may take long is done: from here on the client hears of us.
    step("tell the client", message::write(&mut &*channel, &Report::Beat))?;
    let (side, birth) = step("fork the program", doors.fork())?;
    match side {
        Fork::Child => program::run(setup, &doors.left(birth), root, theirs, attendant.as_ref()),
        Fork::Parent { child } => Ok(Portal {
            lifeline: Lifeline::new(channel),
            setup,
            signals,
            program: child,
            starting: Some(ours),
            words: Inbox::default(),
            dialogs,
            registry,
            session_weight,
            failure: None,
            status: None,
        }),
    }
}

impl Portal<'_> {
    fn serve(mut self) -> Result<(), StepError> {
        self.lower_session_weight()?;
        while self.status.is_none() {
            let ready = step("wait for something to do", self.wait())?;
            if ready.starting {
                self.listen_to_start()?;
            }
            if ready.dialogs {
                self.listen_to_attendant();
            }
            if ready.children {
                self.signals.clear();
                self.reap(WaitOptions::NOHANG);
            }
            if ready.registry {
                self.registry.receive();
            }
            if ready.channel {
                let Some(orders) = self.lifeline.hear() else { break };
                orders.into_iter().for_each(|order| self.obey(order));
            }
            if let Some(silence) = self.lifeline.silence()? {
                let silence = silence.as_secs();
                let why = format!(
                    "it heard nothing of the Desktop Controller for {silence} s and ended everything"
                );
                self.failure = Some(Ended::Lost(why));
                break;
            }
            self.lifeline.beat();
            self.lower_session_weight()?;
            if self.setup.report_scratch {
                self.lifeline.report(&Report::Scratch { used: scratch::used() });
            }
        }
        self.finish()
    }

    fn wait(&self) -> rustix::io::Result<Ready> {
        let period = match (&self.session_weight, self.setup.report_scratch) {
            (Some(_), _) => WEIGHT_PERIOD,
            (None, true) => SCRATCH_PERIOD,
            (None, false) => heartbeat::PERIOD,
        };
        let registry = self.registry.wanted();
        let period = registry.as_ref().err().map_or(period, |rest| period.min(*rest));
        let period = period.min(self.lifeline.left());
        let period = period.try_into().expect("a second fits any time type");
        let mut wanted =
            vec![PollFd::new(&self.lifeline, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        wanted.extend(self.starting.as_ref().map(|socket| PollFd::new(socket, PollFlags::IN)));
        let dialogs = wanted.len();
        wanted.extend(self.dialogs.as_ref().map(|dialogs| PollFd::new(dialogs.socket(), PollFlags::IN)));
        let registry_at = wanted.len();
        wanted.extend(registry.ok().map(|socket| PollFd::new(socket, PollFlags::IN)));
        match rustix::event::poll(&mut wanted, Some(&period)) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(e) => return Err(e),
        }
        let ready = |at: usize| wanted.get(at).is_some_and(|wanted| !wanted.revents().is_empty());
        Ok(Ready {
            channel: ready(0),
            children: ready(1),
            starting: self.starting.is_some() && ready(2),
            dialogs: self.dialogs.is_some() && ready(dialogs),
            registry: ready(registry_at),
        })
    }

    /// Where the scheduler weighs sessions against one another, the idle class of the processes is not enough:
    /// a session competes as one, whatever is inside.
    fn lower_session_weight(&mut self) -> Result<(), StepError> {
        let Some(mut file) = self.session_weight.take() else {
            return Ok(());
        };
        match file.write_all(b"19") {
            // The kernel lets ordinary users do so ten times a second, all together.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.session_weight = Some(file);
                Ok(())
            }
            result => step("lower the weight of the session", result),
        }
    }

    /// Takes what the program's process says on its way to the program.
    fn listen_to_start(&mut self) -> Result<(), StepError> {
        let Some(socket) = &mut self.starting else {
            return Ok(());
        };
        let mut buffer = [0; 4_096];
        let length = step("hear from the program's process", socket.read(&mut buffer))?;
        if length == 0 {
            self.starting = None;
            if self.failure.is_none() {
                give_up_privileges()?;
                self.lifeline.report(&Report::Started);
            }
            return Ok(());
        }
        self.words.push(&buffer[..length]);
        while let Some(word) = step("understand the program's process", self.words.pop())? {
            match word {
                Word::NeedsIds => self.map_ids()?,
                Word::Failed(why) => self.failure = Some(Ended::Setup(why)),
                Word::NotExecuted(why) => self.failure = Some(Ended::NotStarted(why)),
            }
        }
        Ok(())
    }

    /// Passes on what the display's attendant says, as long as it is what one may say.
    fn listen_to_attendant(&mut self) {
        match self.dialogs.as_mut().and_then(Dialogs::take) {
            Some(closed) => {
                for closed in closed {
                    self.lifeline.report(&Report::Dialog(closed));
                }
            }
            None => self.dialogs = None,
        }
    }

    /// Gives the program's user namespace its only id, and tells it to go on.
    fn map_ids(&self) -> Result<(), StepError> {
        let Identity::Slot { id } = self.setup.identity else {
            return Ok(());
        };
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("{INSIDE_ID} {id} 1")),
            ("gid_map", format!("{INSIDE_ID} {id} 1")),
        ] {
            let path = format!("/proc/{}/{file}", self.program.as_raw_nonzero());
            step_at("map the ids", &path, fs::write(&path, text))?;
        }
        let socket = self.starting.as_ref().expect("a word came from it just now");
        step("tell the program's process to go on", (&*socket).write_all(&[1]))
    }

    /// Carries out what the client says.
    fn obey(&mut self, order: Order) {
        let done = match order {
            Order::Beat => return,
            Order::Stop => sys::signal_all_others(Signal::STOP).is_ok() && self.all_stand_still(),
            Order::Continue => sys::signal_all_others(Signal::CONT).is_ok(),
        };
        self.lifeline.report(&Report::Obeyed { done });
    }

    /// Waits until every process that can be seen is stopped or dead.
    fn all_stand_still(&mut self) -> bool {
        (0..STOP_LOOKS).any(|look| {
            if look > 0 {
                // The kernel has no event for "all stopped"; it takes as long as their system calls in progress.
                thread::sleep(Duration::from_millis(1));
                self.lifeline.beat();
            }
            let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            pids.filter(|pid| *pid != 1).all(stands_still)
        })
    }

    /// Kills what is left, takes in every exit, and reports.
    fn finish(mut self) -> Result<(), StepError> {
        step("kill what is left", sys::signal_all_others(Signal::KILL))?;
        // Giving back much memory takes a process seconds; we are not to be taken for hung meanwhile.
        while self.reap(WaitOptions::NOHANG) {
            step("wait for the last", self.wait_for_children())?;
            self.lifeline.beat();
        }
        while self.starting.is_some() {
            self.listen_to_start()?;
        }
        while self.dialogs.is_some() {
            self.listen_to_attendant();
        }
        let usage = step("read what was used", sys::children_usage())?;
        let ended =
            self.failure.take().or_else(|| self.status.map(ended)).unwrap_or(Ended::Signal(libc::SIGKILL));
        let (registered, crash) = self.registry.drain();
        if let Some(frame) = crash {
            self.lifeline.report(&Report::Crash { frame });
        }
        self.lifeline.report(&Report::Ended { ended, cpu: usage.cpu, peak: usage.peak, registered });
        Ok(())
    }

    fn wait_for_children(&self) -> rustix::io::Result<()> {
        let period = heartbeat::PERIOD.try_into().expect("a second fits any time type");
        match rustix::event::poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], Some(&period)) {
            Ok(_) | Err(Errno::INTR) => {
                self.signals.clear();
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Takes in the exits of children, ours and those whose parents are gone. False when there are none left.
    fn reap(&mut self, options: WaitOptions) -> bool {
        loop {
            match rustix::process::wait(options) {
                Ok(Some((pid, status))) if pid == self.program => self.status = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => (),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// Opened before the VM Portal is hidden, after which its files in /proc are root's. Not every kernel weighs
/// sessions.
fn open_session_weight() -> Result<Option<File>, StepError> {
    let path = "/proc/self/autogroup";
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => step_at("open", path, Err(e)),
    }
}

/// Which of the descriptors have something to say.
struct Ready {
    channel: bool,
    children: bool,
    starting: bool,
    dialogs: bool,
    registry: bool,
}

fn ended(status: WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => Ended::Setup("the program ended in a way that the kernel doesn't have".to_owned()),
    }
}

/// From here on the VM Portal only waits, kills and reports. Over the program it keeps the power of the one who
/// made its user namespace.
fn give_up_privileges() -> Result<(), StepError> {
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    step("drop the VM Portal's capabilities", rustix::thread::set_capabilities(None, none))?;
    step("refuse new privileges", rustix::thread::set_no_new_privs(true))?;
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    step("hide the VM Portal's memory", hidden)
}

fn stands_still(pid: u32) -> bool {
    let state = stat::read(format!("/proc/{pid}/stat")).and_then(|stat| stat.chars().next());
    state.is_none_or(|state| "TtZX".contains(state))
}
