//! Tokens: who may join and who may log in. The server knows only hashes of their secrets.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::{Timestamp, UserName};
use protocol::api::{Problem, ProblemCode, Role, TokenGrants, TokenReply, TokenRequest, TokenView};
use protocol::token::{SECRET_LEN, Token, TokenKind};

use super::Grid;
use crate::problem::problem;
use crate::store::{Op, TokenRow};

/// A user whose token was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub user: UserName,
    pub role: Role,
}

impl Caller {
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }
}

#[derive(Debug, Default)]
pub(super) struct Tokens {
    rows: BTreeMap<u64, TokenRow>,
    by_secret: HashMap<[u8; 32], u64>,
}

impl Tokens {
    pub(super) fn new(rows: Vec<TokenRow>) -> Self {
        let mut tokens = Tokens::default();
        for row in rows {
            tokens.add(row);
        }
        tokens
    }

    fn add(&mut self, row: TokenRow) {
        self.by_secret.insert(row.secret_hash, row.id);
        self.rows.insert(row.id, row);
    }

    /// The token with this secret, if it may be used now.
    fn usable(&mut self, secret_hash: &[u8; 32], now: Timestamp) -> Result<&mut TokenRow, Problem> {
        let refused =
            |why: &str, fix: &str| problem(ProblemCode::TokenRefused, format!("this token {why}"), fix);
        let row = self.by_secret.get(secret_hash).and_then(|id| self.rows.get_mut(id));
        let Some(row) = row else {
            return Err(refused("is not known to this server", "ask its administrator for a token"));
        };
        if row.revoked {
            return Err(refused("was revoked", "ask the administrator for a new one"));
        }
        if row.expires.is_some_and(|expires| expires <= now) {
            return Err(refused("has expired", "ask the administrator for a new one"));
        }
        if row.uses_left == Some(0) {
            return Err(refused("is used up", "ask the administrator for one with more uses"));
        }
        Ok(row)
    }
}

impl Grid {
    /// Who the holder of a user token is.
    pub fn authorize(&mut self, now: Timestamp, secret_hash: &[u8; 32]) -> Result<Caller, Problem> {
        let row = self.tokens.usable(secret_hash, now).map_err(|problem| Problem {
            code: ProblemCode::NotLoggedIn,
            status: 401,
            ..problem
        })?;
        match &row.grants {
            TokenGrants::User { user, role } => Ok(Caller { user: user.clone(), role: *role }),
            TokenGrants::Join => {
                let detail = "this is a join token, it does not log anybody in";
                Err(problem(ProblemCode::NotLoggedIn, detail, "use a user token"))
            }
        }
    }

    /// Takes one use of a join token.
    pub(super) fn use_join_token(&mut self, now: Timestamp, secret_hash: &[u8; 32]) -> Result<(), Problem> {
        let row = self.tokens.usable(secret_hash, now)?;
        if row.grants != TokenGrants::Join {
            let detail = "this is a user token, it does not register clients";
            return Err(problem(ProblemCode::TokenRefused, detail, "use a join token"));
        }
        if let Some(uses) = &mut row.uses_left {
            *uses -= 1;
            self.ops.push(Op::SetTokenUses { id: row.id, uses_left: *uses });
        }
        Ok(())
    }

    /// Makes a token around a secret that the caller drew.
    pub fn create_token(
        &mut self,
        now: Timestamp,
        request: &TokenRequest,
        secret: [u8; SECRET_LEN],
    ) -> Result<TokenReply, Problem> {
        if request.uses == Some(0) || request.expires_s == Some(0) {
            let detail = "a token needs at least one use and one second";
            return Err(problem(ProblemCode::BadRequest, detail, "leave uses and expiry out for no bound"));
        }
        if request.uses.is_some() && request.grants != TokenGrants::Join {
            let detail = "a user token has no number of uses: each command is one";
            return Err(problem(ProblemCode::BadRequest, detail, "give it an expiry instead"));
        }
        let kind = match request.grants {
            TokenGrants::Join => TokenKind::Join,
            TokenGrants::User { .. } => TokenKind::User,
        };
        let id = self.tokens.rows.last_key_value().map_or(1, |(last, _)| last + 1);
        let row = TokenRow {
            id,
            secret_hash: secret_hash(&secret),
            grants: request.grants.clone(),
            created: now,
            expires: request.expires_s.map(|seconds| now.plus(Duration::from_secs(seconds))),
            uses_left: request.uses,
            revoked: false,
        };
        self.ops.push(Op::AddToken(row.clone()));
        self.tokens.add(row);
        let token = Token { kind, ca_key: self.keys.ca_public().0, secret };
        Ok(TokenReply { id, token: token.to_string() })
    }

    pub fn list_tokens(&self) -> Vec<TokenView> {
        let view = |row: &TokenRow| TokenView {
            id: row.id,
            grants: row.grants.clone(),
            created: row.created,
            expires: row.expires,
            uses_left: row.uses_left,
            revoked: row.revoked,
        };
        self.tokens.rows.values().map(view).collect()
    }

    pub fn revoke_token(&mut self, id: u64) -> Result<(), Problem> {
        let Some(row) = self.tokens.rows.get_mut(&id) else {
            let fix = "see `dcgrid token list`";
            return Err(problem(ProblemCode::NotFound, format!("there is no token {id}"), fix));
        };
        row.revoked = true;
        self.ops.push(Op::RevokeToken(id));
        Ok(())
    }
}

/// What the server keeps of a secret. The secrets are random and long: no slow hash is needed.
pub fn secret_hash(secret: &[u8; SECRET_LEN]) -> [u8; 32] {
    *blake3::hash(secret).as_bytes()
}
