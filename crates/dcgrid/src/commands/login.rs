//! `dcgrid login`: remembers a server and a token, once they are seen to work together.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use link::UserLink;
use link::http::Address;
use link::trust::Trust;
use model::BlobHash;
use protocol::api::WhoAmI;
use protocol::token::{Token, TokenKind};

use crate::args::{LoginArgs, LoginCommand};
use crate::exit::Exit;
use crate::output;
use crate::settings::{Login, login_path, save};

pub async fn run(command: LoginCommand, args: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let text = match command.token {
        Some(token) => token,
        None => read_token()?,
    };
    let token = Token::parse(&text, TokenKind::User)?;
    let trust = args.ca_bundle.clone().map_or(Trust::GridCa(BlobHash(token.ca_key)), Trust::Bundle);
    let mut link = UserLink::new(Address::parse(&command.url)?, &token, &trust)?;
    let who: WhoAmI = link.get("/v1/whoami").await?;
    let path = match &args.login_file {
        Some(path) => path.clone(),
        None => login_path()?,
    };
    save(&path, &Login { server: link.address().to_string(), token: text.trim().to_owned() })?;
    if json {
        output::json(&who);
    } else {
        output::line(&format!("logged in to {} as {}", link.address(), who.user));
    }
    Ok(Exit::Success)
}

/// The token from stdin, so that it needn't appear on a command line that others can see.
fn read_token() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        output::note("user token:");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("can't read the token from stdin")?;
        return Ok(line);
    }
    let mut text = String::new();
    std::io::stdin().take(4_096).read_to_string(&mut text).context("can't read the token from stdin")?;
    Ok(text)
}
