//! One attempt of a subjob, from its lease to its report (§4.2).
//!
//! ```text
//! fetch application and inputs ─► sandbox ─► collect outputs ─► upload ─► report
//! ```
//! Whatever happens on the way becomes a failure with a reason; nothing of the attempt stays on the disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use link::ClientLink;
use link::client::ClientKeys;
use model::{ByteSize, DisplaySize, FailureReason, Permits, Usage};
use protocol::client_link::{Lease, Report, ReportedFile, STDERR, STDOUT, Secrets, secrets_info};
use protocol::manifest::DISPLAY_SERVER;
use sandbox::{Bounds, Cause, Control, Display, Exit, Launcher, Running, SandboxError, Spec, Stdin};
use tokio::sync::watch;

use crate::application::{Applications, Tree};
use crate::cache::{Cache, copy_verified};
use crate::clear::remove_tree;
use crate::collect::{Output, collect, hashed};
use crate::delivery::{PICTURE_SHARE, note_unreached, pictures, send, send_extra, tails};
use crate::inventory::free_disk;
use crate::lease;
use crate::verdict::{
    application_failure, blame_full_disk, cache_failure, describe, evicted, failure, storage,
};

/// What all attempts of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) keys: Arc<ClientKeys>,
    pub(crate) cache: Cache,
    pub(crate) applications: Applications,
    pub(crate) attempts: PathBuf,
    pub(crate) launcher: Launcher,
    pub(crate) permits: Permits,
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
    lease::check(lease, shared.permits)?;
    let tree = tokio::select! {
        tree = prepare(shared, link, lease, directory) => tree?,
        order = ordered(&mut orders) => return Err(evicted(order).into()),
    };
    shared.applications.check(&tree).await.map_err(application_failure)?;
    let running = start(shared, lease, &tree, directory)?;
    let exit = wait(running, &mut orders).await;
    let usage = exit.usage;
    let (stdout, stderr) = (directory.join(STDOUT), directory.join(STDERR));
    let is_declared = |name: &str| lease.outputs.iter().any(|output| output.path == name);
    let room = lease.limits.output.0 / PICTURE_SHARE;
    let pictures = pictures(&exit.dialogs, is_declared, room, directory);
    if let Some(reason) = failure(&exit, lease.limits.runtime_min) {
        let reason = blame_full_disk(reason, free_disk(directory));
        note_unreached(&stderr, &exit.network.unreached);
        let mut outputs = tails(&[(STDOUT, &stdout), (STDERR, &stderr)]);
        outputs.extend(send_extra(link, lease, pictures, &mut orders).await);
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
    let mut outputs = match collected.await.expect("collecting outputs does not panic") {
        Ok(outputs) => outputs,
        Err(reason) => {
            let outputs = tails(&[(STDOUT, &directory.join(STDOUT)), (STDERR, &directory.join(STDERR))]);
            return Err(Failed { reason, outputs, usage });
        }
    };
    let total: u64 = outputs.iter().chain(&pictures).map(|output| output.size).sum();
    if total <= lease.limits.output.0 {
        outputs.extend(pictures);
    }
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
    let limits = Bounds::of(&lease.limits, &lease.resources);
    let spec = Spec {
        executables: tree.executables.iter().map(PathBuf::from).collect(),
        code: tree.code,
        args: lease.command.iter().skip(1).map(Into::into).collect(),
        env,
        stdin: lease
            .stdin
            .as_ref()
            .map_or(Stdin::Null, |path| Stdin::File(directory.join("work").join(path))),
        network: lease.network.clone(),
        display: lease.display.map(display),
        name: format!("subjob {}", lease.subjob),
        ..Spec::new(&tree.root, &tree.program, directory, limits)
    };
    sandbox::start(&shared.launcher, &spec).map_err(|error| match error {
        // What the job names is what is wrong: it would be elsewhere too.
        SandboxError::Spec { field: "network", why } => {
            FailureReason::NotStarted { why: format!("network.allow can't be had: {why}") }
        }
        error => setup(describe(&error)),
    })
}

/// `wrap` puts the X server there.
fn display(size: DisplaySize) -> Display {
    Display { server: PathBuf::from(DISPLAY_SERVER), size: (size.width, size.height) }
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
pub(crate) async fn ordered(orders: &mut watch::Receiver<Order>) -> Order {
    // Who would give orders is gone only when the client stops.
    orders.wait_for(|order| *order != Order::Run).await.map_or(Order::Stop, |order| *order)
}
