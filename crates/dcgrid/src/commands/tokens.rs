//! `dcgrid token`: tokens for clients and users.

use protocol::api::{Role, TokenGrants, TokenReply, TokenRequest, TokenView};

use crate::args::{LoginArgs, TokenAction, TokenKindArgs};
use crate::exit::Exit;
use crate::output::{self, Table};
use crate::settings::connect;

pub async fn run(action: TokenAction, login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let mut link = connect(login)?;
    match action {
        TokenAction::Create { kind } => {
            let (grants, uses, expires) = match kind {
                TokenKindArgs::Join { uses, expires } => (TokenGrants::Join, uses, expires),
                TokenKindArgs::User { user, admin, expires } => {
                    let role = if admin { Role::Admin } else { Role::User };
                    (TokenGrants::User { user, role }, None, expires)
                }
            };
            let expires_s = expires.map(|time| time.as_secs());
            let request = TokenRequest { grants, uses, expires_s };
            let reply: TokenReply = link.post("/v1/tokens", &request).await?;
            if json {
                output::json(&reply);
            } else {
                output::line(&reply.token);
                output::note(&format!("token {}, shown this once", reply.id));
            }
        }
        TokenAction::List => list(&link.get::<Vec<TokenView>>("/v1/tokens").await?, json),
        TokenAction::Revoke { id } => {
            link.delete::<()>(&format!("/v1/tokens/{id}")).await?;
            if json {
                output::json(&serde_json::json!({ "revoked": id }));
            } else {
                output::line(&format!("token {id} is revoked"));
            }
        }
    }
    Ok(Exit::Success)
}

fn list(tokens: &[TokenView], json: bool) {
    if json {
        output::json(&tokens);
        return;
    }
    let mut table = Table::new(&["token", "for", "created", "expires", "uses left", "state"]);
    for token in tokens {
        let grants = match &token.grants {
            TokenGrants::Join => "joining clients".to_owned(),
            TokenGrants::User { user, role: Role::User } => format!("user {user}"),
            TokenGrants::User { user, role: Role::Admin } => format!("administrator {user}"),
        };
        table.row([
            token.id.to_string(),
            grants,
            token.created.to_string(),
            token.expires.map_or("never".to_owned(), |at| at.to_string()),
            token.uses_left.map_or("any".to_owned(), |uses| uses.to_string()),
            if token.revoked { "revoked" } else { "valid" }.to_owned(),
        ]);
    }
    table.print();
}
