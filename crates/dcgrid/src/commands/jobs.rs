//! `dcgrid jobs`, `show`, `logs`, `cancel`.

use std::io::Write as _;
use std::time::Duration;

use link::UserLink;
use model::units::display_duration;
use model::{ByteSize, JobId, Sealing, SubjobId};
use protocol::api::{AttemptView, JobDetails, JobView, MAX_PART, ProblemCode, SubjobPage, SubjobView};

use crate::args::{LoginArgs, LogsArgs, Selector};
use crate::commands::wait::{last_lines, printable};
use crate::exit::{Exit, fault};
use crate::output::{self, Table};
use crate::settings::connect;

/// Lines of stderr that are shown of a subjob that failed.
const SHOWN_LINES: usize = 10;

pub async fn list(login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let jobs: Vec<JobView> = connect(login)?.get("/v1/jobs").await?;
    if json {
        output::json(&jobs);
        return Ok(Exit::Success);
    }
    let mut table = Table::new(&[
        "job",
        "name",
        "user",
        "state",
        "total",
        "waiting",
        "running",
        "succeeded",
        "failed",
        "submitted",
    ]);
    for job in jobs {
        let counts = job.counts;
        table.row([
            job.job.to_string(),
            job.name,
            job.user.to_string(),
            job.state.to_string(),
            counts.total.to_string(),
            counts.waiting.to_string(),
            counts.running.to_string(),
            counts.succeeded.to_string(),
            counts.failed.to_string(),
            job.submitted.to_string(),
        ]);
    }
    table.print();
    Ok(Exit::Success)
}

pub async fn show(which: Selector, login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let mut link = connect(login)?;
    match which {
        Selector::Job(job) => show_job(&mut link, job, json).await,
        Selector::Subjob(subjob) => show_subjob(&mut link, subjob, json).await,
    }
}

async fn show_job(link: &mut UserLink, job: JobId, json: bool) -> anyhow::Result<Exit> {
    let details: JobDetails = link.get(&format!("/v1/jobs/{job}/details")).await?;
    if json {
        output::json(&details);
        return Ok(Exit::Success);
    }
    let view = &details.view;
    let counts = view.counts;
    output::line(&format!("job {job} '{}'  {}", view.name, view.state));
    if let Some(reason) = &view.reason {
        output::line(&format!("  why          {reason}"));
    }
    output::line(&format!("  user         {}", view.user));
    output::line(&format!("  submitted    {}", view.submitted));
    if let Some(ended) = view.ended {
        let took = display_duration(ended.since(view.submitted));
        output::line(&format!("  ended        {ended} (after {took})"));
    }
    output::line(&format!(
        "  subjobs      {} total: {} waiting, {} running, {} succeeded, {} failed, {} cancelled",
        counts.total, counts.waiting, counts.running, counts.succeeded, counts.failed, counts.cancelled
    ));
    output::line(&format!("  computed     {}", display_duration(Duration::from_secs_f64(view.cpu_s))));
    let resources = details.resources;
    output::line(&format!(
        "  each         {} cpus, {} memory, {} disk, at most {} and {} attempts",
        resources.cpus,
        resources.memory,
        resources.disk,
        display_duration(details.limits.runtime_max),
        details.attempts
    ));
    if resources.needs.sealing > Sealing::Off {
        output::line("  sealed       yes: only on clients that encrypt its files on their disks");
    }
    if let Some(waits) = &details.waits {
        output::line(&format!("  waits        {waits}"));
    }
    for failure in details.failures.iter().take(5) {
        let where_ = format!("for example {job}.{} on {}", failure.example, failure.host_name);
        output::line(&format!("  failed       {} attempts: {} ({where_})", failure.attempts, failure.reason));
    }
    for running in details.running.iter().take(10) {
        let host = &running.host_name;
        output::line(&format!(
            "  running      {job}.{} attempt {} on {host}",
            running.subjob, running.attempt
        ));
    }
    Ok(Exit::Success)
}

/// A subjob of which an attempt has ended.
pub async fn subjob_view(link: &mut UserLink, id: SubjobId) -> anyhow::Result<SubjobView> {
    let after = id.index.checked_sub(1).map_or(String::new(), |before| format!("?after={before}"));
    let page: SubjobPage = link.get(&format!("/v1/jobs/{}/subjobs{after}", id.job)).await?;
    page.subjobs.into_iter().find(|view| view.subjob == id.index).ok_or_else(|| {
        let fix = format!("`dcgrid show {}` tells what runs and what waits", id.job);
        fault(Exit::Failed, format!("no attempt of subjob {id} has ended"), fix)
    })
}

async fn show_subjob(link: &mut UserLink, id: SubjobId, json: bool) -> anyhow::Result<Exit> {
    let view = subjob_view(link, id).await?;
    if json {
        output::json(&view);
        return Ok(Exit::Success);
    }
    let SubjobView { values, attempts, state, .. } = view;
    output::line(&format!("subjob {id}  {}", state.name()));
    for (name, value) in values {
        output::line(&format!("  {name:<12} {value}"));
    }
    let mut table = Table::new(&["attempt", "client", "ended", "wall", "cpu", "peak memory", "outcome"]);
    let last_failed = attempts.last().is_some_and(|attempt| attempt.failure.is_some());
    let outcome = |attempt: &AttemptView| attempt.failure.clone().unwrap_or_else(|| "succeeded".to_owned());
    for attempt in &attempts {
        let first_line = outcome(attempt).lines().next().unwrap_or_default().to_owned();
        table.row([
            attempt.attempt.to_string(),
            attempt.host_name.clone(),
            attempt.ended.to_string(),
            display_duration(Duration::from_secs_f64(attempt.wall_s)),
            display_duration(Duration::from_secs_f64(attempt.cpu_s)),
            ByteSize(attempt.peak_memory_bytes).to_string(),
            first_line,
        ]);
    }
    table.print();
    for attempt in attempts {
        let outcome = outcome(&attempt);
        let mut more = outcome.lines().skip(1).peekable();
        if more.peek().is_some() {
            output::line(&format!("attempt {}", attempt.attempt));
            more.for_each(|line| output::line(&format!("  {}", printable(line))));
        }
    }
    if last_failed {
        let lines = last_lines(link, id.job, id.index, SHOWN_LINES).await;
        if !lines.is_empty() {
            output::line("last lines of stderr");
            lines.iter().for_each(|line| output::line(&format!("  | {line}")));
        }
    }
    Ok(Exit::Success)
}

pub async fn logs(args: &LogsArgs, login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let mut link = connect(login)?;
    let id = match args.which {
        Selector::Subjob(id) => id,
        Selector::Job(job) => only_subjob(&mut link, job).await?,
    };
    let wanted = [("stdout", !args.stderr), ("stderr", !args.stdout)];
    let mut texts = serde_json::Map::new();
    for (stream, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
        let path = format!("/v1/jobs/{}/subjobs/{}/files/{stream}", id.job, id.index);
        let text = read_all(&mut link, &path).await?;
        if json {
            texts.insert((*stream).to_owned(), String::from_utf8_lossy(&text).into_owned().into());
        } else if *stream == "stdout" {
            // A reader that has gone away has had enough.
            let _ = std::io::stdout().write_all(&text);
        } else {
            let _ = std::io::stderr().write_all(&text);
        }
    }
    if json {
        output::json(&texts);
    }
    Ok(Exit::Success)
}

async fn only_subjob(link: &mut UserLink, job: JobId) -> anyhow::Result<SubjobId> {
    let view: JobView = link.get(&format!("/v1/jobs/{job}")).await?;
    if view.counts.total == 1 {
        return Ok(SubjobId { job, index: 0 });
    }
    let last = view.counts.total - 1;
    let fix = format!("`dcgrid logs {job}.0` to `dcgrid logs {job}.{last}`");
    Err(fault(Exit::Usage, format!("job {job} has {} subjobs: say which", view.counts.total), fix))
}

async fn read_all(link: &mut UserLink, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        match link.get_range(path, text.len() as u64, MAX_PART as u64).await {
            Ok(part) => {
                text.extend_from_slice(&part);
                if part.len() < MAX_PART {
                    return Ok(text);
                }
            }
            Err(error) if error.code() == Some(ProblemCode::NotFound) && !text.is_empty() => return Ok(text),
            Err(error) => return Err(error.into()),
        }
    }
}

pub async fn cancel(job: JobId, login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let view: JobView = connect(login)?.post(&format!("/v1/jobs/{job}/cancel"), &()).await?;
    if json {
        output::json(&view);
    } else {
        output::line(&format!("job {job} cancelled: {} subjobs had succeeded", view.counts.succeeded));
    }
    Ok(Exit::Success)
}
