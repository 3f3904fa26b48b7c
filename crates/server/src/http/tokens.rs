//! For administrators: tokens and clients.

use axum::Json;
use axum::extract::{Path, State};
use model::ClientId;
use protocol::api::{ClientView, Problem, ProblemCode, TokenReply, TokenRequest, TokenView};
use protocol::token::SECRET_LEN;

use super::auth::{Admin, User};
use super::{App, Refused};
use crate::problem::problem;

pub(super) async fn create(
    State(app): State<App>,
    _admin: Admin,
    Json(request): Json<TokenRequest>,
) -> Result<Json<TokenReply>, Refused> {
    let secret = draw_secret()?;
    Ok(Json(app.handle.call(move |grid, now| grid.create_token(now, &request, secret)).await?))
}

pub(super) async fn list(State(app): State<App>, _admin: Admin) -> Result<Json<Vec<TokenView>>, Refused> {
    Ok(Json(app.handle.call(|grid, _| Ok(grid.list_tokens())).await?))
}

pub(super) async fn revoke(
    State(app): State<App>,
    _admin: Admin,
    Path(id): Path<u64>,
) -> Result<Json<()>, Refused> {
    Ok(Json(app.handle.call(move |grid, _| grid.revoke_token(id)).await?))
}

pub(super) async fn clients(State(app): State<App>, _user: User) -> Result<Json<Vec<ClientView>>, Refused> {
    Ok(Json(app.handle.call(|grid, now| Ok(grid.list_clients(now))).await?))
}

pub(super) async fn revoke_client(
    State(app): State<App>,
    _admin: Admin,
    Path(client): Path<ClientId>,
) -> Result<Json<()>, Refused> {
    Ok(Json(app.handle.call(move |grid, now| grid.revoke_client(now, client)).await?))
}

/// A new secret from the system's random numbers.
pub(crate) fn draw_secret() -> Result<[u8; SECRET_LEN], Problem> {
    let mut secret = [0; SECRET_LEN];
    getrandom::fill(&mut secret)
        .map_err(|_| problem(ProblemCode::Internal, "the system's random numbers failed", "try again"))?;
    Ok(secret)
}
