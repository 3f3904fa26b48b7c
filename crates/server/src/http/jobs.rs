//! Jobs over HTTP: submit, look, fetch, cancel.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use model::{BlobHash, JobId};
use protocol::api::{
    JobDetails, JobView, Problem, ProblemCode, ResultList, SubjobPage, SubmitReply, SubmitRequest,
};
use serde::Deserialize;

use super::auth::User;
use super::blobs::send_range;
use super::views::{HostNames, group_failures, subjob_page};
use super::{App, Refused};
use crate::grid::Caller;
use crate::problem::problem;
use crate::store::EndedRow;
use crate::submit::prepare;

/// Jobs in one list.
const MAX_LIST: usize = 1_000;

/// Subjobs on one page.
const PAGE: u32 = 500;

/// Failed attempts that are looked at to group a job's failures.
const GROUPED: u32 = 10_000;

pub(super) async fn submit(
    State(app): State<App>,
    User(caller): User,
    Json(request): Json<SubmitRequest>,
) -> Result<Json<SubmitReply>, Refused> {
    let (user, key) = (caller.user.clone(), request.idempotency_key.clone());
    let earlier = app.handle.call(move |grid, _| Ok(grid.earlier_submission(&user, &key))).await?;
    if let Some(earlier) = earlier {
        return Ok(Json(earlier));
    }
    let user = caller.user;
    let submission = app.blocking(move |app| prepare(app.files.as_ref(), &app.keys, user, request)).await?;
    Ok(Json(app.handle.call(move |grid, now| grid.submit(now, submission)).await?))
}

pub(super) async fn list(State(app): State<App>, User(caller): User) -> Result<Json<Vec<JobView>>, Refused> {
    Ok(Json(app.handle.call(move |grid, _| Ok(grid.list_jobs(&caller, MAX_LIST))).await?))
}

#[derive(Debug, Deserialize)]
pub(super) struct WatchQuery {
    after: Option<u64>,
    #[serde(default)]
    wait_s: u64,
}

pub(super) async fn view(
    State(app): State<App>,
    User(caller): User,
    Path(job): Path<JobId>,
    Query(query): Query<WatchQuery>,
) -> Result<Json<JobView>, Refused> {
    let view = match query.after {
        Some(after) => app.handle.watch(caller, job, after, Duration::from_secs(query.wait_s)).await?,
        None => app.handle.call(move |grid, _| grid.view_job(&caller, job)).await?,
    };
    Ok(Json(view))
}

pub(super) async fn details(
    State(app): State<App>,
    User(caller): User,
    Path(job): Path<JobId>,
) -> Result<Json<JobDetails>, Refused> {
    let live = app.handle.call(move |grid, now| grid.live_job(now, &caller, job)).await?;
    let (plan, failed) = app
        .blocking(move |app| {
            let plan = app.read(|reader| reader.plan(job))?.ok_or_else(|| gone(job))?;
            Ok((plan, app.read(|reader| reader.failed_attempts(job, 0, GROUPED))?))
        })
        .await?;
    let hosts = host_names(&app, &failed).await?;
    Ok(Json(JobDetails {
        view: live.view,
        application: plan.application,
        resources: plan.resources,
        limits: plan.limits,
        attempts: plan.attempts,
        running: live.running,
        failures: group_failures(&failed, &hosts),
        waits: live.waits,
    }))
}

#[derive(Debug, Deserialize)]
pub(super) struct PageQuery {
    after: Option<u64>,
}

/// Subjobs of which an attempt has ended, with their attempts.
pub(super) async fn subjobs(
    State(app): State<App>,
    User(caller): User,
    Path(job): Path<JobId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<SubjobPage>, Refused> {
    app.handle.call(move |grid, _| grid.view_job(&caller, job)).await?;
    let from = query.after.map_or(0, |after| after.saturating_add(1));
    let (plan, outcomes, failed) = app
        .blocking(move |app| {
            let plan = app.read(|reader| reader.plan(job))?.ok_or_else(|| gone(job))?;
            let outcomes = app.read(|reader| reader.outcomes(job, from, PAGE))?;
            Ok((plan, outcomes, app.read(|reader| reader.failed_attempts(job, from, PAGE))?))
        })
        .await?;
    let mut hosts = host_names(&app, &failed).await?;
    hosts.extend(host_names(&app, &outcomes).await?);
    Ok(Json(subjob_page(&plan, &outcomes, &failed, PAGE as usize, &hosts)))
}

pub(super) async fn subjob_file(
    State(app): State<App>,
    User(caller): User,
    Path((job, index, path)): Path<(JobId, u64, String)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    app.handle.call(move |grid, _| grid.view_job(&caller, job)).await?;
    let hash = app
        .blocking(move |app| {
            let row = app.read(|reader| reader.last_attempt(job, index))?.ok_or_else(|| {
                let detail = format!("no attempt of subjob {job}.{index} has ended");
                problem(ProblemCode::NotFound, detail, "wait until one has")
            })?;
            row.outputs.iter().find(|file| file.path == path).map(|file| file.hash).ok_or_else(|| {
                let detail = format!("subjob {job}.{index} left no '{path}'");
                problem(ProblemCode::NotFound, detail, "")
            })
        })
        .await?;
    Ok(send_range(&app, hash, &headers).await?)
}

pub(super) async fn result(
    State(app): State<App>,
    User(caller): User,
    Path(job): Path<JobId>,
) -> Result<Json<ResultList>, Refused> {
    let view = app.handle.call(move |grid, _| grid.view_job(&caller, job)).await?;
    let files = app.blocking(move |app| app.read(|reader| reader.result(job))).await?;
    Ok(Json(ResultList { job, state: view.state, files: files.unwrap_or_default() }))
}

pub(super) async fn result_file(
    State(app): State<App>,
    User(caller): User,
    Path((job, path)): Path<(JobId, String)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let hash = result_hash(&app, caller, job, path).await?;
    Ok(send_range(&app, hash, &headers).await?)
}

async fn result_hash(app: &App, caller: Caller, job: JobId, path: String) -> Result<BlobHash, Problem> {
    app.handle.call(move |grid, _| grid.view_job(&caller, job)).await?;
    let files = app.blocking(move |app| app.read(|reader| reader.result(job))).await?;
    let file = files.unwrap_or_default().into_iter().find(|file| file.path == path);
    file.map(|file| file.hash).ok_or_else(|| {
        problem(ProblemCode::NotFound, format!("the result of job {job} has no '{path}'"), "see `dcgrid get`")
    })
}

pub(super) async fn cancel(
    State(app): State<App>,
    User(caller): User,
    Path(job): Path<JobId>,
) -> Result<Json<JobView>, Refused> {
    Ok(Json(app.handle.call(move |grid, now| grid.cancel_job(now, &caller, job)).await?))
}

fn gone(job: JobId) -> Problem {
    problem(ProblemCode::NotFound, format!("job {job} is gone"), "see `dcgrid jobs`")
}

async fn host_names(app: &App, rows: &[EndedRow]) -> Result<HostNames, Problem> {
    let clients: BTreeSet<_> = rows.iter().map(|row| row.client).collect();
    app.handle.call(move |grid, _| Ok(clients.into_iter().map(|id| (id, grid.host_name(id))).collect())).await
}
