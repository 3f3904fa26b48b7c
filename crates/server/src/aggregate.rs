//! Puts a job's result together, on a thread of its own, one job at a time.
//!
//! Reads outcomes page by page in the order of their index and streams the outputs through `job-manager`'s
//! aggregators into the file store. Nothing is decided here; a crash in the middle means it starts again.

use std::io::{self, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use job_manager::aggregate::{Aggregator, target};
use job_manager::decompose::render;
use model::plan::{Aggregate, Plan, Source};
use model::{BlobHash, JobId};
use protocol::api::ResultFile;
use protocol::client_link::{STDERR, STDOUT};
use thiserror::Error;

use crate::event_loop::Handle;
use crate::files::{BlobWriter, Files, FilesError, MAX_READ};
use crate::store::{EndedRow, Reader, StoreError};

/// Outcomes read at a time.
const PAGE: u32 = 1_000;

/// Largest output that is aggregated line by line; larger ones can be kept as files.
const MAX_TEXT: u64 = 1 << 30;

/// Jobs that may wait to be aggregated; there are never more open ones.
const QUEUE: usize = crate::grid::MAX_OPEN_JOBS;

#[derive(Debug, Error)]
enum AggregationError {
    #[error("the job's plan is gone")]
    NoPlan,
    #[error("{0}")]
    Aggregate(#[from] job_manager::aggregate::AggregateError),
    #[error("{0}")]
    Files(#[from] FilesError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("'{path}' of subjob {index} has {size} bytes, too many to aggregate by lines: keep it as a file")]
    TooLong { path: String, index: u64, size: u64 },
}

/// The aggregator's queue.
#[derive(Debug)]
pub(crate) struct Aggregation {
    jobs: SyncSender<JobId>,
}

impl Aggregation {
    /// Starts the thread. It ends when the queue is dropped.
    pub(crate) fn start(reader: Box<dyn Reader>, files: Arc<dyn Files>, handle: &Handle) -> Self {
        let (jobs, receiver) = sync_channel(QUEUE);
        let handle = handle.clone();
        std::thread::Builder::new()
            .name("aggregate".into())
            .spawn(move || run(&receiver, reader.as_ref(), files.as_ref(), &handle))
            .expect("the system can start one more thread");
        Aggregation { jobs }
    }

    pub(crate) fn request(&self, job: JobId) {
        if self.jobs.try_send(job).is_err() {
            tracing::error!(%job, "the aggregator is gone; the job is taken up at the next start");
        }
    }
}

fn run(jobs: &Receiver<JobId>, reader: &dyn Reader, files: &dyn Files, handle: &Handle) {
    for job in jobs {
        let result = catch_unwind(AssertUnwindSafe(|| aggregate(job, reader, files)));
        let result = match result {
            Ok(result) => result.map_err(|error| error.to_string()),
            // One job's result is no reason to leave all others without theirs.
            Err(_) => Err("the server failed at it: see its log".to_owned()),
        };
        handle.aggregated(job, result);
    }
}

fn aggregate(
    job: JobId,
    reader: &dyn Reader,
    files: &dyn Files,
) -> Result<Vec<ResultFile>, AggregationError> {
    let plan = reader.plan(job)?.ok_or(AggregationError::NoPlan)?;
    let mut result = Vec::new();
    for (which, aggregate) in plan.aggregate.iter().enumerate() {
        match aggregate {
            Aggregate::Concat(concat) => {
                result.push(joined(job, &plan, which, concat.from, &concat.out, reader, files)?);
            }
            Aggregate::Table(table) => {
                result.push(joined(job, &plan, which, table.from, &table.out, reader, files)?);
            }
            Aggregate::Files { from, .. } => {
                for_each_success(job, reader, |row| {
                    let file = output(&plan, row, *from);
                    let path = target(&plan, which, row.index);
                    if let (Some((hash, size)), Some(path)) = (file, path) {
                        result.push(ResultFile { path, hash, size });
                    }
                    Ok(())
                })?;
            }
        }
    }
    files.sync()?;
    Ok(result)
}

/// One file made of all subjobs' texts.
fn joined(
    job: JobId,
    plan: &Plan,
    which: usize,
    from: Source,
    path: &str,
    reader: &dyn Reader,
    files: &dyn Files,
) -> Result<ResultFile, AggregationError> {
    let mut aggregator = Aggregator::new(plan, which)?;
    let mut out = BufWriter::with_capacity(1 << 20, ToBlob(files.create()?));
    for_each_success(job, reader, |row| {
        let Some((hash, size)) = output(plan, row, from) else { return Ok(()) };
        if size > MAX_TEXT {
            let path = path.to_owned();
            return Err(AggregationError::TooLong { path, index: row.index, size });
        }
        let text = read_whole(files, &hash, size)?;
        Ok(aggregator.add(row.index, &text, &mut out)?)
    })?;
    aggregator.finish(&mut out)?;
    let writer = out.into_inner().map_err(|error| FilesError::Io {
        operation: "write",
        path: path.into(),
        source: error.into_error(),
    })?;
    let (hash, size) = writer.0.finish()?;
    Ok(ResultFile { path: path.to_owned(), hash, size })
}

fn for_each_success(
    job: JobId,
    reader: &dyn Reader,
    mut each: impl FnMut(&EndedRow) -> Result<(), AggregationError>,
) -> Result<(), AggregationError> {
    let mut from = 0;
    loop {
        let rows = reader.outcomes(job, from, PAGE)?;
        let Some(last) = rows.last() else { return Ok(()) };
        from = last.index + 1;
        for row in rows.iter().filter(|row| row.failure.is_none()) {
            each(row)?;
        }
    }
}

/// The file of a subjob that an aggregate reads; none if it was optional and is not there.
fn output(plan: &Plan, row: &EndedRow, from: Source) -> Option<(BlobHash, u64)> {
    let path = match from {
        Source::Stdout => STDOUT.to_owned(),
        Source::Stderr => STDERR.to_owned(),
        Source::Output(which) => render(&plan.outputs.get(which as usize)?.path, plan, row.index)?,
    };
    row.outputs.iter().find(|file| file.path == path).map(|file| (file.hash, file.size))
}

fn read_whole(files: &dyn Files, hash: &BlobHash, size: u64) -> Result<Vec<u8>, FilesError> {
    let mut text = Vec::with_capacity(size as usize);
    while (text.len() as u64) < size {
        let part = files.read(hash, text.len() as u64, MAX_READ)?;
        if part.is_empty() {
            break;
        }
        text.extend_from_slice(&part);
    }
    Ok(text)
}

/// A blob writer as `io::Write`.
struct ToBlob<'a>(Box<dyn BlobWriter + 'a>);

impl Write for ToBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
