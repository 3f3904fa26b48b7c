//! What clients say, held against what they may say, before the grid hears of it.
//!
//! A report names files that belong to its subjob and are here, and a reason that a client can know. Words are cut
//! and freed of control characters: people read them on terminals.

use std::collections::BTreeSet;

use model::trouble::MAX_FRAMES;
use model::{BlobHash, ByteSize, ClientId, Crash, Dialog, FailureReason, Inventory, OutputFile};
use protocol::api::{Problem, ProblemCode};
use protocol::client_link::{MAX_INLINE, Report, ReportedFile};

use super::App;
use crate::grid::{Delivery, VerifiedReport};
use crate::problem::{files_problem, problem};

/// Most files in one report.
const MAX_FILES: usize = 1_024;

/// Longest text of a client's, in characters.
const MAX_TEXT: usize = 1_000;

/// Longest name of a machine or a version, in characters.
const MAX_NAME: usize = 100;

/// Stores what travels inside reports and makes sure that everything else they name is there. Reports under
/// dead leases come out empty: nothing of theirs is kept.
pub(super) async fn verify_reports(
    app: &App,
    client: ClientId,
    reports: Vec<Report>,
) -> Result<Vec<VerifiedReport>, Problem> {
    if reports.is_empty() {
        return Ok(Vec::new());
    }
    let inline = |file: &ReportedFile| file.inline.as_ref().map_or(0, |bytes| bytes.0.len() as u64);
    let sizes: Vec<_> =
        reports.iter().map(|report| (report.fence, report.outputs.iter().map(inline).sum())).collect();
    let deliveries = app.handle.call(move |grid, _| {
        let deliver = |(fence, bytes)| {
            let delivery = grid.delivery(client, fence).ok();
            // Whatever comes of the report: its bytes were sent.
            delivery.map(|delivery| grid.take_upload(client, fence, 0, bytes).map(|()| delivery)).transpose()
        };
        sizes.into_iter().map(deliver).collect::<Result<Vec<_>, _>>()
    });
    let deliveries = deliveries.await?;
    app.blocking(move |app| {
        let pairs = reports.into_iter().zip(deliveries);
        pairs.map(|(report, delivery)| verify_report(app, report, delivery)).collect()
    })
    .await
}

fn verify_report(app: &App, report: Report, delivery: Option<Delivery>) -> Result<VerifiedReport, Problem> {
    let Report { fence, failure, outputs, usage } = report;
    let mut failure = failure.map(plain_failure).transpose()?;
    let Some(delivery) = delivery else {
        return Ok(VerifiedReport { fence, failure, outputs: Vec::new(), usage });
    };
    check_paths(&outputs, &delivery)?;
    let (limit, total) =
        (delivery.limit, outputs.iter().fold(0u64, |sum, file| sum.saturating_add(file.size)));
    if total > limit {
        failure = Some(FailureReason::OutputLimit { limit: ByteSize(limit), size: ByteSize(total) });
        return Ok(VerifiedReport { fence, failure, outputs: Vec::new(), usage });
    }
    let mut kept = Vec::with_capacity(outputs.len());
    for file in outputs {
        if !is_stored(app, &file)? {
            let detail = format!("'{}' of lease {fence} is not what the report says", file.path);
            return Err(problem(ProblemCode::HashMismatch, detail, "report it again"));
        }
        kept.push(OutputFile { path: file.path, hash: file.hash, size: file.size });
    }
    Ok(VerifiedReport { fence, failure, outputs: kept, usage })
}

fn check_paths(outputs: &[ReportedFile], delivery: &Delivery) -> Result<(), Problem> {
    if outputs.len() > MAX_FILES {
        let detail = format!("{} files in one report, at most {MAX_FILES}", outputs.len());
        return Err(problem(ProblemCode::TooLarge, detail, "declare fewer outputs"));
    }
    let mut seen = BTreeSet::new();
    let stray = outputs.iter().find(|file| !delivery.paths.contains(&file.path) || !seen.insert(&file.path));
    stray.map_or(Ok(()), |file| {
        let detail = format!("'{}' is not declared, or there twice", plain(&file.path, MAX_TEXT));
        Err(problem(ProblemCode::BadRequest, detail, ""))
    })
}

/// Whether a file is in the store as the report says, after storing it if it came along.
fn is_stored(app: &App, file: &ReportedFile) -> Result<bool, Problem> {
    let failed = |error| files_problem(&error);
    match &file.inline {
        Some(bytes) => {
            let hash = BlobHash(*blake3::hash(&bytes.0).as_bytes());
            let is_true =
                bytes.0.len() <= MAX_INLINE && bytes.0.len() as u64 == file.size && hash == file.hash;
            Ok(is_true && app.files.put(&bytes.0).map_err(failed)? == file.hash)
        }
        None => match app.files.size(&file.hash).map_err(failed)? {
            Some(size) => Ok(size == file.size),
            None => {
                let detail = format!("'{}' was not uploaded", file.path);
                Err(problem(ProblemCode::MissingBlobs, detail, "upload it, then report again"))
            }
        },
    }
}

/// A reason with its words made plain.
///
/// # Errors
/// It is one that the server alone can find, by which a client could get a subjob failed that is all right.
fn plain_failure(reason: FailureReason) -> Result<FailureReason, Problem> {
    use FailureReason as R;
    let text = |text: String| plain(&text, MAX_TEXT);
    Ok(match reason {
        R::LeaseExpired | R::LeaseLost => {
            let detail = "a client can't report that its lease ran out or was lost";
            return Err(problem(ProblemCode::BadRequest, detail, ""));
        }
        R::OutputMissing { path } => R::OutputMissing { path: text(path) },
        R::OutputRefused { path, why } => R::OutputRefused { path: text(path), why: text(why) },
        R::NotStarted { why } => R::NotStarted { why: text(why) },
        R::ClientStorage { why } => R::ClientStorage { why: text(why) },
        R::Tampering { path } => R::Tampering { path: text(path) },
        R::ClientSetup { why } => R::ClientSetup { why: text(why) },
        R::PortalLost { why } => R::PortalLost { why: text(why) },
        R::Evicted { why } => R::Evicted { why: text(why) },
        R::Signal { signal, crash } => {
            R::Signal { signal, crash: crash.map(|crash| Box::new(plain_crash(*crash))) }
        }
        R::Dialog { dialog: Dialog { title, text: body } } => {
            R::Dialog { dialog: Dialog { title: text(title), text: body.map(text) } }
        }
        R::ExitCode { .. }
        | R::CpuLimit { .. }
        | R::MemoryLimit { .. }
        | R::RuntimeMax { .. }
        | R::RuntimeMin { .. }
        | R::ProcessLimit { .. }
        | R::DiskLimit { .. }
        | R::OutputLimit { .. } => reason,
    })
}

fn plain_crash(crash: Crash) -> Crash {
    let mut backtrace = crash.backtrace;
    backtrace.truncate(MAX_FRAMES);
    Crash {
        program: plain(&crash.program, MAX_NAME),
        backtrace: backtrace.iter().map(|frame| plain(frame, MAX_NAME)).collect(),
        ..crash
    }
}

/// An inventory with its names made plain.
pub(super) fn plain_inventory(inventory: &Inventory) -> Inventory {
    let name = |text: &str| plain(text, MAX_NAME);
    Inventory {
        host_name: name(&inventory.host_name),
        cpu_model: name(&inventory.cpu_model),
        kernel: name(&inventory.kernel),
        version: name(&inventory.version),
        cpus: inventory.cpus,
        memory: inventory.memory,
        disk: inventory.disk,
        permits: inventory.permits,
    }
}

/// The beginning of a text, with something harmless in the place of what could command a terminal.
fn plain(text: &str, most: usize) -> String {
    let harmless = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(most).map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_clients_are_short_and_command_nothing() {
        assert_eq!(plain("a\u{1b}[2Jb\nü", 99), "a\u{fffd}[2Jb\u{fffd}ü");
        assert_eq!(plain("äöü", 2), "äö");
    }
}
