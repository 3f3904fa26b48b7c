//! Waiting for a job, with its progress; and what is said when it has ended.

use std::time::{Duration, Instant};

use link::{LinkError, UserLink};
use model::{JobId, JobState};
use protocol::api::{JobDetails, JobView};

use crate::commands::server::stop_signal;
use crate::exit::{Exit, fault};
use crate::output::{self, Progress};

/// How long one question may be held by the server.
const HOLD: Duration = Duration::from_secs(20);

/// Least time between the first two questions, and at most: it doubles, so that a quick job ends quickly and a
/// job of a thousand quick subjobs does not ask faster than anybody can read.
const PACE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// How long an unreachable server is tried again before waiting ends.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lines of stderr that are shown for one of the subjobs that failed alike.
const SHOWN_LINES: usize = 3;

/// A job that has ended.
#[derive(Debug)]
pub struct Ended {
    pub view: JobView,
}

/// Waits until a job has ended. Ctrl-C and `limit` end the waiting, not the job.
pub async fn wait(
    link: &mut UserLink,
    job: JobId,
    limit: Option<Duration>,
    quiet: bool,
) -> anyhow::Result<Ended> {
    let mut interrupted = Box::pin(stop_signal()?);
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut progress: Option<Progress> = None;
    let mut after = 0;
    let mut pace = PACE.0;
    let mut unreachable_since: Option<Instant> = None;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let message = format!("job {job} has not ended in the time given; it goes on");
            return Err(fault(Exit::TimedOut, message, format!("`dcgrid show {job}` tells how far it is")));
        }
        let hold = left.unwrap_or(HOLD).min(HOLD);
        let path = format!("/v1/jobs/{job}?after={after}&wait_s={}", hold.as_secs().max(1));
        let asked = Instant::now();
        let answer = tokio::select! {
            answer = link.get_waiting::<JobView>(&path, hold) => answer,
            () = &mut interrupted => {
                let fix = format!("`dcgrid show {job}` to look, `dcgrid get {job}` to fetch, `dcgrid cancel {job}` to end it");
                return Err(fault(Exit::Interrupted, format!("interrupted; job {job} goes on"), fix));
            }
        };
        match answer {
            Ok(view) => {
                unreachable_since = None;
                after = view.version;
                let title = format!("job {job} '{}'", view.name);
                progress.get_or_insert_with(|| Progress::new(&title, quiet)).show(&view.counts);
                if view.state.is_final() {
                    if let Some(progress) = progress {
                        progress.finish();
                    }
                    return Ok(Ended { view });
                }
            }
            // The server may be restarting; the job is in good hands meanwhile.
            Err(error) if error.is_passing() && may_come_back(&mut unreachable_since) => {
                tracing::info!(%error, "waiting for the server");
            }
            Err(error) => return Err(explain(error, job)),
        }
        tokio::time::sleep(pace.saturating_sub(asked.elapsed())).await;
        pace = (pace * 2).min(PACE.1);
    }
}

fn may_come_back(since: &mut Option<Instant>) -> bool {
    since.get_or_insert_with(Instant::now).elapsed() < PATIENCE
}

fn explain(error: LinkError, job: JobId) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("waiting for job {job}, which may go on"))
}

impl Ended {
    pub fn exit(&self) -> Exit {
        match self.view.state {
            JobState::Succeeded => Exit::Success,
            JobState::Cancelled => Exit::Cancelled,
            JobState::Failed | JobState::Running | JobState::Aggregating => Exit::Failed,
        }
    }

    /// Says how it ended: for failures what went wrong, an example, and the next command.
    pub async fn report(&self, link: &mut UserLink, json: bool) -> anyhow::Result<Exit> {
        let JobView { job, state, counts, .. } = &self.view;
        if json {
            output::json(&self.view);
            return Ok(self.exit());
        }
        output::line(&format!(
            "job {job} '{}' {state}: {} of {} subjobs succeeded",
            self.view.name, counts.succeeded, counts.total
        ));
        if *state == JobState::Succeeded {
            output::note(&format!("fetch the result with `dcgrid get {job}`"));
            return Ok(self.exit());
        }
        self.report_failures(link).await?;
        Ok(self.exit())
    }

    /// Why it failed, to stderr.
    pub async fn report_failures(&self, link: &mut UserLink) -> anyhow::Result<()> {
        let job = self.view.job;
        if let Some(reason) = &self.view.reason {
            output::note(&format!("  {reason}"));
        }
        let details: JobDetails = link.get(&format!("/v1/jobs/{job}/details")).await?;
        for group in details.failures.iter().take(5) {
            let mut lines = group.reason.lines();
            let first = lines.next().unwrap_or_default();
            output::note(&format!("  {} attempts: {first} ({})", group.attempts, group.class));
            lines.for_each(|line| output::note(&format!("    {line}")));
            output::note(&format!(
                "    for example on {}: `dcgrid logs {job}.{}`",
                group.host_name, group.example
            ));
            for line in last_lines(link, job, group.example, SHOWN_LINES).await {
                output::note(&format!("    | {line}"));
            }
        }
        Ok(())
    }
}

/// The last lines that a subjob wrote to stderr, if there are any.
pub async fn last_lines(link: &mut UserLink, job: JobId, index: u64, most: usize) -> Vec<String> {
    let path = format!("/v1/jobs/{job}/subjobs/{index}/files/stderr");
    let Ok(bytes) = link.get_range(&path, 0, 1 << 20).await else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(most)..].iter().map(|line| printable(line)).collect()
}

/// A subjob's text must not steer the terminal it is shown on.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
