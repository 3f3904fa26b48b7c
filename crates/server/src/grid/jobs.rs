//! Jobs: submitted, looked at, cancelled, aggregated.

use std::collections::BTreeMap;
use std::sync::Arc;

use job_manager::jobs::{Job, JobError, Next};
use model::plan::Plan;
use model::{Capacity, JobId, JobState, Timestamp, UserName};
use node_manager::Standing;
use protocol::api::{
    ClientState, ClientView, JobView, Problem, ProblemCode, ResultFile, RunningView, SubmitReply,
};
use resource_scheduler::NewJob;

use super::{Caller, Grid, Open};
use crate::problem::problem;
use crate::store::{NewJobRow, Op, SignedApplication};

/// Most jobs that are open at one time: bounds what a restart has to load.
pub const MAX_OPEN_JOBS: usize = 10_000;

/// Most of them that are one user's, so that nobody keeps the others out.
pub const MAX_OPEN_JOBS_OF_USER: usize = 2_000;

/// A job that was checked and whose files are all there.
#[derive(Debug)]
pub struct Submission {
    pub user: UserName,
    pub idempotency_key: String,
    pub plan: Plan,
    pub total: u64,
    pub application: SignedApplication,
    pub secrets: Option<BTreeMap<String, String>>,
}

/// What is known of a job at this moment, besides what is in the store.
#[derive(Debug)]
pub struct LiveJob {
    pub view: JobView,
    pub running: Vec<RunningView>,
    /// Why nothing of it runs, when something waits.
    pub waits: Option<String>,
}

impl Grid {
    /// The job that an earlier submission with the same key made.
    pub fn earlier_submission(&self, user: &UserName, key: &str) -> Option<SubmitReply> {
        let job = *self.submitted.get(&(user.clone(), key.to_owned()))?;
        Some(SubmitReply { job, subjobs: self.jobs.get(job).ok()?.total })
    }

    pub fn submit(&mut self, now: Timestamp, submission: Submission) -> Result<SubmitReply, Problem> {
        let Submission { user, idempotency_key, plan, total, application, secrets } = submission;
        if let Some(earlier) = self.earlier_submission(&user, &idempotency_key) {
            return Ok(earlier);
        }
        if self.open.len() >= MAX_OPEN_JOBS {
            let detail = format!("{MAX_OPEN_JOBS} jobs are open already");
            return Err(problem(ProblemCode::Overloaded, detail, "wait until some have ended"));
        }
        let open_of_user = self.open.values().filter(|open| open.user == user).count();
        if open_of_user >= MAX_OPEN_JOBS_OF_USER {
            let detail = format!("{user} has {open_of_user} open jobs already");
            return Err(problem(
                ProblemCode::Overloaded,
                detail,
                "wait until some have ended, or cancel some",
            ));
        }
        let id = self.next_job;
        self.next_job = JobId(id.0 + 1);
        let sealed = secrets.map(|secrets| self.seal_secrets(id, &secrets)).transpose()?;
        self.ops.push(Op::AddJob(Box::new(NewJobRow {
            id,
            user: user.clone(),
            idempotency_key: idempotency_key.clone(),
            plan: plan.clone(),
            total,
            application: application.clone(),
            secrets: sealed.clone(),
            submitted: now,
        })));
        self.jobs.add(id, Job::new(plan.name.clone(), user.clone(), total, now));
        self.scheduler.add_job(NewJob {
            id,
            user: user.clone(),
            class: plan.resources,
            total,
            attempts: plan.attempts,
            cursor: 0,
            unfinished: Vec::new(),
            failures: Vec::new(),
        });
        self.submitted.insert((user.clone(), idempotency_key), id);
        let open =
            Open { user, plan: Arc::new(plan), application, secrets: sealed, succeeded_on: Vec::new() };
        self.open.insert(id, open);
        self.new_work = true;
        Ok(SubmitReply { job: id, subjobs: total })
    }

    fn seal_secrets(&self, id: JobId, secrets: &BTreeMap<String, String>) -> Result<Vec<u8>, Problem> {
        let pairs: Vec<(&String, &String)> = secrets.iter().collect();
        let text = serde_json::to_vec(&pairs).expect("secrets are text");
        self.keys
            .seal_at_rest(&secrets_context(id), &text)
            .map_err(|e| problem(ProblemCode::Internal, e.to_string(), "try again"))
    }

    /// The jobs that a caller may see, newest first.
    pub fn list_jobs(&self, caller: &Caller, limit: usize) -> Vec<JobView> {
        let visible = self.jobs.iter().filter(|(_, job)| may_see(caller, job));
        visible.take(limit).map(|(id, job)| self.job_view(id, job)).collect()
    }

    pub fn view_job(&self, caller: &Caller, id: JobId) -> Result<JobView, Problem> {
        Ok(self.job_view(id, self.visible_job(caller, id)?))
    }

    pub fn live_job(&self, now: Timestamp, caller: &Caller, id: JobId) -> Result<LiveJob, Problem> {
        let job = self.visible_job(caller, id)?;
        let running = self.scheduler.running(id).map(|lease| RunningView {
            subjob: lease.subjob.index,
            attempt: lease.attempt,
            fence: lease.fence,
            client: lease.client,
            host_name: self.host_name(lease.client),
            since: lease.since,
        });
        let mut running: Vec<RunningView> = running.take(1_000).collect();
        running.sort_by_key(|view| view.subjob);
        let waits = if running.is_empty() && job.state == JobState::Running {
            self.scheduler.explain(id, &self.in_touch(now)).map(|explanation| explanation.sentence())
        } else {
            None
        };
        Ok(LiveJob { view: self.job_view(id, job), running, waits })
    }

    pub fn cancel_job(&mut self, now: Timestamp, caller: &Caller, id: JobId) -> Result<JobView, Problem> {
        self.visible_job(caller, id)?;
        let why = format!("by {}", caller.user);
        self.jobs.cancel(id, why, now).map_err(|error| job_problem(&error))?;
        self.close_job(id);
        self.view_job(caller, id)
    }

    /// Takes the result of a job that was being aggregated.
    pub fn aggregated(&mut self, now: Timestamp, id: JobId, result: Result<Vec<ResultFile>, String>) {
        let outcome = match result {
            Ok(files) => {
                self.ops.push(Op::SetResult { job: id, files });
                Ok(())
            }
            Err(why) => Err(why),
        };
        match self.jobs.aggregated(id, outcome, now) {
            Ok(()) => self.close_job(id),
            // A job that was cancelled meanwhile stays cancelled.
            Err(error) => tracing::debug!(%error, "a result came too late"),
        }
    }

    pub fn plan(&self, id: JobId) -> Option<Arc<Plan>> {
        self.open.get(&id).map(|open| Arc::clone(&open.plan))
    }

    /// Name of a client's machine, for people.
    pub fn host_name(&self, client: model::ClientId) -> String {
        self.nodes.get(client).map_or_else(|| client.short(), |known| known.inventory.host_name.clone())
    }

    pub fn list_clients(&self, now: Timestamp) -> Vec<ClientView> {
        let view = |(id, client): (model::ClientId, &node_manager::Client)| {
            let (state, reason) = match self.nodes.standing(id, now) {
                Standing::Online => (ClientState::Online, None),
                Standing::Offline => (ClientState::Offline, None),
                Standing::BackedOff { until, why } => {
                    (ClientState::BackedOff, Some(format!("{why}; next try at {until}")))
                }
                Standing::Revoked => (ClientState::Revoked, None),
            };
            ClientView {
                client: id,
                inventory: client.inventory.clone(),
                state,
                reason,
                registered: client.registered,
                last_seen: client.last_seen,
                running: self.scheduler.client_running(id),
                succeeded: client.succeeded,
                failed: client.failed,
                tampering: client.tampering,
            }
        };
        let mut clients: Vec<ClientView> = self.nodes.iter().map(view).collect();
        clients.sort_by(|a, b| (&a.inventory.host_name, a.client).cmp(&(&b.inventory.host_name, b.client)));
        clients
    }

    /// Acts on what the Job Manager says after a subjob has ended.
    pub(super) fn job_goes_on(&mut self, id: JobId, next: &Next) {
        match next {
            Next::GoOn => {}
            Next::Aggregate => {
                self.scheduler.remove_job(id);
                self.write_state(id);
                self.to_aggregate.push(id);
            }
            Next::Stop => self.close_job(id),
        }
    }

    /// Takes an ended job off the grid and writes its state.
    fn close_job(&mut self, id: JobId) {
        for lease in self.scheduler.remove_job(id) {
            self.ops.push(Op::RemoveLease(lease.fence));
            self.revoked_leases.entry(lease.client).or_default().push(lease.fence);
        }
        self.moved_cursors.remove(&id);
        self.open.remove(&id);
        self.write_state(id);
    }

    fn write_state(&mut self, id: JobId) {
        if let Ok(job) = self.jobs.get(id) {
            let (state, reason, ended) = (job.state, job.reason.clone(), job.ended);
            self.ops.push(Op::SetJobState { job: id, state, reason, ended });
        }
    }

    fn visible_job(&self, caller: &Caller, id: JobId) -> Result<&Job, Problem> {
        match self.jobs.get(id) {
            Ok(job) if may_see(caller, job) => Ok(job),
            // Not saying whether it exists: other users' jobs are not to be counted.
            _ => Err(job_problem(&JobError::Unknown { job: id })),
        }
    }

    fn job_view(&self, id: JobId, job: &Job) -> JobView {
        JobView {
            job: id,
            name: job.name.clone(),
            user: job.user.clone(),
            state: job.state,
            reason: job.reason.clone(),
            submitted: job.submitted,
            ended: job.ended,
            counts: job.counts(self.scheduler.running_count(id)),
            cpu_s: job.cpu.as_secs_f64(),
            version: job.version,
        }
    }

    /// All that each client in touch has when nothing runs on it.
    fn in_touch(&self, now: Timestamp) -> Vec<Capacity> {
        let online = self.nodes.iter().filter(|(id, _)| self.nodes.standing(*id, now) == Standing::Online);
        let capacity = |client: &node_manager::Client| Capacity {
            cpus: client.inventory.cpus,
            memory: client.inventory.memory,
            disk: client.inventory.disk,
            permits: client.inventory.permits,
        };
        online.map(|(_, client)| capacity(client)).collect()
    }
}

/// What sealed secrets are bound to.
pub(super) fn secrets_context(id: JobId) -> String {
    format!("secrets of job {id}")
}

fn may_see(caller: &Caller, job: &Job) -> bool {
    caller.is_admin() || caller.user == job.user
}

fn job_problem(error: &JobError) -> Problem {
    match error {
        JobError::Unknown { .. } => problem(ProblemCode::NotFound, error.to_string(), "see `dcgrid jobs`"),
        JobError::IllegalTransition { job, from, .. } => {
            problem(ProblemCode::BadRequest, format!("job {job} is already {from}"), "nothing is left to do")
        }
    }
}
