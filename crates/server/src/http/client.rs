//! The client link's server end: register, poll, blobs. Every request is signed, every answer to a poll too.

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::BlobHash;
use protocol::api::{MAX_PART, Problem, ProblemCode, UploadReply};
use protocol::client_link::{
    MAX_PER_POLL, PollReply, PollRequest, RegisterReply, RegisterRequest, SIGNATURE_HEADER, reply_text,
};
use protocol::token::decode_secret;

use super::auth::{Signed, Unverified};
use super::blobs::{UploadQuery, send_range, store_part};
use super::reports::{plain_inventory, verify_reports};
use super::{App, MAX_BODY, PROBLEM_JSON, Refused};
use crate::grid::secret_hash;
use crate::problem::problem;

/// Longest request to register: keys, a token and an inventory.
const MAX_REGISTER: usize = 64 << 10;

pub(super) async fn register(
    State(app): State<App>,
    request: Request,
) -> Result<Json<RegisterReply>, Refused> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts, body, MAX_REGISTER).await?;
    let request: RegisterRequest = parse(&body)?;
    let id = link::keys::client_id(&request.public_key);
    let unverified = Unverified { parts: &parts, body: &body };
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
    let inventory = plain_inventory(&inventory);
    let reply = app
        .handle
        .call(move |grid, now| grid.register_client(now, &token, public_key, seal_key, inventory))
        .await?;
    tracing::info!(client = %id, "client registered");
    Ok(Json(reply))
}

pub(super) async fn poll(State(app): State<App>, request: Request) -> Result<Response, Refused> {
    let (signed, body) = receive(&app, request, MAX_BODY).await?;
    let answer = answer(&app, &signed, &body).await;
    let (status, kind, body) = match &answer {
        Ok(reply) => (StatusCode::OK, "application/json", serde_json::to_vec(reply)),
        // Signed too: else whoever opens TLS on the way could tell a client that it was revoked.
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, PROBLEM_JSON, serde_json::to_vec(problem))
        }
    };
    let body = body.expect("an answer holds only text, numbers and lists");
    let hash = BlobHash(*blake3::hash(&body).as_bytes());
    let signature = app.keys.grid().sign(&reply_text(&signed.signature, status.as_u16(), &hash));
    let signature = STANDARD.encode(&signature.0);
    let headers =
        [(header::CONTENT_TYPE, kind), (HeaderName::from_static(SIGNATURE_HEADER), signature.as_str())];
    Ok((status, headers, body).into_response())
}

async fn answer(app: &App, signed: &Signed, body: &Bytes) -> Result<PollReply, Problem> {
    signed.admitted()?;
    let mut request: PollRequest = parse(body)?;
    if request.held.len().max(request.reports.len()) > MAX_PER_POLL {
        let detail = format!("more than {MAX_PER_POLL} leases or reports in one poll");
        return Err(problem(ProblemCode::TooLarge, detail, "poll again with the rest"));
    }
    request.inventory = request.inventory.as_ref().map(plain_inventory);
    let reports = std::mem::take(&mut request.reports);
    let reports = verify_reports(app, signed.client, reports).await?;
    app.handle.poll(signed.client, request, reports).await
}

pub(super) async fn download(
    State(app): State<App>,
    Path(hash): Path<BlobHash>,
    request: Request,
) -> Result<Response, Refused> {
    let headers = request.headers().clone();
    receive(&app, request, 0).await?.0.admitted()?;
    Ok(send_range(&app, hash, &headers).await?)
}

pub(super) async fn upload(
    State(app): State<App>,
    Path(hash): Path<BlobHash>,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Result<Json<UploadReply>, Refused> {
    let (signed, body) = receive(&app, request, MAX_PART).await?;
    signed.admitted()?;
    let Some(fence) = query.fence else {
        return Err(problem(ProblemCode::BadRequest, "an upload needs the lease it belongs to", "").into());
    };
    let (client, bytes) = (signed.client, body.len() as u64);
    app.handle.call(move |grid, _| grid.take_upload(client, fence, query.total, bytes)).await?;
    Ok(Json(store_part(&app, hash, query, body).await?))
}

/// Takes in a client's request. The body is read only once its head names a client that there is, so that a
/// stranger can't fill the server's memory.
async fn receive(app: &App, request: Request, limit: usize) -> Result<(Signed, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let client = Unverified { parts: &parts, body: &Bytes::new() }.client()?;
    let (key, barred) = app.handle.call(move |grid, _| grid.client_key(client)).await?;
    let body = read_body(&parts, body, limit).await?;
    let signature = Unverified { parts: &parts, body: &body }.verify_with(client, &key)?;
    Ok((Signed { client, signature, barred }, body))
}

async fn read_body(parts: &Parts, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("this request's body is longer than {limit} bytes");
        problem(ProblemCode::TooLarge, detail, "send less at a time")
    };
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    to_bytes(body, limit).await.map_err(|_| too_large())
}

fn parse<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!("the request can't be read: {error}");
        problem(ProblemCode::BadRequest, detail, "client and server may be of different versions")
    })
}
