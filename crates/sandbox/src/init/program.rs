//! The last steps before a subjob's program runs, in its own process.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Gid, Uid};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use super::display;
use super::landlock;
use super::portal::Word;
use super::root::Root;
use super::step::{StepError, step, step_at};
use crate::filter::{self, Profile};
use crate::identity::{INSIDE_ID, Identity};
use crate::message::{self, Setup};
use crate::spec::Code;
use crate::sys;

/// Descriptors a program has to begin with, and at most.
const OPEN_FILES: (u64, u64) = (1_024, 65_536);

/// Bytes that a program may keep from being swapped: enough for keys and for what probes whether it may.
const LOCKED_MEMORY: u64 = 8 << 20;

/// A single byte, smaller than any core file: none is written. Zero would not do: where the machine hands crashes
/// to a program of its own, which may keep them or show a window, the kernel runs it whatever the limit is, except
/// when it is 1 (`coredump_pipe` in fs/coredump.c).
const NO_CORE: u64 = 1;

enum Failure {
    Step(StepError),
    /// There is no display, for this reason.
    Display(String),
    Execute(io::Error),
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Failure::Step(error)
    }
}

/// Takes the steps and executes the program. Failures go to the VM Portal by `portal`, which closes by itself
/// when the program runs. `attendant` is the end of the dialogs' socket for the display's attendant.
pub(super) fn run(
    setup: &Setup,
    doors: &[&File],
    root: Root,
    mut portal: UnixStream,
    attendant: Option<&UnixStream>,
) -> ! {
    let word = match prepare(setup, doors, root, &mut portal, attendant) {
        Ok(never) => match never {},
        Err(Failure::Display(why)) => Word::NotExecuted(format!("the private display did not start: {why}")),
        Err(Failure::Step(e)) => Word::Failed(e.to_string()),
        Err(Failure::Execute(e)) => {
            Word::NotExecuted(format!("can't execute '{}': {e}", Path::new(&setup.program).display()))
        }
    };
    // If the VM Portal is gone, so are we.
    let _ = message::write(&mut portal, &word);
    sys::exit_now(1)
}

fn prepare(
    setup: &Setup,
    doors: &[&File],
    root: Root,
    portal: &mut UnixStream,
    attendant: Option<&UnixStream>,
) -> Result<Infallible, Failure> {
    let (program, args, env) = command(setup)?;
    let filter = filter::compile(Profile { code: setup.code });
    let rules = landlock::rules(&setup.places, &root.writable)?;
    become_first_to_go()?;
    if matches!(setup.identity, Identity::Slot { .. }) {
        enter_user_namespace(portal)?;
    }
    limit_resources(setup)?;
    step_at("enter", "/work", rustix::process::chdir("/work"))?;
    // From here on we wait for the desktop whenever it has something to do.
    join_control_groups(doors)?;
    hide_control_groups()?;
    take_lowest_priority()?;
    drop_capabilities()?;
    step("refuse new privileges", rustix::thread::set_no_new_privs(true))?;
    if let Some(file) = root.stdin {
        step("set the standard input", rustix::stdio::dup2_stdin(file))?;
    }
    step("restore the signals", sys::restore_signals())?;
    step("keep files from the program", sys::close_others_on_execute())?;
    if setup.code == Code::Fixed {
        step("refuse new code", sys::refuse_new_code())?;
    }
    if let Some(rules) = rules {
        step("put the Landlock rules in force", rules.restrict_self())?;
    }
    if setup.display.is_some() {
        display::prepare()?;
    }
    // Last, because it takes away calls that the steps before need.
    step("install the system call filter", filter::install(&filter))?;
    if let (Some(display), Some(attendant)) = (&setup.display, attendant) {
        display::open(display, attendant).map_err(Failure::Display)?;
    }
    sys::execute(&program, &args, &env).map_err(Failure::Execute)
}

fn join_control_groups(doors: &[&File]) -> Result<(), StepError> {
    doors.iter().copied().try_for_each(|mut door| step("join a control group", door.write_all(b"0")))
}

/// Makes the groups just joined the top of all that the program can see.
fn hide_control_groups() -> Result<(), StepError> {
    step("make a control group namespace", sys::unshare(UnshareFlags::NEWCGROUP))
}

/// When memory is short on the desktop, the subjob goes first. Before the ids change, after which our own files
/// in /proc are no longer ours.
fn become_first_to_go() -> Result<(), StepError> {
    let path = "/proc/self/oom_score_adj";
    step_at("write", path, fs::write(path, "1000"))
}

/// Whatever the desktop has to do goes first.
fn take_lowest_priority() -> Result<(), StepError> {
    step("lower the priority", rustix::process::nice(19))?;
    step("take the idle class of the disk", sys::take_idle_io_class())?;
    step("take the idle class of the processor", sys::take_idle_scheduling_class())
}

/// As root: the program's own user namespace, with one id that is nobody's outside. All mounts belong to the one
/// around it, where the program has no power whatever happens to it.
fn enter_user_namespace(portal: &mut UnixStream) -> Result<(), StepError> {
    step("make a user namespace", sys::unshare(UnshareFlags::NEWUSER))?;
    step("ask for ids", message::write(portal, &Word::NeedsIds))?;
    step("wait for ids", portal.read_exact(&mut [0]))?;
    let (user, group) = (Uid::from_raw(INSIDE_ID), Gid::from_raw(INSIDE_ID));
    step("take the group id", rustix::thread::set_thread_res_gid(group, group, group))?;
    step("take the user id", rustix::thread::set_thread_res_uid(user, user, user))
}

/// After the user namespace: tasks of one user are counted per namespace.
fn limit_resources(setup: &Setup) -> Result<(), StepError> {
    let (files, most_files) = OPEN_FILES;
    let cpu = setup.cpu.unwrap_or(u64::MAX);
    for (name, resource, now, most) in [
        ("limit core dumps", Resource::Core, NO_CORE, NO_CORE),
        ("limit processor time", Resource::Cpu, cpu, cpu),
        ("limit the size of files", Resource::Fsize, setup.disk, setup.disk),
        ("limit open files", Resource::Nofile, files, most_files),
        ("limit processes", Resource::Nproc, setup.tasks, setup.tasks),
        // What the desktop's own user may have been given must not be the subjob's.
        ("limit locked memory", Resource::Memlock, LOCKED_MEMORY, LOCKED_MEMORY),
        ("limit the priority", Resource::Nice, 0, 0),
        ("limit real-time priority", Resource::Rtprio, 0, 0),
    ] {
        // What bounds us already stays: a limit can't be raised.
        let bound = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit { current: Some(now.min(bound)), maximum: Some(most.min(bound)) };
        step(name, rustix::process::setrlimit(resource, limit))?;
    }
    Ok(())
}

/// Out of every set, so that no program that is executed can get one back.
fn drop_capabilities() -> Result<(), StepError> {
    step("clear ambient capabilities", rustix::thread::clear_ambient_capability_set())?;
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The first number that the kernel doesn't know: there are no more.
            Err(rustix::io::Errno::INVAL) => break,
            result => step("drop a capability for ever", result)?,
        }
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    step("drop all capabilities", rustix::thread::set_capabilities(None, none))
}

type Command = (CString, Vec<CString>, Vec<CString>);

/// The command as the kernel wants it; the program's own path is its first argument.
fn command(setup: &Setup) -> Result<Command, StepError> {
    let text = |text: &OsString| step("read the command", CString::new(text.clone().into_vec()));
    let program = text(&setup.program)?;
    let args = std::iter::once(&setup.program).chain(&setup.args).map(text).collect::<Result<_, _>>()?;
    let env = setup.env.iter().map(text).collect::<Result<_, _>>()?;
    Ok((program, args, env))
}
