//! The client link's server end: register, poll, blobs. Every request is signed, every poll's reply too.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{BlobHash, ByteSize, FailureReason, OutputFile};
use protocol::api::{Problem, ProblemCode, UploadReply};
use protocol::client_link::{
    MAX_INLINE, MAX_PER_POLL, PollRequest, RegisterReply, RegisterRequest, Report, SIGNATURE_HEADER,
    reply_text,
};
use protocol::token::decode_secret;

use super::auth::{Signed, Unverified};
use super::blobs::{UploadQuery, send_range, store_part};
use super::{App, Refused};
use crate::grid::{VerifiedReport, secret_hash};
use crate::problem::{files_problem, problem};

/// Most files in one report.
const MAX_FILES: usize = 1_024;

pub(super) async fn register(
    State(app): State<App>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<RegisterReply>, Refused> {
    let request: RegisterRequest = parse(&body)?;
    let id = link::keys::client_id(&request.public_key);
    let unverified = Unverified { method: &method, uri: &uri, headers: &headers, body: &body };
    if unverified.client()? != id {
        let detail = "the client's id does not belong to the key it registers";
        return Err(problem(ProblemCode::BadRequest, detail, "").into());
    }
    unverified.verify_with(id, &request.public_key)?;
    let Some(secret) = decode_secret(&request.token) else {
        let detail = "the join token is malformed";
        return Err(problem(ProblemCode::TokenRefused, detail, "copy it again, whole").into());
    };
    let token = secret_hash(&secret);
    let RegisterRequest { public_key, seal_key, inventory, .. } = request;
    let reply = app
        .handle
        .call(move |grid, now| grid.register_client(now, &token, public_key, seal_key, inventory))
        .await?;
    tracing::info!(client = %id, "client registered");
    Ok(Json(reply))
}

pub(super) async fn poll(
    State(app): State<App>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let unverified = Unverified { method: &method, uri: &uri, headers: &headers, body: &body };
    let signed = unverified.verify(&app).await?;
    let mut request: PollRequest = parse(&body)?;
    if request.held.len().max(request.reports.len()) > MAX_PER_POLL {
        let detail = format!("more than {MAX_PER_POLL} leases or reports in one poll");
        return Err(problem(ProblemCode::TooLarge, detail, "poll again with the rest").into());
    }
    let reports = std::mem::take(&mut request.reports);
    let reports = verify_reports(&app, &signed, reports).await?;
    let reply = app.handle.poll(signed.client, request, reports).await?;
    let body = serde_json::to_vec(&reply).expect("a reply holds only text, numbers and lists");
    let hash = BlobHash(*blake3::hash(&body).as_bytes());
    let signature = app.keys.grid().sign(&reply_text(&signed.signature, 200, &hash));
    let signature = STANDARD.encode(&signature.0);
    let headers =
        [(header::CONTENT_TYPE.as_str(), "application/json"), (SIGNATURE_HEADER, signature.as_str())];
    Ok((StatusCode::OK, headers, body).into_response())
}

pub(super) async fn download(
    State(app): State<App>,
    Path(hash): Path<BlobHash>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let unverified = Unverified { method: &method, uri: &uri, headers: &headers, body: &body };
    unverified.verify(&app).await?;
    Ok(send_range(&app, hash, &headers).await?)
}

pub(super) async fn upload(
    State(app): State<App>,
    Path(hash): Path<BlobHash>,
    Query(query): Query<UploadQuery>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<UploadReply>, Refused> {
    let unverified = Unverified { method: &method, uri: &uri, headers: &headers, body: &body };
    let client = unverified.verify(&app).await?.client;
    let Some(fence) = query.fence else {
        return Err(problem(ProblemCode::BadRequest, "an upload needs the lease it belongs to", "").into());
    };
    let limit = app.handle.call(move |grid, _| grid.upload_limit(client, fence)).await?;
    if query.total > limit {
        let detail =
            format!("{} is over the job's output limit of {}", ByteSize(query.total), ByteSize(limit));
        return Err(problem(ProblemCode::TooLarge, detail, "report an output limit instead").into());
    }
    Ok(Json(store_part(&app, hash, query, body).await?))
}

/// Stores what travels inside reports and makes sure that everything else they name is there. Reports under
/// dead leases come out empty: nothing of theirs is kept.
async fn verify_reports(
    app: &App,
    signed: &Signed,
    reports: Vec<Report>,
) -> Result<Vec<VerifiedReport>, Problem> {
    if reports.is_empty() {
        return Ok(Vec::new());
    }
    let client = signed.client;
    let fences: Vec<_> = reports.iter().map(|report| report.fence).collect();
    let limits = app.handle.call(move |grid, _| {
        Ok(fences.into_iter().map(|fence| grid.upload_limit(client, fence).ok()).collect::<Vec<_>>())
    });
    let limits = limits.await?;
    app.blocking(move |app| {
        reports.into_iter().zip(limits).map(|(report, limit)| verify_report(app, report, limit)).collect()
    })
    .await
}

fn verify_report(app: &App, report: Report, limit: Option<u64>) -> Result<VerifiedReport, Problem> {
    let Report { fence, mut failure, outputs, usage } = report;
    let Some(limit) = limit else {
        return Ok(VerifiedReport { fence, failure, outputs: Vec::new(), usage });
    };
    if outputs.len() > MAX_FILES {
        let detail = format!("{} files in one report, at most {MAX_FILES}", outputs.len());
        return Err(problem(ProblemCode::TooLarge, detail, "declare fewer outputs"));
    }
    let total = outputs.iter().fold(0u64, |sum, file| sum.saturating_add(file.size));
    if total > limit {
        failure = Some(FailureReason::OutputLimit { limit: ByteSize(limit), size: ByteSize(total) });
        return Ok(VerifiedReport { fence, failure, outputs: Vec::new(), usage });
    }
    let mut kept = Vec::with_capacity(outputs.len());
    for file in outputs {
        let stored = match &file.inline {
            Some(bytes) if bytes.0.len() <= MAX_INLINE && bytes.0.len() as u64 == file.size => {
                app.files.put(&bytes.0).map_err(|e| files_problem(&e))? == file.hash
            }
            Some(_) => false,
            None => match app.files.size(&file.hash).map_err(|e| files_problem(&e))? {
                Some(size) => size == file.size,
                None => {
                    let detail = format!("'{}' of lease {fence} was not uploaded", file.path);
                    return Err(problem(ProblemCode::MissingBlobs, detail, "upload it, then report again"));
                }
            },
        };
        if !stored {
            let detail = format!("'{}' of lease {fence} is not what the report says", file.path);
            return Err(problem(ProblemCode::HashMismatch, detail, "report it again"));
        }
        kept.push(OutputFile { path: file.path, hash: file.hash, size: file.size });
    }
    Ok(VerifiedReport { fence, failure, outputs: kept, usage })
}

fn parse<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!("the request can't be read: {error}");
        problem(ProblemCode::BadRequest, detail, "client and server may be of different versions")
    })
}
