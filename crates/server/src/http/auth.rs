//! Who asks: a user by token, a client by the signature of its own key.

use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use link::keys::verify;
use model::{BlobHash, ClientId};
use protocol::api::{Problem, ProblemCode};
use protocol::client_link::{self, CLIENT_HEADER, SIGNATURE_HEADER, request_text};
use protocol::token::decode_secret;

use super::{App, Refused};
use crate::grid::{Caller, secret_hash};
use crate::problem::problem;

/// A user who is logged in.
pub(crate) struct User(pub(crate) Caller);

/// A user who is an administrator.
pub(crate) struct Admin;

impl FromRequestParts<App> for User {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refused> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let secret = header.and_then(|text| text.strip_prefix("Bearer ")).and_then(decode_secret);
        let secret = secret.ok_or_else(|| {
            problem(ProblemCode::NotLoggedIn, "this request carries no token", "log in: `dcgrid login URL`")
        })?;
        let hash = secret_hash(&secret);
        let caller = app.handle.call(move |grid, now| grid.authorize(now, &hash)).await?;
        Ok(User(caller))
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refused> {
        let User(caller) = User::from_request_parts(parts, app).await?;
        if caller.is_admin() {
            return Ok(Admin);
        }
        let detail = format!("{} is not an administrator", caller.user);
        Err(problem(ProblemCode::NotAllowed, detail, "use an administrator's token").into())
    }
}

/// A request whose signature has been checked.
pub(super) struct Signed {
    pub(super) client: ClientId,
    /// As it came: the reply is bound to it.
    pub(super) signature: String,
    /// Why the client is refused nevertheless.
    pub(super) barred: Option<Problem>,
}

impl Signed {
    pub(super) fn admitted(&self) -> Result<(), Problem> {
        self.barred.clone().map_or(Ok(()), Err)
    }
}

/// A request as a client signs it.
pub(super) struct Unverified<'a> {
    pub(super) parts: &'a Parts,
    pub(super) body: &'a Bytes,
}

impl Unverified<'_> {
    /// Checks the signature against the client's key; returns it as it came.
    pub(super) fn verify_with(&self, client: ClientId, key: &BlobHash) -> Result<String, Problem> {
        let bad = |detail| problem(ProblemCode::NotLoggedIn, detail, "join the grid again");
        let signature = self.text(SIGNATURE_HEADER).ok_or_else(|| bad("this request is not signed"))?;
        let bytes = STANDARD.decode(signature).map_err(|_| bad("this request's signature is malformed"))?;
        let hash = BlobHash(*blake3::hash(self.body).as_bytes());
        let path = self.parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let text = request_text(client, self.parts.method.as_str(), path, &hash);
        if !verify(key, &text, &client_link::Bytes(bytes)) {
            return Err(bad("this request's signature does not match the client's key"));
        }
        Ok(signature.to_owned())
    }

    pub(super) fn client(&self) -> Result<ClientId, Problem> {
        let named = self.text(CLIENT_HEADER).and_then(|text| text.parse().ok());
        named
            .ok_or_else(|| problem(ProblemCode::NotLoggedIn, "this request names no client", "join the grid"))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
