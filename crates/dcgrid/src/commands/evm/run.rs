//! `dcgrid evm run`: a program in the sandbox, its streams ours, its end our end.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use desktop_controller::sealed::SealedFiles;
use model::{ByteSize, DisplaySize, NetworkAccess};
use protocol::manifest::DISPLAY_SERVER;
use sandbox::{Bounds, Cause, Code, Control, Display, Launcher, Nearby, Output, Running, Spec, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::cache::{Application, Cache};
use super::code;
use super::ending::Ending;
use super::files::{self, Links};
use super::pictures;
use super::place::Place;
use super::sealed;
use super::streams::{self, Carried, Stream};
use crate::args::EvmRunArgs;
use crate::exit::{Exit, fault};
use crate::output;

/// How long what the program wrote may take to arrive where it goes once we were asked to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most bytes of a file that are looked at as a script.
const MAX_SCRIPT: u64 = 1 << 20;

/// Runs the program and returns the exit code to end with.
pub fn run(args: &EvmRunArgs, json: bool) -> anyhow::Result<u8> {
    let env = environment(&args.env)?;
    let cache = Cache::open()?;
    let application =
        cache.application(&request(&args.command, &args.include, Asks { jit: args.jit, gui: args.gui })?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    // From here on there is something to clear up.
    let signals = Signals::new()?;
    let place = Place::new(&cache.runs())?;
    let work = files::open_directory(&place.work())?;
    if let Some(keep) = &args.keep
        && keep.exists()
    {
        let message = format!("'{}' is there already", keep.display());
        return Err(fault(Exit::Usage, message, "name a directory that does not exist"));
    }
    let (mut spec, pipes) = spec(args, env, &application, &place)?;
    let work = if args.sealed {
        let sealed = sealed::start(args, &application, &place)?;
        sealed.apply(&mut spec);
        Work::Sealed(sealed)
    } else {
        copy_inputs(args, &work)?;
        Work::Plain(work)
    };
    // Whoever runs this may reach the machine's own services anyway.
    let launcher = Launcher { nearby: Nearby::Named, ..Launcher::new(&place.tag) };
    let running = sandbox::start(&launcher, &spec)?;
    // It holds the program's ends of the pipes.
    drop(spec);
    let mut ending = runtime.block_on(attend(running, pipes, args.limits.output_limit, json, signals))?;
    let mut code = ending.code();
    match save_pictures(args, &ending, &cache, &place) {
        Ok(pictures) => ending.pictures = pictures,
        // They are there to help: what the program has done counts all the same.
        Err(error) => drop(crate::exit::report(&error)),
    }
    if let Err(error) = take_outputs(args, &work, code) {
        crate::exit::report(&error);
        code = if code == 0 { code::FAILED } else { code };
    }
    if json {
        output::json(&ending.report(code));
    } else {
        ending.notes().iter().for_each(|note| output::note(&format!("evm: {note}")));
    }
    Ok(code)
}

/// Keeps what the dialogs looked like that were closed, if there were any.
fn save_pictures(
    args: &EvmRunArgs,
    ending: &Ending,
    cache: &Cache,
    place: &Place,
) -> anyhow::Result<Vec<Option<PathBuf>>> {
    match (&args.dialogs, ending.exit.dialogs.as_slice()) {
        (_, []) => Ok(Vec::new()),
        (Some(directory), dialogs) => pictures::save(dialogs, directory, "dialog-"),
        (None, dialogs) => pictures::save(dialogs, &cache.dialogs()?, &format!("{}-dialog-", place.tag)),
    }
}

/// What a program is to have besides its files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asks {
    pub jit: bool,
    pub gui: bool,
}

/// What to wrap for a command.
pub fn request(command: &[OsString], include: &[String], asks: Asks) -> anyhow::Result<wrap::Request> {
    let program = command.first().context("there is no command")?.to_str();
    let program =
        program.ok_or_else(|| fault(Exit::Usage, "the program's name is not UTF-8", "rename it"))?;
    let base_dir = std::env::current_dir().context("can't tell the current directory")?;
    Ok(wrap::Request {
        shell_text: wrap::is_shell(program).then(|| shell_text(&command[1..], &base_dir)),
        program: program.to_owned(),
        include: include.to_vec(),
        base_dir,
        search_path: std::env::var_os("PATH").unwrap_or_default(),
        jit: if asks.jit { wrap::Jit::On } else { wrap::Jit::Auto },
        display: if asks.gui { wrap::Display::Private } else { wrap::Display::None },
    })
}

/// All text that a shell will read: what follows `-c`, and the files that the command names.
fn shell_text(args: &[OsString], base: &Path) -> String {
    let mut texts = Vec::new();
    let at = args.iter().position(|word| word == "-c");
    texts.extend(at.and_then(|at| args.get(at + 1)?.to_str().map(str::to_owned)));
    for word in args {
        let path = base.join(word);
        // What can't be read is no script, and is told of when it is used. Nor is what seems empty: files of the
        // kernel do, and reading some of them waits for ever.
        let is_script = |found: std::fs::Metadata| found.is_file() && (1..=MAX_SCRIPT).contains(&found.len());
        if std::fs::metadata(&path).is_ok_and(is_script) {
            texts.extend(std::fs::read_to_string(&path));
        }
    }
    texts.join("\n")
}

fn environment(given: &[String]) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let one = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.into(), value.into())),
        None => match std::env::var_os(text) {
            Some(value) => Ok((text.into(), value)),
            None => Err(fault(Exit::Usage, format!("the variable {text} is not set"), "--env NAME=VALUE")),
        },
    };
    given.iter().map(one).collect()
}

fn copy_inputs(args: &EvmRunArgs, work: &OwnedFd) -> anyhow::Result<()> {
    if let Some(directory) = &args.workdir {
        let left = files::copy_all(&files::open_directory(directory)?, work, Links::Copied)?;
        if left > 0 {
            tracing::warn!("{left} entries of '{}' are no files and were left out", directory.display());
        }
    }
    for input in &args.inputs {
        let place = files::place_of(input).ok_or_else(|| {
            fault(Exit::Usage, format!("the input '{}' has no name", input.display()), "name a file")
        })?;
        files::copy_in(input, work, &place)?;
    }
    Ok(())
}

/// What is behind /work.
enum Work {
    Plain(OwnedFd),
    Sealed(Arc<SealedFiles>),
}

/// Takes out what was asked for. What a program that failed did not write is not missed.
fn take_outputs(args: &EvmRunArgs, work: &Work, code: u8) -> anyhow::Result<()> {
    let mut missing = Ok(());
    for path in &args.outputs {
        let copied = match work {
            Work::Plain(work) => files::copy_out(work, path),
            Work::Sealed(sealed) => sealed::copy_out(sealed, path),
        };
        match copied {
            Err(error) if code == 0 => missing = Err(error),
            _ => {}
        }
    }
    let wholes = [args.keep.as_ref(), args.workdir.as_ref().filter(|_| args.write_back)];
    for directory in wholes.into_iter().flatten() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("can't make '{}'", directory.display()))?;
        let to = files::open_directory(directory)?;
        let left = match work {
            Work::Plain(work) => files::copy_all(work, &to, Links::Left)?,
            Work::Sealed(sealed) => sealed::copy_all(sealed, &to)?,
        };
        if left > 0 {
            tracing::warn!("{left} entries of /work are links or no files and were left out");
        }
    }
    missing
}

/// Our ends of the program's pipes.
struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

fn spec(
    args: &EvmRunArgs,
    env: Vec<(OsString, OsString)>,
    application: &Application,
    place: &Place,
) -> anyhow::Result<(Spec, Pipes)> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("can't make a pipe");
    let ((stdout, to_stdout), (stderr, to_stderr)) = (pipe()?, pipe()?);
    let (stdin, feeding) = match &args.stdin {
        Some(path) => (Stdin::File(path.canonicalize().with_context(|| cant_open(path))?), None),
        None if streams::has_input() => {
            let (from, feeding) = pipe()?;
            (Stdin::Pipe(Arc::new(from)), Some(feeding))
        }
        None => (Stdin::Null, None),
    };
    let limits = &args.limits;
    let bounds = Bounds {
        wall: limits.wall,
        memory: limits.memory,
        processes: limits.processes,
        disk: limits.disk,
        cpus: limits.cpus,
        stream: limits.output_limit.unwrap_or(ByteSize(u64::MAX)),
        cpu: limits.cpu_time,
        io_rate: limits.io_rate,
    };
    let manifest = &application.manifest;
    let spec = Spec {
        executables: manifest.code().map(PathBuf::from).collect(),
        code: if manifest.makes_code() { Code::Generated } else { Code::Fixed },
        args: args.command[1..].to_vec(),
        env,
        stdin,
        stdout: Output::Pipe(Arc::new(to_stdout)),
        stderr: Output::Pipe(Arc::new(to_stderr)),
        network: NetworkAccess { allow: args.network.allow.clone(), rate: args.network.rate },
        display: args.gui.then(display),
        name: place.tag.clone(),
        ..Spec::new(&application.root, &manifest.program, place.directory(), bounds)
    };
    Ok((spec, Pipes { stdin: feeding, stdout, stderr }))
}

fn cant_open(path: &Path) -> String {
    format!("can't open '{}'", path.display())
}

fn display() -> Display {
    let DisplaySize { width, height } = DisplaySize::default();
    Display { server: DISPLAY_SERVER.into(), size: (width, height) }
}

/// The signals that a person or a service manager sends.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    /// Ctrl-Z.
    stop: Signal,
}

enum Asked {
    End(SignalKind),
    Stop,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("can't listen for signals");
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            stop: listen(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End(SignalKind::interrupt()),
            _ = self.terminate.recv() => Asked::End(SignalKind::terminate()),
            _ = self.hang_up.recv() => Asked::End(SignalKind::hangup()),
            _ = self.stop.recv() => Asked::Stop,
        }
    }
}

/// Carries the streams and waits for the end, and brings it about when we are asked to.
async fn attend(
    running: Running,
    pipes: Pipes,
    limit: Option<ByteSize>,
    json: bool,
    mut signals: Signals,
) -> anyhow::Result<Ending> {
    let (send, mut ended) = mpsc::unbounded_channel();
    pipes.stdin.map_or(Ok(()), streams::feed).context("can't feed the standard input")?;
    let (stdout, stderr) = (io::stdout(), io::stderr());
    // With --json standard output is the report's.
    let out = if json { stderr.as_fd() } else { stdout.as_fd() };
    for (stream, pipe, to) in
        [(Stream::Stdout, pipes.stdout, out), (Stream::Stderr, pipes.stderr, stderr.as_fd())]
    {
        streams::carry(stream, pipe, to, limit, send.clone()).context("can't carry the output")?;
    }
    let control = running.control();
    let mut waiting = tokio::task::spawn_blocking(move || running.wait());
    let (mut exit, mut open) = (None, 2);
    let (mut asked, mut over, mut reader_gone) = (None, None, false);
    let mut deadline = None;
    while exit.is_none() || open > 0 {
        tokio::select! {
            done = &mut waiting, if exit.is_none() => {
                exit = Some(done.context("waiting for the program failed")?);
                deadline = asked.map(|_| Instant::now() + PATIENCE);
            }
            Some((stream, carried)) = ended.recv(), if open > 0 => {
                open -= 1;
                match carried {
                    Carried::Whole => {}
                    Carried::ReaderGone => reader_gone = true,
                    Carried::OverLimit => {
                        over = over.or(limit.map(|limit| (stream, limit)));
                        control.terminate(Cause::Shutdown);
                    }
                    Carried::Failed(error) => {
                        control.terminate(Cause::Shutdown);
                        return Err(error).with_context(|| format!("can't write {}", stream.name()));
                    }
                }
            }
            next = signals.next() => match next {
                Asked::End(kind) => {
                    asked = asked.or(Some(kind.as_raw_value()));
                    deadline = exit.as_ref().map(|_| Instant::now() + PATIENCE);
                    control.terminate(Cause::Shutdown);
                }
                Asked::Stop => stop(&control),
            },
            () = sleep_until(deadline) => break,
        }
    }
    let exit = exit.context("a deadline is only set at the end")?;
    Ok(Ending { exit, over, asked, reader_gone, pictures: Vec::new() })
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Stands still together with the program until somebody continues us.
fn stop(control: &Control) {
    // A program that has just ended needs no pause.
    if control.pause().is_ok() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
        let _ = control.resume();
    }
}
