//! How the rest of the server talks to the loop: functions over the grid, and polls and watches that it may hold.

use std::fmt;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use model::{ClientId, JobId, Timestamp};
use protocol::api::{JobView, Problem, ProblemCode, ResultFile};
use protocol::client_link::{PollReply, PollRequest};
use tokio::sync::oneshot;

use crate::grid::{Caller, Grid, VerifiedReport};
use crate::problem::problem;

pub(super) type Answer<T> = Result<T, Problem>;

/// A change of the grid or a question to it, with where its answer goes.
pub(super) type Call = Box<dyn FnOnce(&mut Grid, Timestamp) -> Deferred + Send>;

/// Sends an answer once the commit is over; given a problem when it failed.
pub(super) type Deferred = Box<dyn FnOnce(Option<&Problem>) + Send>;

pub(super) enum Message {
    Call(Call),
    Poll {
        client: ClientId,
        request: Box<PollRequest>,
        reports: Vec<VerifiedReport>,
        reply: oneshot::Sender<Answer<PollReply>>,
    },
    Watch {
        caller: Caller,
        job: JobId,
        after: u64,
        wait: Duration,
        reply: oneshot::Sender<Answer<JobView>>,
    },
    Aggregated {
        job: JobId,
        result: Result<Vec<ResultFile>, String>,
    },
    Stop,
}

/// How the rest of the server talks to the loop.
#[derive(Clone)]
pub struct Handle {
    messages: SyncSender<Message>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    pub(super) fn new(messages: SyncSender<Message>) -> Self {
        Handle { messages }
    }

    /// Asks or changes the grid; returns once what was decided is durable.
    pub async fn call<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Grid, Timestamp) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Call(Box::new(move |grid, now| deferred(reply, decide(grid, now)))))?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    pub async fn poll(
        &self,
        client: ClientId,
        request: PollRequest,
        reports: Vec<VerifiedReport>,
    ) -> Answer<PollReply> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Poll { client, request: Box::new(request), reports, reply })?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Waits until a job's version is not `after` or the job has ended, or for `wait`.
    pub async fn watch(&self, caller: Caller, job: JobId, after: u64, wait: Duration) -> Answer<JobView> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Watch { caller, job, after, wait, reply })?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Delivers a job's result. Blocks while the loop is busy: results are not refused.
    pub(crate) fn aggregated(&self, job: JobId, result: Result<Vec<ResultFile>, String>) {
        // The loop is gone only when the server stops; the next start aggregates again.
        let _ = self.messages.send(Message::Aggregated { job, result });
    }

    /// Ends the loop after what is in its queue. Everybody else who still waits is told that the server stops.
    pub fn stop(&self) {
        // Already gone is as good.
        let _ = self.messages.send(Message::Stop);
    }

    fn send(&self, message: Message) -> Answer<()> {
        self.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => {
                problem(ProblemCode::Overloaded, "the server has more requests than it can take", "try again")
            }
            TrySendError::Disconnected(_) => stopping(),
        })
    }
}

fn stopping() -> Problem {
    problem(ProblemCode::Overloaded, "the server is stopping", "try again")
}

pub(super) fn deferred<T: Send + 'static>(reply: oneshot::Sender<Answer<T>>, answer: Answer<T>) -> Deferred {
    Box::new(move |failure| {
        // Who asked may have gone away; what was decided stands.
        let _ = reply.send(match failure {
            None => answer,
            Some(problem) => Err(problem.clone()),
        });
    })
}
