//! `dcgrid server`: the server alone.

use std::future::Future;

use anyhow::Context as _;
use protocol::api::{Role, TokenGrants};
use serde::Serialize;
use server::{Config, Server};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::ServerArgs;
use crate::exit::Exit;
use crate::output;
use crate::settings::{Login, save};

#[derive(Serialize)]
struct Ready {
    server: String,
    login_file: Option<std::path::PathBuf>,
}

pub async fn run(args: ServerArgs, json: bool) -> anyhow::Result<Exit> {
    let stopping = stop_signal()?;
    let config = Config {
        state: std::path::absolute(&args.state).context("can't tell the current directory")?,
        listen: args.listen,
        names: args.names,
        lease_ttl: args.lease_ttl,
        disk_floor: args.disk_floor,
    };
    let server = Server::start(&config).await?;
    let url = format!("https://{}", server.address());
    let login_file = config.state.join("login.json");
    let first_start = !server.has_administrator().await?;
    if first_start {
        let grants = TokenGrants::User { user: user_name(), role: Role::Admin };
        let token = server.create_token(grants, None).await?;
        save(&login_file, &Login { server: url.clone(), token })?;
    }
    let login_file = login_file.exists().then_some(login_file);
    if json {
        output::json(&Ready { server: url, login_file });
    } else {
        output::line(&format!("server ready at {url}"));
        if let Some(path) = login_file {
            output::line(&format!("  administrator  export DCGRID_LOGIN={}", path.display()));
        }
    }
    stopping.await;
    output::note("stopping");
    server.stop().await;
    Ok(Exit::Success)
}

/// Returns when the process is asked to stop: SIGINT or SIGTERM.
pub fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Who starts the server is its first administrator.
pub fn user_name() -> model::UserName {
    let named = std::env::var("USER").ok().and_then(|name| name.parse().ok());
    named.unwrap_or_else(|| "admin".parse().expect("a valid name"))
}
