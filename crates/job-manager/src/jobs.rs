//! The jobs and how far each is: counts, state, and when a job stops itself because it looks malformed (§4.2.3).
//!
//! The machine is drawn in `model::job`; [`Job::go_to`] is its one transition function.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Counts, FailureClass, FailureReason, JobId, JobState, Timestamp, UserName};
use thiserror::Error;

/// A job of which this many subjobs failed for good, and none succeeded, looks malformed and stops (§4.2.3: "if
/// all of the subjobs for a Job are coming back as failed").
pub const MALFORMED_AFTER: u64 = 5;

#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub name: String,
    pub user: UserName,
    pub total: u64,
    pub state: JobState,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    pub submitted: Timestamp,
    pub ended: Option<Timestamp>,
    pub succeeded: u64,
    pub failed: u64,
    /// Processor time of all attempts that succeeded.
    pub cpu: Duration,
    /// Grows with every change that a person would want to see.
    pub version: u64,
}

/// What must be done after a subjob has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: others are still waiting or running.
    GoOn,
    /// All have ended: put the result together.
    Aggregate,
    /// The job has just failed as a whole: take its subjobs off the grid.
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JobError {
    #[error("there is no job {job}")]
    Unknown { job: JobId },
    #[error("job {job} is {from} and can't become {to}")]
    IllegalTransition { job: JobId, from: JobState, to: JobState },
}

#[derive(Debug, Default)]
pub struct JobManager {
    jobs: BTreeMap<JobId, Job>,
}

impl Job {
    pub fn new(name: String, user: UserName, total: u64, submitted: Timestamp) -> Self {
        Job {
            name,
            user,
            total,
            state: JobState::Running,
            reason: None,
            submitted,
            ended: None,
            succeeded: 0,
            failed: 0,
            cpu: Duration::ZERO,
            version: 1,
        }
    }

    /// The counts, given how many of its subjobs run at this moment.
    pub fn counts(&self, running: u64) -> Counts {
        let open = self.total.saturating_sub(self.succeeded + self.failed);
        let running = running.min(open);
        let (waiting, cancelled) = match self.state {
            JobState::Running => (open - running, 0),
            JobState::Aggregating | JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
                (0, open - running)
            }
        };
        Counts {
            total: self.total,
            waiting,
            running,
            succeeded: self.succeeded,
            failed: self.failed,
            cancelled,
        }
    }

    fn go_to(&mut self, job: JobId, to: JobState) -> Result<(), JobError> {
        use JobState::{Aggregating, Cancelled, Failed, Running, Succeeded};
        let legal = matches!(
            (self.state, to),
            (Running, Aggregating | Failed | Cancelled) | (Aggregating, Succeeded | Failed | Cancelled)
        );
        if !legal {
            return Err(JobError::IllegalTransition { job, from: self.state, to });
        }
        self.state = to;
        self.version += 1;
        Ok(())
    }
}

impl JobManager {
    /// Adds a job, new or restored.
    pub fn add(&mut self, id: JobId, job: Job) {
        self.jobs.insert(id, job);
    }

    pub fn get(&self, id: JobId) -> Result<&Job, JobError> {
        self.jobs.get(&id).ok_or(JobError::Unknown { job: id })
    }

    /// All jobs, newest first.
    pub fn iter(&self) -> impl Iterator<Item = (JobId, &Job)> {
        self.jobs.iter().rev().map(|(id, job)| (*id, job))
    }

    /// Makes a change visible to those who wait for one.
    pub fn touch(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.version += 1;
        }
    }

    /// Counts a subjob's success.
    pub fn succeeded(&mut self, id: JobId, cpu: Duration) -> Result<Next, JobError> {
        let job = self.running(id)?;
        job.succeeded += 1;
        // What clients say of themselves is not bounded by anything.
        job.cpu = job.cpu.saturating_add(cpu);
        job.version += 1;
        next(id, job)
    }

    /// Counts a subjob's failure for good.
    pub fn failed(&mut self, id: JobId, reason: &FailureReason, now: Timestamp) -> Result<Next, JobError> {
        let job = self.running(id)?;
        job.failed += 1;
        job.version += 1;
        let looks_malformed = job.succeeded == 0
            && job.failed == MALFORMED_AFTER
            && job.failed < job.total
            && reason.class() == FailureClass::MalformedSubjob;
        if !looks_malformed {
            return next(id, job);
        }
        job.go_to(id, JobState::Failed)?;
        job.ended = Some(now);
        job.reason = Some(format!(
            "the first {MALFORMED_AFTER} subjobs all failed, so it looks like the job, not the clients: {reason}"
        ));
        Ok(Next::Stop)
    }

    /// Ends a job whose result has been put together, or could not be.
    pub fn aggregated(
        &mut self,
        id: JobId,
        result: Result<(), String>,
        now: Timestamp,
    ) -> Result<(), JobError> {
        let job = self.jobs.get_mut(&id).ok_or(JobError::Unknown { job: id })?;
        let reason = match result {
            Err(why) => Some(format!("the result could not be put together: {why}")),
            Ok(()) if job.failed > 0 => Some(format!("{} of {} subjobs failed", job.failed, job.total)),
            Ok(()) => None,
        };
        job.go_to(id, if reason.is_some() { JobState::Failed } else { JobState::Succeeded })?;
        job.reason = reason;
        job.ended = Some(now);
        Ok(())
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// There is none, or it has ended.
    pub fn cancel(&mut self, id: JobId, why: String, now: Timestamp) -> Result<(), JobError> {
        let job = self.jobs.get_mut(&id).ok_or(JobError::Unknown { job: id })?;
        job.go_to(id, JobState::Cancelled)?;
        job.reason = Some(why);
        job.ended = Some(now);
        Ok(())
    }

    fn running(&mut self, id: JobId) -> Result<&mut Job, JobError> {
        let job = self.jobs.get_mut(&id).ok_or(JobError::Unknown { job: id })?;
        match job.state {
            JobState::Running => Ok(job),
            from => Err(JobError::IllegalTransition { job: id, from, to: JobState::Running }),
        }
    }
}

fn next(id: JobId, job: &mut Job) -> Result<Next, JobError> {
    if job.succeeded + job.failed < job.total {
        return Ok(Next::GoOn);
    }
    job.go_to(id, JobState::Aggregating)?;
    Ok(Next::Aggregate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: JobId = JobId(1);

    fn manager(total: u64) -> JobManager {
        let mut manager = JobManager::default();
        let user = "a".parse().expect("valid");
        manager.add(ID, Job::new("j".into(), user, total, Timestamp(0)));
        manager
    }

    fn exit() -> FailureReason {
        FailureReason::ExitCode { code: 1 }
    }

    fn fail(manager: &mut JobManager) -> Next {
        manager.failed(ID, &exit(), Timestamp(1)).expect("running")
    }

    #[test]
    fn the_last_subjob_starts_the_aggregation() {
        let mut manager = manager(2);
        assert_eq!(manager.succeeded(ID, Duration::ZERO), Ok(Next::GoOn));
        assert_eq!(fail(&mut manager), Next::Aggregate);
        manager.aggregated(ID, Ok(()), Timestamp(2)).expect("aggregating");
        let job = manager.get(ID).expect("there");
        assert_eq!((job.state, job.reason.as_deref()), (JobState::Failed, Some("1 of 2 subjobs failed")));
    }

    #[test]
    fn a_job_that_only_fails_stops_itself() {
        let mut manager = manager(100);
        for _ in 1..MALFORMED_AFTER {
            assert_eq!(fail(&mut manager), Next::GoOn);
        }
        assert_eq!(fail(&mut manager), Next::Stop);
        let job = manager.get(ID).expect("there");
        assert_eq!((job.state, job.counts(0).cancelled), (JobState::Failed, 95));
    }

    #[test]
    fn one_success_shows_that_the_job_is_sound() {
        let mut manager = manager(100);
        manager.succeeded(ID, Duration::ZERO).expect("running");
        for _ in 0..50 {
            assert_eq!(fail(&mut manager), Next::GoOn);
        }
    }

    #[test]
    fn a_lie_about_processor_time_is_no_overflow() {
        let mut manager = manager(3);
        for _ in 0..2 {
            assert_eq!(manager.succeeded(ID, Duration::MAX), Ok(Next::GoOn));
        }
        assert_eq!(manager.get(ID).expect("there").cpu, Duration::MAX);
    }

    #[test]
    fn the_transition_table_is_the_one_that_is_drawn() {
        use JobState::{Aggregating, Cancelled, Failed, Running, Succeeded};
        let states = [Running, Aggregating, Succeeded, Failed, Cancelled];
        let mut legal = Vec::new();
        for from in states {
            for to in states {
                let mut job = manager(1).get(ID).expect("there").clone();
                job.state = from;
                match job.go_to(ID, to) {
                    Ok(()) => legal.push((from, to)),
                    Err(error) => assert_eq!(error, JobError::IllegalTransition { job: ID, from, to }),
                }
            }
        }
        let expect = [
            (Running, Aggregating),
            (Running, Failed),
            (Running, Cancelled),
            (Aggregating, Succeeded),
            (Aggregating, Failed),
            (Aggregating, Cancelled),
        ];
        assert_eq!(legal, expect);
    }

    #[test]
    fn nothing_counts_after_the_end() {
        let mut manager = manager(2);
        manager.cancel(ID, "by alice".into(), Timestamp(1)).expect("running");
        assert!(manager.succeeded(ID, Duration::ZERO).is_err());
        assert!(manager.cancel(ID, "again".into(), Timestamp(2)).is_err());
        assert_eq!(manager.get(ID).expect("there").counts(0).cancelled, 2);
    }
}
