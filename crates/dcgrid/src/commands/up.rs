//! `dcgrid up`: a whole grid in one process, for this machine.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use desktop_controller::{Config as ClientConfig, Controller, membership};
use model::network::Reach;
use model::{ByteSize, Permits, Sealing};
use protocol::api::{Role, TokenGrants};
use serde::Serialize;
use server::{Config as ServerConfig, Server};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::UpArgs;
use crate::commands::client::sealing;
use crate::commands::server::{stop_signal, user_name};
use crate::exit::Exit;
use crate::output;
use crate::settings::{Login, default_state, save};

/// A client on the server's own machine loses its subjobs soon after it is gone.
const LEASE_TTL: Duration = Duration::from_secs(60);

/// Space kept free on the disk of a grid that shares it with everything else here.
const DISK_FLOOR: ByteSize = ByteSize::mib(512);

const CACHE_LIMIT: ByteSize = ByteSize::gib(20);

#[derive(Serialize)]
struct Ready {
    server: String,
    login_file: std::path::PathBuf,
    state: std::path::PathBuf,
    clients: u32,
}

pub async fn run(args: UpArgs, json: bool) -> anyhow::Result<Exit> {
    let is_default = args.state.is_none();
    let state = match args.state {
        Some(state) => std::path::absolute(&state).context("can't tell the current directory")?,
        None => default_state()?,
    };
    let sealing = sealing(args.seal)?;
    let stopping = stop_signal()?;
    let server = Server::start(&ServerConfig {
        state: state.join("server"),
        listen: args.listen,
        names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        lease_ttl: LEASE_TTL,
        disk_floor: DISK_FLOOR,
    })
    .await?;
    let url = format!("https://{}", server.address());
    let login_file = state.join("login.json");
    make_login(&server, &url, &login_file).await?;
    let cpus = cpus_each(args.cpus, args.clients);
    let mut clients = JoinSet::new();
    let (stop, stopped) = watch::channel(false);
    for number in 0..args.clients {
        let state = state.join(format!("client-{number}"));
        let controller = open_client(&server, &url, &state, cpus, sealing).await?;
        clients.spawn(controller.run(stopped.clone()));
    }
    let ready = Ready { server: url, login_file, state, clients: args.clients };
    announce(&ready, is_default, json);
    let mut result = Ok(Exit::Success);
    tokio::select! {
        () = stopping => {}
        Some(ended) = clients.join_next() => {
            result = ended.context("a client was aborted")?.map(|()| Exit::Success).map_err(Into::into);
        }
    }
    output::note("stopping");
    stop.send_replace(true);
    while let Some(ended) = clients.join_next().await {
        ended.context("a client was aborted")??;
    }
    server.stop().await;
    result
}

/// Stores how to reach the grid, for the commands that are typed elsewhere.
async fn make_login(server: &Server, url: &str, path: &Path) -> anyhow::Result<()> {
    let known = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Login>(&text).ok());
    let token = match known {
        Some(login) if server.has_administrator().await? => login.token,
        _ => {
            let grants = TokenGrants::User { user: user_name(), role: Role::Admin };
            server.create_token(grants, None).await?
        }
    };
    save(path, &Login { server: url.to_owned(), token })
}

async fn open_client(
    server: &Server,
    url: &str,
    state: &Path,
    cpus: u32,
    sealing: Sealing,
) -> anyhow::Result<Controller> {
    let token = match membership(state)? {
        Some(_) => None,
        None => Some(server.create_token(TokenGrants::Join, Some(1)).await?),
    };
    let config = ClientConfig {
        state: state.to_owned(),
        server: Some(url.to_owned()),
        token,
        ca_bundle: None,
        cpus,
        memory: None,
        disk_floor: DISK_FLOOR,
        cache_limit: CACHE_LIMIT,
        // Whoever submits here sits at this machine.
        permits: Permits { network: Reach::Nearby, display: true, sealing },
    };
    Ok(Controller::open(config).await?)
}

fn cpus_each(asked: Option<u32>, clients: u32) -> u32 {
    let all = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    asked.unwrap_or_else(|| (all / clients.max(1)).max(1))
}

fn announce(ready: &Ready, is_default: bool, json: bool) {
    if json {
        output::json(ready);
        return;
    }
    output::line(&format!("grid ready at {}", ready.server));
    let file = ready.login_file.display();
    output::line(&format!("  console      {}/ (log in with the token in {file})", ready.server));
    output::line(&format!("  state        {}", ready.state.display()));
    if !is_default {
        output::line(&format!("  other shells export DCGRID_LOGIN={}", ready.login_file.display()));
    }
    output::line("  try          dcgrid run -- echo hi");
    output::line("  stop         ctrl-C");
}
