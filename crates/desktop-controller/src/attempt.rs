//! One attempt of a subjob, from its lease to its report (§4.2).
//!
//! ```text
//! fetch application and inputs ─► sandbox ─► collect outputs ─► upload ─► report
//! ```
//! Whatever happens on the way becomes a failure with a reason; nothing of the attempt stays on the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use link::ClientLink;
use link::client::ClientKeys;
use model::{ByteSize, DisplaySize, FailureReason, Permits, Sealing, Usage};
use protocol::client_link::{
    DeclaredOutput, Lease, Report, ReportedFile, STDERR, STDOUT, Secrets, secrets_info,
};
use protocol::manifest::DISPLAY_SERVER;
use sandbox::{Bounds, Cause, Control, Display, Exit, Launcher, Running, SandboxError, Stdin};
use tokio::sync::watch;

use crate::application::Applications;
use crate::cache::Cache;
use crate::clear::remove_tree;
use crate::delivery::{PICTURE_SHARE, note_unreached, pictures, send, send_extra, tail};
use crate::inventory::free_disk;
use crate::lease;
use crate::output::Output;
use crate::place::Place;
use crate::verdict::{blame_full_disk, describe, evicted, failure};

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

impl Shared {
    /// Whether a subjob's files are sealed: the stricter of owner and submitter has it.
    pub(crate) fn seals(&self, lease: &Lease) -> bool {
        self.permits.sealing == Sealing::Always || lease.demands_sealing()
    }
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
    shared: &Arc<Shared>,
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
    shared: &Arc<Shared>,
    link: &mut ClientLink,
    lease: &Lease,
    directory: &Path,
    mut orders: watch::Receiver<Order>,
) -> Result<(Vec<ReportedFile>, Usage), Failed> {
    lease::check(lease, shared.permits)?;
    let place = tokio::select! {
        place = Place::prepare(shared, link, lease, directory) => Arc::new(place?),
        order = ordered(&mut orders) => return Err(evicted(order).into()),
    };
    place.check(shared).await?;
    let running = start(shared, lease, &place)?;
    let exit = wait(running, &mut orders).await;
    let usage = exit.usage;
    let is_declared = |name: &str| lease.outputs.iter().any(|output| output.path == name);
    let pictures = pictures(&exit.dialogs, is_declared, lease.limits.output.0 / PICTURE_SHARE);
    let failed = failure(&exit, lease.limits.runtime_min);
    let note = note_unreached(&exit.network.unreached);
    let (shared, declared, limit) = (Arc::clone(shared), lease.outputs.clone(), lease.limits.output);
    let taken =
        tokio::task::spawn_blocking(move || take(&shared, &place, failed, &note, &declared, limit)).await;
    let mut outputs = match taken.expect("taking what a subjob left does not panic") {
        Ok(outputs) => outputs,
        Err((reason, mut outputs)) => {
            let reason = blame_full_disk(reason, free_disk(directory));
            outputs.extend(send_extra(link, lease, pictures, &mut orders).await);
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

/// What the program left; or why it has failed, with the ends of its streams. Blocks while files are read.
fn take(
    shared: &Shared,
    place: &Place,
    failed: Option<FailureReason>,
    note: &str,
    declared: &[DeclaredOutput],
    limit: ByteSize,
) -> Result<Vec<Output>, (FailureReason, Vec<ReportedFile>)> {
    let failed = match place.trouble() {
        Some(reason @ FailureReason::Tampering { .. }) => Some(reason),
        trouble => failed.or(trouble),
    };
    failed.map_or_else(|| outputs(place, declared, limit), Err).map_err(|reason| {
        if let FailureReason::Tampering { .. } = reason {
            place.remove_changed(shared);
        }
        let end = |name| {
            let (stream, size) = place.stream(name).ok()?;
            tail(name, &stream, size, if name == STDERR { note } else { "" })
        };
        (reason, [STDOUT, STDERR].into_iter().filter_map(end).collect())
    })
}

fn outputs(
    place: &Place,
    declared: &[DeclaredOutput],
    limit: ByteSize,
) -> Result<Vec<Output>, FailureReason> {
    let mut outputs = place.collect(declared, limit)?;
    for name in [STDOUT, STDERR] {
        let (stream, _) = place.stream(name)?;
        outputs.push(Output::take(name, stream)?);
    }
    let total = outputs.iter().map(|output| output.size).sum();
    if total > limit.0 {
        return Err(FailureReason::OutputLimit { limit, size: ByteSize(total) });
    }
    Ok(outputs)
}

fn start(shared: &Shared, lease: &Lease, place: &Place) -> Result<Running, FailureReason> {
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
    let mut spec = place.spec(Bounds::of(&lease.limits, &lease.resources));
    spec.args = lease.command.iter().skip(1).map(Into::into).collect();
    spec.env = env;
    if let Some(path) = &lease.stdin {
        spec.stdin = Stdin::File(spec.work.join(path));
    }
    spec.network = lease.network.clone();
    spec.display = lease.display.map(display);
    spec.name = format!("subjob {}", lease.subjob);
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
