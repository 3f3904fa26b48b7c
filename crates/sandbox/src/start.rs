//! Starting a subjob: everything that happens on the client's side before its program runs.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;

use crate::control_group::{ControlGroup, Hierarchies};
use crate::display::with_display;
use crate::error::SandboxError;
use crate::identity::{Claim, Identity, default_environment};
use crate::layout::exec_places;
use crate::message::{self, MAX_MESSAGE, Setup};
use crate::network::{self, Nearby, NetworkSetup};
use crate::running::Running;
use crate::spec::{Bounds, Output, Spec, Stdin};

/// The argument after which a program that embeds this crate must call [`crate::init_main`], before it starts
/// any thread.
pub const INIT_ARGUMENT: &str = "sandbox-init";

/// How to start init, and in whose name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// The program that calls [`crate::init_main`], with its arguments.
    pub command: Vec<OsString>,
    /// Tells apart the control groups of several clients on one machine; 1 to 32 ASCII letters and digits. The
    /// same for every start of a client with the same state, so that it finds what it left behind.
    pub tag: String,
    /// Whether a job's endpoints may be on this machine: for the machine's owner to say, not for the job.
    pub nearby: Nearby,
}

impl Launcher {
    /// Starts init from the running program's own file: `/proc/self/exe sandbox-init`.
    pub fn new(tag: impl Into<String>) -> Self {
        Launcher {
            command: vec!["/proc/self/exe".into(), INIT_ARGUMENT.into()],
            tag: tag.into(),
            nearby: Nearby::default(),
        }
    }
}

/// Starts the program of `spec` in a sandbox of its own. Returns when init has what it needs; that the program
/// then runs, or why not, is in the [`crate::Exit`].
///
/// # Errors
/// When the spec makes no sense, or this side of the sandbox can't be made: output files, ownership of the work
/// directory, init itself. Nothing is left behind then but files in `work` and the output files.
pub fn start(launcher: &Launcher, spec: &Spec) -> Result<Running, SandboxError> {
    check_tag(&launcher.tag)?;
    spec.check()?;
    network::check(&spec.network, launcher.nearby)
        .map_err(|why| SandboxError::Spec { field: "network", why })?;
    let begun = Instant::now();
    let claim = Claim::take()?;
    if !spec.is_served(&spec.work) {
        claim.identity.own_tree(&spec.work)?;
    }
    let stdout = open_output(spec, &spec.stdout, claim.identity)?;
    let stderr = open_output(spec, &spec.stderr, claim.identity)?;

    let (channel, init_side) = UnixStream::pair().map_err(|source| SandboxError::Channel { source })?;
    // It starts up while we make its control groups.
    let mut init = spawn_init(launcher, init_side, stdout, stderr)?;
    match instruct(launcher, spec, claim.identity, &channel) {
        Ok(group) => Running::watch(begun, spec, claim, group, init, channel),
        Err(e) => {
            abandon(&mut init);
            Err(e)
        }
    }
}

/// Makes the control groups and tells init all that it needs.
fn instruct(
    launcher: &Launcher,
    spec: &Spec,
    identity: Identity,
    channel: &UnixStream,
) -> Result<ControlGroup, SandboxError> {
    let bounds = Bounds { processes: spec.tasks(), ..spec.limits };
    let group = ControlGroup::create(&launcher.tag, &Hierarchies::detect()?, &bounds);
    let setup = setup_message(launcher, spec, identity, &group);
    let told = message::write(&mut &*channel, &setup).and_then(|()| match &spec.stdin {
        Stdin::Pipe(pipe) => message::send_file(channel, pipe),
        Stdin::Null | Stdin::File(_) => Ok(()),
    });
    let told = told.and_then(|()| match &spec.served {
        Some(served) => message::send_file(channel, served.server.socket()),
        None => Ok(()),
    });
    told.map(|()| group).map_err(|source| match source.kind() {
        std::io::ErrorKind::InvalidInput => SandboxError::CommandTooLarge { limit: MAX_MESSAGE },
        _ => SandboxError::Channel { source },
    })
}

/// Kills an init that never got its setup.
fn abandon(init: &mut Child) {
    // It may have ended by itself, which is as good.
    let _ = init.kill();
    let _ = init.wait();
}

pub(crate) fn check_tag(tag: &str) -> Result<(), SandboxError> {
    if (1..=32).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(());
    }
    let why = format!("'{tag}' is not 1 to 32 ASCII letters and digits");
    Err(SandboxError::Spec { field: "tag", why })
}

fn open_output(spec: &Spec, output: &Output, identity: Identity) -> Result<OwnedFd, SandboxError> {
    match output {
        // Init opens it when it is there.
        Output::File(path) if spec.is_served(path) => {
            let nothing = OpenOptions::new().write(true).open("/dev/null");
            let failed = |source| SandboxError::Output { path: path.clone(), source };
            nothing.map(OwnedFd::from).map_err(failed)
        }
        Output::File(path) => create_output(path, identity).map(OwnedFd::from),
        Output::Pipe(pipe) => {
            let failed = |source| SandboxError::Pipe { source };
            // A program that opens /dev/stdout is asked for its permission anew.
            identity.own_opened(pipe).map_err(failed)?;
            pipe.try_clone().map_err(failed)
        }
    }
}

/// Creates a file that only the subjob and its client may read. Appending, so that two writers don't overwrite
/// each other's output.
fn create_output(path: &Path, identity: Identity) -> Result<File, SandboxError> {
    let file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| SandboxError::Output { path: path.to_owned(), source })?;
    // A program that opens /dev/stdout is asked for its permission anew.
    identity.own_file(path)?;
    Ok(file)
}

fn setup_message(launcher: &Launcher, spec: &Spec, identity: Identity, group: &ControlGroup) -> Setup {
    Setup {
        identity,
        root: spec.root.clone().into(),
        work: spec.work.clone().into(),
        program: spec.program.clone().into(),
        places: exec_places(&spec.executables),
        code: spec.code,
        args: spec.args.clone(),
        env: match spec.display {
            Some(_) => environment(&with_display(&spec.env)),
            None => environment(&spec.env),
        },
        stdin: match &spec.stdin {
            Stdin::Null | Stdin::Pipe(_) => None,
            Stdin::File(path) => Some(path.clone().into()),
        },
        stdin_follows: matches!(spec.stdin, Stdin::Pipe(_)),
        served: spec.served.as_ref().map(|served| served.at.clone().into()),
        outputs: [&spec.stdout, &spec.stderr]
            .map(|output| output.path().filter(|path| spec.is_served(path)).map(OsString::from)),
        doors: group.doors(),
        tasks: task_limit(spec.tasks(), identity, group),
        disk: spec.limits.disk.0,
        cpu: spec.limits.cpu.map(|limit| limit.as_secs().saturating_add(CPU_SLACK)),
        scratch: spec.scratch.0,
        report_scratch: !group.limits_memory(),
        display: spec.display.clone(),
        network: network_setup(launcher, spec),
    }
}

fn network_setup(launcher: &Launcher, spec: &Spec) -> Option<NetworkSetup> {
    let routes = network::routes(&spec.network);
    let setup = NetworkSetup { routes, rate: spec.network.rate, nearby: launcher.nearby };
    (!setup.routes.is_empty()).then_some(setup)
}

/// Seconds by which the limit of a single process is above that of all together, so that the client, which counts all,
/// is the first to act and can say what was used.
const CPU_SLACK: u64 = 2;

/// The limit on tasks that every kernel has. Where a control group limits them too it must be the first to
/// refuse, because it counts its refusals and this one doesn't.
fn task_limit(processes: u32, identity: Identity, group: &ControlGroup) -> u64 {
    // Init and the VM Portal, which have the subjob's id when that is our own.
    let ours = if identity.slot().is_some() { 0 } else { 2 };
    u64::from(processes) + ours + u64::from(group.limits_processes())
}

/// `NAME=value` for the given variables and for those defaults that they don't name.
fn environment(given: &[(OsString, OsString)]) -> Vec<OsString> {
    let join = |name: &OsStr, value: &OsStr| {
        let mut text = name.to_owned();
        text.push("=");
        text.push(value);
        text
    };
    let is_given = |name: &str| given.iter().any(|(other, _)| other == name);
    let defaults = default_environment();
    let defaults = defaults.iter().filter(|(name, _)| !is_given(name));
    defaults
        .map(|(name, value)| join(OsStr::new(name), value))
        .chain(given.iter().map(|(name, value)| join(name, value)))
        .collect()
}

/// Executes init with the channel as its standard input and the subjob's files as its output: the three
/// descriptors that pass an execute without further ado.
fn spawn_init(
    launcher: &Launcher,
    channel: UnixStream,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Child, SandboxError> {
    let (program, args) = launcher
        .command
        .split_first()
        .ok_or_else(|| SandboxError::Spec { field: "launcher", why: "its command is empty".to_owned() })?;
    Command::new(program)
        .args(args)
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(channel))
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|source| SandboxError::Init { program: program.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_part_of_a_file_name_and_nothing_more() {
        for good in ["a", "0f3c", &"x".repeat(32)] {
            assert!(check_tag(good).is_ok(), "{good}");
        }
        for bad in ["", "a-b", "../a", "a b", "ä", &"x".repeat(33)] {
            assert!(check_tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_spec_wins_over_the_default_environment() {
        let found = environment(&[("HOME".into(), "/work".into()), ("A".into(), "1=2".into())]);
        assert_eq!(found.iter().filter(|text| text.as_encoded_bytes().starts_with(b"HOME=")).count(), 1);
        assert!(found.contains(&"HOME=/work".into()));
        assert!(found.contains(&"A=1=2".into()));
        assert!(found.contains(&"TMPDIR=/tmp".into()));
    }
}
