//! The server's HTTPS face: routes, and what all handlers share.
//!
//! Handlers check who asks, touch files and the store's reader, and leave every decision to the event loop.

mod auth;
mod blobs;
mod client;
mod console;
mod jobs;
mod listen;
mod reports;
mod slow;
mod tokens;
mod views;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use protocol::api::{Problem, ProblemCode, WhoAmI};

pub(crate) use listen::{ListenError, Listener};

use crate::event_loop::Handle;
use crate::files::Files;
use crate::keys::GridKeys;
use crate::problem::{problem, store_problem};
use crate::store::{Reader, StoreError};

/// Longest request body: a poll with as many small results as one may carry.
const MAX_BODY: usize = 32 << 20;

/// Longest text of a refusal by the framework that is passed on.
const MAX_REFUSAL: usize = 4 << 10;

/// RFC 9457.
const PROBLEM_JSON: &str = "application/problem+json";

/// What every handler has.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) handle: Handle,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) keys: Arc<GridKeys>,
    pub(crate) reader: Arc<Mutex<Box<dyn Reader>>>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("files", &self.files).finish_non_exhaustive()
    }
}

/// A refusal as a response.
#[derive(Debug)]
pub(crate) struct Refused(Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Refused(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).expect("a problem holds only text and numbers");
        (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response()
    }
}

pub(crate) fn routes(app: App) -> Router {
    Router::new()
        .route("/", get(console::home))
        .route("/console/login", post(console::login))
        .route("/console/jobs/{job}", get(console::job))
        .route("/v1/health", get(|| async { "ok\n" }))
        .route("/v1/whoami", get(whoami))
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/{job}", get(jobs::view))
        .route("/v1/jobs/{job}/details", get(jobs::details))
        .route("/v1/jobs/{job}/subjobs", get(jobs::subjobs))
        .route("/v1/jobs/{job}/subjobs/{index}/files/{*path}", get(jobs::subjob_file))
        .route("/v1/jobs/{job}/result", get(jobs::result))
        .route("/v1/jobs/{job}/result/{*path}", get(jobs::result_file))
        .route("/v1/jobs/{job}/cancel", post(jobs::cancel))
        .route("/v1/blobs/missing", post(blobs::missing))
        .route("/v1/blobs/{hash}", put(blobs::upload))
        .route("/v1/clients", get(tokens::clients).post(client::register))
        .route("/v1/clients/{client}/revoke", post(tokens::revoke_client))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", axum::routing::delete(tokens::revoke))
        .route("/v1/poll", post(client::poll))
        .route("/v1/client/blobs/{hash}", get(client::download).put(client::upload))
        .fallback(|| async { Refused(problem(ProblemCode::NotFound, "there is no such address", "")) })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::map_request(slow::in_time))
        .layer(axum::middleware::map_response(as_problem))
        .with_state(app)
}

/// Gives the framework's own refusals (bad JSON, wrong method, too long) the form that all others have.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_ours = kind.is_some_and(|kind| kind == PROBLEM_JSON || kind.as_bytes().starts_with(b"text/html"));
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), MAX_REFUSAL).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let detail = match text.trim() {
        "" => status.canonical_reason().unwrap_or("refused").to_lowercase(),
        text => text.to_owned(),
    };
    let code = match status {
        StatusCode::NOT_FOUND => ProblemCode::NotFound,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::TooLarge,
        _ if status.is_server_error() => ProblemCode::Internal,
        _ => ProblemCode::BadRequest,
    };
    Refused(Problem { status: status.as_u16(), code, detail, fix: None }).into_response()
}

async fn whoami(auth::User(caller): auth::User) -> axum::Json<WhoAmI> {
    let server_version = env!("CARGO_PKG_VERSION").to_owned();
    axum::Json(WhoAmI { user: caller.user, role: caller.role, server_version })
}

impl App {
    /// Runs what may block on the disk on a thread that may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&App) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let app = self.clone();
        tokio::task::spawn_blocking(move || work(&app)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request's work was aborted");
            Err(problem(ProblemCode::Internal, "the server failed at this request", "see the server's log"))
        })
    }

    /// Reads what is committed.
    fn read<T>(&self, read: impl FnOnce(&dyn Reader) -> Result<T, StoreError>) -> Result<T, Problem> {
        // A reader holds no state that a panic could have left half changed.
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        read(reader.as_ref()).map_err(|error| store_problem(&error))
    }
}
