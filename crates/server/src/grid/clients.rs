//! Clients: registered, polling, reporting, revoked.

use job_manager::decompose;
use model::plan::Plan;
use model::{
    BlobHash, ClientId, FailureClass, FailureReason, Fence, Inventory, OutputFile, SubjobId, Timestamp, Usage,
};
use node_manager::black_hole::{QUICK, Suspicion};
use node_manager::{Refusal, Sequence, Standing};
use protocol::api::{Problem, ProblemCode};
use protocol::client_link::{
    Bytes, DeclaredOutput, Lease as LeaseMessage, MAX_PER_POLL, PollRequest, RegisterReply, secrets_info,
};
use resource_scheduler::attempts::Verdict;
use resource_scheduler::{Ended, Lease, Offer};

use super::jobs::secrets_context;
use super::{Grid, Open};
use crate::problem::problem;
use crate::store::{EndedRow, Op};

/// Clients whose success with a job is remembered; two suffice to clear the job for any third.
const SUCCEEDED_ON: usize = 2;

/// A report whose files are in the file store.
#[derive(Clone, Debug)]
pub struct VerifiedReport {
    pub fence: Fence,
    pub failure: Option<FailureReason>,
    pub outputs: Vec<OutputFile>,
    pub usage: Usage,
}

/// What a poll brings the client.
#[derive(Debug, Default)]
pub struct PollOutcome {
    pub leases: Vec<LeaseMessage>,
    pub cancel: Vec<Fence>,
    pub settled: Vec<Fence>,
}

impl PollOutcome {
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.cancel.is_empty() && self.settled.is_empty()
    }
}

impl Grid {
    pub fn register_client(
        &mut self,
        now: Timestamp,
        token_hash: &[u8; 32],
        public_key: BlobHash,
        seal_key: BlobHash,
        inventory: Inventory,
    ) -> Result<RegisterReply, Problem> {
        let id = link::keys::client_id(&public_key);
        if self.nodes.get(id).is_some_and(|client| client.revoked) {
            return Err(refused(&Refusal::Revoked));
        }
        // A client that lost the answer asks again: that is no second use of the token.
        if self.nodes.get(id).is_none() {
            self.use_join_token(now, token_hash)?;
        }
        self.nodes
            .register(id, public_key.0, seal_key.0, inventory.clone(), now)
            .map_err(|refusal| refused(&refusal))?;
        self.ops.push(Op::AddClient {
            id,
            public_key: public_key.0,
            seal_key: seal_key.0,
            inventory,
            registered: now,
        });
        Ok(RegisterReply {
            client: id,
            grid_key: self.keys.grid().public(),
            grid_key_signature: self.keys.grid_key_signature(),
        })
    }

    /// The key that a client's requests are signed with, and why they are refused if they are.
    pub fn client_key(&self, id: ClientId) -> Result<(BlobHash, Option<Problem>), Problem> {
        let client = self.nodes.get(id).ok_or_else(|| refused(&Refusal::Unknown))?;
        let barred = client.revoked.then(|| refused(&Refusal::Revoked));
        Ok((BlobHash(client.public_key), barred))
    }

    pub fn revoke_client(&mut self, now: Timestamp, id: ClientId) -> Result<(), Problem> {
        if !self.nodes.revoke(id) {
            let fix = "see `dcgrid clients`";
            return Err(problem(ProblemCode::NotFound, format!("there is no client {id}"), fix));
        }
        self.ops.push(Op::RevokeClient(id));
        // Ends its parked poll, so that it hears of it now and not when the poll is over.
        self.revoked_leases.entry(id).or_default();
        for ended in self.scheduler.drop_client(id, "its key was revoked") {
            self.attempt_failed(now, ended, Usage::default(), Vec::new());
        }
        Ok(())
    }

    /// Takes a poll: counts its reports, renews its leases, and gives it work.
    pub fn poll(
        &mut self,
        now: Timestamp,
        id: ClientId,
        request: &PollRequest,
        reports: Vec<VerifiedReport>,
    ) -> Result<PollOutcome, Problem> {
        let sequence = self
            .nodes
            .seen(id, request.seq, request.inventory.clone(), now)
            .map_err(|refusal| refused(&refusal))?;
        if let Some(inventory) = request.inventory.clone() {
            self.ops.push(Op::SetInventory { id, inventory });
        }
        let mut outcome = PollOutcome::default();
        for report in reports {
            outcome.settled.push(report.fence);
            self.report(now, id, report);
        }
        let held: Vec<Fence> =
            request.held.iter().filter(|fence| !outcome.settled.contains(fence)).copied().collect();
        let contact = self.scheduler.contact(now, id, request.answered, &held);
        for ended in contact.lost {
            self.attempt_failed(now, ended, Usage::default(), Vec::new());
        }
        for lease in contact.revived {
            self.ops.push(Op::AddLease(lease));
        }
        outcome.cancel = contact.dead;
        self.revoked_leases.remove(&id);
        outcome.leases = match sequence {
            Sequence::Repeated => {
                let again = self.scheduler.granted_to(id, request.seq);
                again.iter().filter_map(|lease| self.lease_message(lease)).collect()
            }
            Sequence::Fresh => Vec::new(),
        };
        if outcome.leases.is_empty() {
            outcome.leases = self.assign(now, id, request);
        }
        Ok(outcome)
    }

    /// Gives a client work, as much as it asks for and is trusted with.
    pub fn assign(&mut self, now: Timestamp, id: ClientId, request: &PollRequest) -> Vec<LeaseMessage> {
        if !matches!(self.nodes.standing(id, now), Standing::Online) {
            return Vec::new();
        }
        let running = self.scheduler.client_running(id) as usize;
        let most = self.nodes.lease_cap(id, now).min(MAX_PER_POLL).saturating_sub(running);
        let PollRequest { seq, answered, capacity, .. } = *request;
        let leases = self.scheduler.assign(now, &Offer { client: id, seq, answered, capacity, most });
        let mut messages = Vec::with_capacity(leases.len());
        for lease in leases {
            self.moved_cursors.insert(lease.subjob.job);
            self.jobs.touch(lease.subjob.job);
            match self.lease_message(&lease) {
                Some(message) => {
                    self.ops.push(Op::AddLease(lease));
                    messages.push(message);
                }
                None => tracing::error!(subjob = %lease.subjob, "a lease without a plan was dropped"),
            }
        }
        messages
    }

    fn report(&mut self, now: Timestamp, id: ClientId, report: VerifiedReport) {
        let VerifiedReport { fence, failure, outputs, usage } = report;
        let failure = failure.or_else(|| {
            let subjob = self.scheduler.deliverable(fence, id)?;
            let plan = self.plan(subjob.job)?;
            too_fast(&plan, usage).or_else(|| missing_output(&plan, subjob.index, &outputs))
        });
        let Some(reason) = failure else {
            if let Some(lease) = self.scheduler.succeed(fence, id) {
                self.attempt_succeeded(now, &lease, usage, outputs);
            }
            return;
        };
        if let Some(ended) = self.scheduler.fail_reported(fence, id, reason) {
            self.attempt_failed(now, ended, usage, outputs);
        }
    }

    fn attempt_succeeded(&mut self, now: Timestamp, lease: &Lease, usage: Usage, outputs: Vec<OutputFile>) {
        self.ops.push(Op::RemoveLease(lease.fence));
        self.ops.push(Op::AddOutcome(ended_row(lease, now, usage, None, outputs)));
        self.nodes.finished(lease.client, lease.subjob, Suspicion::Success, now);
        if let Some(open) = self.open.get_mut(&lease.subjob.job)
            && open.succeeded_on.len() < SUCCEEDED_ON
            && !open.succeeded_on.contains(&lease.client)
        {
            open.succeeded_on.push(lease.client);
        }
        match self.jobs.succeeded(lease.subjob.job, usage.cpu) {
            Ok(next) => self.job_goes_on(lease.subjob.job, &next),
            Err(error) => tracing::error!(%error, "a subjob ended in a job that does not run"),
        }
    }

    pub(super) fn attempt_failed(
        &mut self,
        now: Timestamp,
        ended: Ended,
        usage: Usage,
        outputs: Vec<OutputFile>,
    ) {
        let Ended { lease, reason, verdict } = ended;
        tracing::debug!(subjob = %lease.subjob, client = %lease.client, %reason, "attempt failed");
        self.ops.push(Op::RemoveLease(lease.fence));
        let row = ended_row(&lease, now, usage, Some(reason.clone()), outputs);
        self.ops.push(Op::AddFailedAttempt(row.clone()));
        let suspicion = self.suspicion(&lease, &reason, usage);
        if let Some(why) = self.nodes.finished(lease.client, lease.subjob, suspicion, now) {
            tracing::warn!(client = %lease.client, why, "client backed off");
        }
        let job = lease.subjob.job;
        match verdict {
            Verdict::Again => {
                self.new_work = true;
                self.jobs.touch(job);
            }
            Verdict::Failed => {
                self.ops.push(Op::AddOutcome(row));
                if reason.class() == FailureClass::MalformedSubjob {
                    self.nodes.exonerate(lease.subjob);
                }
                match self.jobs.failed(job, &reason, now) {
                    Ok(next) => self.job_goes_on(job, &next),
                    Err(error) => tracing::error!(%error, "a subjob failed in a job that does not run"),
                }
            }
        }
    }

    /// What a failed attempt says about its client (§4.2.3).
    fn suspicion(&self, lease: &Lease, reason: &FailureReason, usage: Usage) -> Suspicion {
        if let FailureReason::RuntimeMin { .. } = reason {
            return Suspicion::QuickSuccess;
        }
        if let FailureReason::Tampering { .. } = reason {
            return Suspicion::Tampered;
        }
        match reason.class() {
            FailureClass::DesktopContention => Suspicion::Neutral,
            _ if usage.wall > QUICK => Suspicion::Neutral,
            FailureClass::ClientFault => Suspicion::Quick { client_is_to_blame: true },
            FailureClass::MalformedSubjob => {
                let elsewhere = |open: &Open| open.succeeded_on.iter().any(|other| *other != lease.client);
                let client_is_to_blame = self.open.get(&lease.subjob.job).is_some_and(elsewhere);
                Suspicion::Quick { client_is_to_blame }
            }
        }
    }

    /// A lease with all that its client needs to run the subjob.
    fn lease_message(&self, lease: &Lease) -> Option<LeaseMessage> {
        let open = self.open.get(&lease.subjob.job)?;
        let work = decompose::subjob(&open.plan, lease.subjob.index)?;
        let job = self.jobs.get(lease.subjob.job).ok()?;
        let secrets = match &open.secrets {
            None => None,
            Some(sealed) => Some(self.sealed_for(lease.client, lease.fence, lease.subjob, sealed)?),
        };
        let keys = match self.may_seal(lease.client, &open.plan) {
            false => None,
            true => Some(self.lease_keys(lease.client, lease.fence, lease.subjob)?),
        };
        let outputs = work.outputs.into_iter();
        Some(LeaseMessage {
            fence: lease.fence,
            subjob: lease.subjob,
            attempt: lease.attempt,
            job_name: job.name.clone(),
            user: job.user.to_string(),
            application: open.application.manifest,
            application_size: open.application.manifest_size,
            application_signature: Bytes(open.application.signature.clone()),
            command: work.command,
            env: work.env,
            stdin: work.stdin,
            inputs: work.inputs,
            outputs: outputs.map(|o| DeclaredOutput { path: o.path, optional: o.optional }).collect(),
            resources: open.plan.resources,
            limits: open.plan.limits,
            network: open.plan.network.clone(),
            display: open.plan.display,
            secrets,
            keys,
        })
    }

    /// A job's secrets, opened here and sealed again for one client and lease.
    fn sealed_for(
        &self,
        client: ClientId,
        fence: Fence,
        subjob: SubjobId,
        at_rest: &[u8],
    ) -> Option<protocol::client_link::Sealed> {
        let opened = self.keys.open_at_rest(&secrets_context(subjob.job), at_rest);
        let text = opened.inspect_err(|error| tracing::error!(%error, "secrets are lost")).ok()?;
        let to = BlobHash(self.nodes.get(client)?.seal_key);
        let sealed = link::keys::seal(&to, &secrets_info(fence, subjob), &text);
        sealed.inspect_err(|error| tracing::error!(%error, %client, "secrets can't be sealed")).ok()
    }
}

/// A success that came too soon to be one.
fn too_fast(plan: &Plan, usage: Usage) -> Option<FailureReason> {
    let limit = plan.limits.runtime_min;
    (usage.wall < limit).then_some(FailureReason::RuntimeMin { limit, ran: usage.wall })
}

/// A success without a file that the job declares is none, whatever the client says.
fn missing_output(plan: &Plan, index: u64, outputs: &[OutputFile]) -> Option<FailureReason> {
    let declared = decompose::subjob(plan, index)?.outputs;
    let absent = |path: &str| outputs.iter().all(|file| file.path != path);
    let missing = declared.into_iter().find(|output| !output.optional && absent(&output.path))?;
    Some(FailureReason::OutputMissing { path: missing.path })
}

fn ended_row(
    lease: &Lease,
    ended: Timestamp,
    usage: Usage,
    failure: Option<FailureReason>,
    outputs: Vec<OutputFile>,
) -> EndedRow {
    EndedRow {
        job: lease.subjob.job,
        index: lease.subjob.index,
        fence: lease.fence,
        attempt: lease.attempt,
        client: lease.client,
        ended,
        usage,
        failure,
        outputs,
    }
}

fn refused(refusal: &Refusal) -> Problem {
    let (code, fix) = match refusal {
        Refusal::Unknown => {
            (ProblemCode::NotLoggedIn, "join again: `dcgrid client --server URL --token TOKEN`")
        }
        Refusal::Revoked => (ProblemCode::ClientRevoked, "ask the administrator"),
        Refusal::StaleSequence { .. } => {
            (ProblemCode::StaleSequence, "two clients may share one state directory: give each its own")
        }
    };
    problem(code, refusal.to_string(), fix)
}
