//! The re-executed half of the sandbox. Steps in the order in which they are taken, one function each; the first
//! that fails ends the subjob before its program ran, and its name is the report.
//!
//! | process | steps |
//! | --- | --- |
//! | init (`mod`) | close inherited files · read the setup · own session · fork the broker of the network · open the doors of the control groups · drop groups, or enter a user namespace · new namespaces · fork pid 1 · wait |
//! | VM Portal, pid 1 (`portal`) | die with init · host name · loopback · listeners of the broker · root (`root`, `application`) · fork, into the control group of version 2 (`doors`) · map the program's ids · give up privileges · reap |
//! | program (`program`) | first to go · user namespace and ids · limits · `/work` · join the other control groups · hide them · priority · capabilities · no new privileges · standard input · signals · no new code · Landlock · filter · display (`display`) · execute |
//!
//! Each of these processes has one thread.

mod application;
mod display;
mod doors;
mod landlock;
mod lifeline;
mod mounts;
mod places;
mod portal;
mod program;
mod registry;
mod root;
mod scratch;
mod served;
mod step;
mod user_namespace;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{FileType, Mode};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::UnshareFlags;
use rustix::time::ClockId;

use self::doors::OpenDoors;
pub(crate) use self::landlock::is_usable as landlock_is_usable;
pub use self::places::{SeenPlace, seen_places};
use self::step::{StepError, step, step_at};
use crate::exit::Ended;
use crate::identity::{INSIDE_ID, Identity};
use crate::message::{self, Report, Setup};
use crate::network::{self, Link, Role};
use crate::sys::{self, Fork};

/// What a program runs that was started with [`crate::INIT_ARGUMENT`]; it must not have started a thread.
/// Failures reach the client through the channel; the exit code only tells a person who typed the command.
pub fn init_main() -> ExitCode {
    let Some(channel) = take_channel() else {
        eprintln!("this command is started by the client, to build a sandbox; it does nothing by hand");
        return ExitCode::from(2);
    };
    let end = match begin(&channel) {
        Ok((_, Some(Role::Helper(helper)))) => {
            // It has no part in what the client is told, nor may it keep the client waiting.
            drop(channel);
            helper.run()
        }
        Ok((setup, Some(Role::Init(link)))) => run(&channel, &setup, Some(link)),
        Ok((setup, None)) => run(&channel, &setup, None),
        Err(e) => Err(e),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            report_failure(&channel, &e);
            ExitCode::FAILURE
        }
    }
}

/// What happens while this process has nothing open but the channel, so that the helpers of the network inherit
/// nothing else.
fn begin(channel: &UnixStream) -> Result<(Setup, Option<Role>), StepError> {
    let setup: Setup = step("read the setup", message::read(&mut &*channel))?;
    start_session()?;
    let split = |network| step("fork the broker of the network", network::split(network, setup.identity));
    let role = setup.network.as_ref().map(split).transpose()?;
    Ok((setup, role))
}

/// What the VM Portal was handed besides its setup.
#[derive(Debug, Default)]
struct Handed {
    stdin: Option<File>,
    /// To whoever serves the files.
    server: Option<UnixStream>,
    link: Option<Link>,
}

fn run(channel: &UnixStream, setup: &Setup, link: Option<Link>) -> Result<(), StepError> {
    let stdin = match setup.stdin_follows {
        true => Some(step("take the standard input", message::receive_file(channel))?.into()),
        false => None,
    };
    let server = match setup.served {
        Some(_) => Some(step("take the file server's socket", message::receive_file(channel))?.into()),
        None => None,
    };
    let doors = OpenDoors::new(&setup.doors)?;
    match setup.identity {
        Identity::Slot { .. } => drop_groups()?,
        Identity::Own { uid, gid } => enter_user_namespace(uid, gid)?,
    }
    enter_namespaces()?;
    match step("fork the VM Portal", sys::fork())? {
        Fork::Child => portal::run(channel, setup, &doors, Handed { stdin, server, link }),
        Fork::Parent { child } => {
            // Who writes into it shall see when the program has closed it.
            drop(stdin);
            drop(server);
            wait_for(child)?;
            report_network(channel, link);
            Ok(())
        }
    }
}

/// The channel, which came as standard input. Everything else that was inherited is closed.
fn take_channel() -> Option<UnixStream> {
    sys::close_inherited().ok()?;
    let stdin = io::stdin();
    let stat = rustix::fs::fstat(&stdin).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return None;
    }
    let channel: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&stdin, 3).ok()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null").ok()?).ok()?;
    Some(channel.into())
}

/// No controlling terminal, and a mask that lets the client read what the program writes.
fn start_session() -> Result<(), StepError> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    step("leave the session", rustix::process::setsid()).map(|_| ())
}

fn drop_groups() -> Result<(), StepError> {
    step("drop supplementary groups", rustix::thread::set_thread_groups(&[]))
}

/// For an ordinary user: a namespace in which we may build the rest, with the subjob's id as the only one.
fn enter_user_namespace(uid: u32, gid: u32) -> Result<(), StepError> {
    step("make a user namespace", sys::unshare(UnshareFlags::NEWUSER))?;
    // The kernel wants groups given up before an ordinary user may map one.
    for (path, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{INSIDE_ID} {uid} 1")),
        ("/proc/self/gid_map", format!("{INSIDE_ID} {gid} 1")),
    ] {
        step_at("map the ids", path, fs::write(path, text))?;
    }
    Ok(())
}

/// All but the control group's, which the program makes when it has joined its groups, and as root the user's,
/// which the program makes last.
fn enter_namespaces() -> Result<(), StepError> {
    let flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    step("make the namespaces", sys::unshare(flags))?;
    enter_time_namespace()
}

/// How long the machine seems to be up when a subjob starts. Not nothing: programs look back from now.
const SEEMS_UP: i64 = 24 * 60 * 60;

/// Hides how long the desktop is up from programs that ask for it as programs do. From those that look for it the
/// kernel doesn't hide the offset. The processes to be forked enter; a kernel before 5.6 has no such namespace.
fn enter_time_namespace() -> Result<(), StepError> {
    match sys::unshare(UnshareFlags::NEWTIME) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
        result => step("make a time namespace", result)?,
    }
    let offset = |clock| SEEMS_UP - rustix::time::clock_gettime(clock).tv_sec;
    let (monotonic, boot) = (offset(ClockId::Monotonic), offset(ClockId::Boottime));
    let path = "/proc/self/timens_offsets";
    step_at("set the clocks", path, fs::write(path, format!("monotonic {monotonic} 0\nboottime {boot} 0\n")))
}

/// Stays only to be the parent on whose death the kernel kills the VM Portal, and whose end is the end of all.
fn wait_for(portal: Pid) -> Result<(), StepError> {
    loop {
        match rustix::process::waitpid(Some(portal), WaitOptions::empty()) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) | Err(rustix::io::Errno::INTR) => (),
            Err(e) => return step("wait for the VM Portal", Err(e)),
        }
    }
}

/// The last that the client hears. Nothing of the subjob runs any more, but what it sent may still be on its way.
fn report_network(channel: &UnixStream, link: Option<Link>) {
    if let Some(used) = link.and_then(|link| link.finish(channel)) {
        // If the client is gone there is nobody to tell.
        let _ = message::write(&mut &*channel, &Report::Network(used));
    }
}

/// Tells the client that there is no sandbox, and why.
fn report_failure(channel: &UnixStream, error: &StepError) {
    let ended = Ended::Setup(error.to_string());
    // If the client is gone there is nobody to tell.
    let _ =
        message::write(&mut &*channel, &Report::Ended { ended, cpu: Duration::ZERO, peak: 0, registered: 0 });
}
