//! One attempt of a subjob, from its lease to its report (§4.2).
//!
//! ```text
//! fetch application and inputs ─► sandbox ─► collect outputs ─► upload ─► report
//! ```
//! Whatever happens on the way becomes a failure with a reason; nothing of the attempt stays on the disk.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use link::client::ClientKeys;
use link::{ClientLink, LinkError};
use model::{ByteSize, FailureReason, NetworkAccess, Usage};
use protocol::api::{MAX_PART, ProblemCode};
use protocol::client_link::{
    Bytes, Lease, MAX_INLINE, Report, ReportedFile, STDERR, STDOUT, Secrets, secrets_info,
};
use sandbox::{Bounds, Cause, Control, Ended, Exit, Launcher, LimitHit, Running, Spec, Stdin};
use tokio::sync::watch;

use crate::application::{ApplicationError, Applications, Tree};
use crate::cache::{Cache, CacheError, copy_verified};
use crate::clear::remove_tree;
use crate::collect::{Output, collect, hashed};
use crate::inventory::free_disk;
use crate::lease;

/// Files up to this size travel inside the report, as long as all of them together stay under [`MAX_INLINE`].
const INLINE: u64 = 16 << 10;

/// Bytes of each stream that are kept when an attempt failed.
const TAIL: u64 = 64 << 10;

/// A disk with less free than this counts as full.
const DISK_FULL: ByteSize = ByteSize::mib(8);

/// Size of a subjob's `/tmp`: part of its memory.
const SCRATCH_SHARE: u64 = 2;

/// What all attempts of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) keys: Arc<ClientKeys>,
    pub(crate) cache: Cache,
    pub(crate) applications: Applications,
    pub(crate) attempts: PathBuf,
    pub(crate) launcher: Launcher,
}

/// What an attempt is told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Run,
    /// The lease no longer counts: end it, nobody wants a report.
    Cancel,
    /// The client is being stopped.
    Stop,
}

/// Runs a lease to its end. There is always a report; after [`Order::Cancel`] it is not sent.
pub(crate) async fn run(
    shared: &Shared,
    mut link: ClientLink,
    lease: &Lease,
    orders: watch::Receiver<Order>,
) -> Report {
    let directory = shared.attempts.join(lease.fence.to_string());
    let (failure, outputs, usage) = match attempt(shared, &mut link, lease, &directory, orders).await {
        Ok((outputs, usage)) => (None, outputs, usage),
        Err(Failed { reason, outputs, usage }) => (Some(reason), outputs, usage),
    };
    if let Err(error) = remove_tree(&directory) {
        tracing::warn!(%error, directory = %directory.display(), "can't clear up after a subjob");
    }
    Report { fence: lease.fence, failure, outputs, usage }
}

/// An attempt that failed.
struct Failed {
    reason: FailureReason,
    outputs: Vec<ReportedFile>,
    usage: Usage,
}

impl From<FailureReason> for Failed {
    fn from(reason: FailureReason) -> Self {
        Failed { reason, outputs: Vec::new(), usage: Usage::default() }
    }
}

async fn attempt(
    shared: &Shared,
    link: &mut ClientLink,
    lease: &Lease,
    directory: &Path,
    mut orders: watch::Receiver<Order>,
) -> Result<(Vec<ReportedFile>, Usage), Failed> {
    lease::check(lease)?;
    let tree = tokio::select! {
        tree = prepare(shared, link, lease, directory) => tree?,
        order = ordered(&mut orders) => return Err(evicted(order).into()),
    };
    shared.applications.check(&tree).await.map_err(application_failure)?;
    let running = start(shared, lease, &tree, directory)?;
    let exit = wait(running, &mut orders).await;
    let usage = exit.usage;
    let (stdout, stderr) = (directory.join(STDOUT), directory.join(STDERR));
    if let Some(reason) = failure(&exit, lease) {
        let reason = blame_full_disk(reason, free_disk(directory));
        let outputs = tails(&[(STDOUT, &stdout), (STDERR, &stderr)]);
        return Err(Failed { reason, outputs, usage });
    }
    let work = directory.join("work");
    let (declared, limit) = (lease.outputs.clone(), lease.limits.output);
    let collected = tokio::task::spawn_blocking(move || -> Result<Vec<Output>, FailureReason> {
        let mut outputs = collect(&work, &declared, limit)?;
        for (name, path) in [(STDOUT, stdout), (STDERR, stderr)] {
            let file = File::open(&path).map_err(|error| storage(&path, &error))?;
            outputs.push(hashed(name, file)?);
        }
        let total = outputs.iter().map(|output| output.size).sum();
        if total > limit.0 {
            return Err(FailureReason::OutputLimit { limit, size: ByteSize(total) });
        }
        Ok(outputs)
    });
    let outputs = match collected.await.expect("collecting outputs does not panic") {
        Ok(outputs) => outputs,
        Err(reason) => {
            let outputs = tails(&[(STDOUT, &directory.join(STDOUT)), (STDERR, &directory.join(STDERR))]);
            return Err(Failed { reason, outputs, usage });
        }
    };
    let sent = tokio::select! {
        sent = send(link, lease, outputs) => sent,
        order = ordered(&mut orders) => Err(evicted(order)),
    };
    sent.map(|outputs| (outputs, usage)).map_err(|reason| Failed { reason, outputs: Vec::new(), usage })
}

/// Fetches what the subjob needs and lays it out.
async fn prepare(
    shared: &Shared,
    link: &mut ClientLink,
    lease: &Lease,
    directory: &Path,
) -> Result<Tree, FailureReason> {
    shared.cache.admit(lease.inputs.iter().map(|input| input.size)).map_err(|e| cache_failure(&e))?;
    let tree = shared.applications.tree(link, &shared.cache, lease).await.map_err(application_failure)?;
    let work = directory.join("work");
    fs::create_dir_all(&work).map_err(|error| storage(&work, &error))?;
    for input in &lease.inputs {
        let cached =
            shared.cache.fetch(link, &input.hash, input.size).await.map_err(|e| cache_failure(&e))?;
        let target = work.join(&input.path);
        let parent = target.parent().unwrap_or(&work);
        fs::create_dir_all(parent).map_err(|error| storage(parent, &error))?;
        let hash = input.hash;
        let copied = tokio::task::spawn_blocking(move || copy_verified(&cached, &target, &hash)).await;
        let is_intact = copied.expect("copying does not panic").map_err(|error| storage(&work, &error))?;
        if !is_intact {
            return Err(FailureReason::Tampering { path: input.path.clone() });
        }
    }
    shared.cache.evict();
    Ok(tree)
}

fn start(shared: &Shared, lease: &Lease, tree: &Tree, directory: &Path) -> Result<Running, FailureReason> {
    let setup = |why: String| FailureReason::ClientSetup { why };
    let mut env: Vec<(std::ffi::OsString, std::ffi::OsString)> =
        lease.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    if let Some(sealed) = &lease.secrets {
        let info = secrets_info(lease.fence, lease.subjob);
        let opened = shared.keys.opening.open(sealed, &info).map_err(|error| setup(error.to_string()))?;
        let secrets: Secrets =
            serde_json::from_slice(&opened).map_err(|_| setup("the secrets are malformed".to_owned()))?;
        env.extend(secrets.0.into_iter().map(|(name, value)| (name.into(), value.into())));
    }
    let work = directory.join("work");
    let spec = Spec {
        root: tree.root.clone(),
        program: PathBuf::from(&tree.program),
        executables: tree.executables.iter().map(PathBuf::from).collect(),
        code: tree.code,
        args: lease.command.iter().skip(1).map(Into::into).collect(),
        env,
        stdin: lease.stdin.as_ref().map_or(Stdin::Null, |path| Stdin::File(work.join(path))),
        work,
        stdout: sandbox::Output::File(directory.join(STDOUT)),
        stderr: sandbox::Output::File(directory.join(STDERR)),
        limits: Bounds {
            wall: lease.limits.runtime_max,
            memory: lease.resources.memory,
            processes: lease.limits.processes,
            disk: lease.resources.disk,
            cpus: lease.resources.cpus,
            stream: lease.limits.output,
            cpu: lease.limits.cpu_max,
            io_rate: lease.limits.io_rate,
        },
        network: NetworkAccess::default(),
        display: None,
        scratch: ByteSize(lease.resources.memory.0 / SCRATCH_SHARE),
        name: format!("subjob {}", lease.subjob),
    };
    sandbox::start(&shared.launcher, &spec).map_err(|error| setup(describe(&error)))
}

/// Waits for the end, and brings it about when it is ordered.
async fn wait(running: Running, orders: &mut watch::Receiver<Order>) -> Exit {
    let control: Control = running.control();
    let mut ended = tokio::task::spawn_blocking(move || running.wait());
    let order = tokio::select! {
        exit = &mut ended => return exit.expect("waiting for a sandbox does not panic"),
        order = ordered(orders) => order,
    };
    control.terminate(match order {
        Order::Cancel => Cause::Cancelled,
        Order::Run | Order::Stop => Cause::Shutdown,
    });
    ended.await.expect("waiting for a sandbox does not panic")
}

/// Returns when there is an order other than to run.
async fn ordered(orders: &mut watch::Receiver<Order>) -> Order {
    // Who would give orders is gone only when the client stops.
    orders.wait_for(|order| *order != Order::Run).await.map_or(Order::Stop, |order| *order)
}

fn evicted(order: Order) -> FailureReason {
    let why = match order {
        Order::Cancel => "the lease was cancelled",
        Order::Run | Order::Stop => "the client was stopped",
    };
    FailureReason::Evicted { why: why.to_owned() }
}

/// Why an exit is a failure, if it is one (§4.2.3).
fn failure(exit: &Exit, lease: &Lease) -> Option<FailureReason> {
    let met = exit.hit.map(|hit| match hit {
        LimitHit::Memory { limit, peak } => FailureReason::MemoryLimit { limit, peak },
        LimitHit::Wall { limit } => FailureReason::RuntimeMax { limit },
        LimitHit::Cpu { limit, used } => FailureReason::CpuLimit { limit, used },
        LimitHit::Processes { limit } => FailureReason::ProcessLimit { limit },
        LimitHit::Disk { limit, used } => FailureReason::DiskLimit { limit, used },
        LimitHit::Stream { limit } => FailureReason::OutputLimit { limit, size: limit },
        LimitHit::Terminated { cause: Cause::Cancelled } => evicted(Order::Cancel),
        LimitHit::Terminated { cause: Cause::Shutdown } => evicted(Order::Stop),
        LimitHit::Terminated { cause: Cause::Contention } => {
            FailureReason::Evicted { why: "the desktop needed the machine".to_owned() }
        }
    });
    match (&exit.ended, met) {
        (Ended::Setup(why), _) => Some(FailureReason::ClientSetup { why: why.clone() }),
        (Ended::NotStarted(why), _) => Some(FailureReason::NotStarted { why: why.clone() }),
        (Ended::Code(0), Some(FailureReason::ProcessLimit { .. }) | None) => {
            let (limit, ran) = (lease.limits.runtime_min, exit.usage.wall);
            (ran < limit).then_some(FailureReason::RuntimeMin { limit, ran })
        }
        (_, Some(reason)) => Some(reason),
        (Ended::Code(code), None) => Some(FailureReason::ExitCode { code: *code }),
        (Ended::Signal(signal), None) => {
            Some(FailureReason::Signal { signal: *signal, crash: exit.crash.clone().map(Box::new) })
        }
    }
}

/// A program that fails while the client's own disk is full fails for that, not for what is wrong with it.
fn blame_full_disk(reason: FailureReason, free: ByteSize) -> FailureReason {
    match reason {
        FailureReason::ExitCode { .. } | FailureReason::Signal { .. } if free < DISK_FULL => {
            FailureReason::ClientStorage { why: format!("the disk was full when {reason}") }
        }
        other => other,
    }
}

/// The last bytes of each stream that there are, for a person to read. What can't be read is left out.
fn tails(streams: &[(&str, &Path)]) -> Vec<ReportedFile> {
    let tail = |path: &Path| -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL / 2)))?;
        let mut bytes = Vec::new();
        file.take(TAIL / 2).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let read = streams.iter().filter_map(|(name, path)| Some((*name, tail(path).ok()?)));
    read.map(|(name, bytes)| ReportedFile {
        path: name.to_owned(),
        hash: model::BlobHash(*blake3::hash(&bytes).as_bytes()),
        size: bytes.len() as u64,
        inline: Some(Bytes(bytes)),
    })
    .collect()
}

/// Gets the outputs on their way: small ones inside the report, large ones before it.
async fn send(
    link: &mut ClientLink,
    lease: &Lease,
    outputs: Vec<Output>,
) -> Result<Vec<ReportedFile>, FailureReason> {
    let mut room = MAX_INLINE as u64;
    let mut reported = Vec::with_capacity(outputs.len());
    for mut output in outputs {
        let inline = if output.size <= INLINE.min(room) {
            room -= output.size;
            let mut bytes = Vec::new();
            output.file.read_to_end(&mut bytes).map_err(|error| storage(Path::new(&output.path), &error))?;
            Some(Bytes(bytes))
        } else {
            upload(link, lease, &mut output).await?;
            None
        };
        reported.push(ReportedFile { path: output.path, hash: output.hash, size: output.size, inline });
    }
    Ok(reported)
}

/// Uploads one file, going on where it stopped while the server can't be reached.
async fn upload(link: &mut ClientLink, lease: &Lease, output: &mut Output) -> Result<(), FailureReason> {
    let mut offset = 0;
    let mut again = false;
    let mut backoff = crate::backoff::Backoff::default();
    loop {
        output.file.seek(SeekFrom::Start(offset)).map_err(|e| storage(Path::new(&output.path), &e))?;
        let mut part = Vec::new();
        let mut reader = (&mut output.file).take(MAX_PART as u64);
        reader.read_to_end(&mut part).map_err(|e| storage(Path::new(&output.path), &e))?;
        match link.put_blob(lease.fence, &output.hash, output.size, offset, part.into()).await {
            Ok(reply) if reply.complete => return Ok(()),
            // An answer that takes nothing on is no reason to ask again at once.
            Ok(reply) if reply.uploaded <= offset => {
                offset = reply.uploaded;
                backoff.wait().await;
            }
            Ok(reply) => offset = reply.uploaded,
            // Somebody else began it with other bytes, which are gone now: once from the start, all our own.
            Err(error) if offset > 0 && !again && error.code() == Some(ProblemCode::HashMismatch) => {
                (offset, again) = (0, true);
            }
            Err(error) if error.is_passing() => {
                tracing::warn!(error = describe(&error), subjob = %lease.subjob, "upload interrupted");
                backoff.wait().await;
            }
            Err(error) => return Err(FailureReason::ClientSetup { why: describe(&error) }),
        }
    }
}

fn application_failure(error: ApplicationError) -> FailureReason {
    match error {
        ApplicationError::Cache(error) => cache_failure(&error),
        ApplicationError::Tampered { path } => FailureReason::Tampering { path },
        ApplicationError::Disk { .. } => FailureReason::ClientStorage { why: error.to_string() },
        ApplicationError::Signature { .. }
        | ApplicationError::Manifest(_)
        | ApplicationError::TooLarge { .. } => FailureReason::ClientSetup { why: error.to_string() },
    }
}

fn cache_failure(error: &CacheError) -> FailureReason {
    match error {
        CacheError::Disk { .. } => FailureReason::ClientStorage { why: error.to_string() },
        CacheError::Link(LinkError::WrongHash { hash }) => {
            FailureReason::Tampering { path: hash.to_string() }
        }
        CacheError::Link(link) => FailureReason::ClientSetup { why: describe(link) },
        CacheError::Size { .. } => FailureReason::ClientSetup { why: error.to_string() },
    }
}

fn storage(path: &Path, error: &io::Error) -> FailureReason {
    FailureReason::ClientStorage { why: format!("'{}': {error}", path.display()) }
}

/// An error with its causes, on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
