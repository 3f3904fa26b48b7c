//! `dcgrid client`: gives this machine to a grid.

use anyhow::Context as _;
use desktop_controller::{Config, Controller};
use model::Permits;
use model::network::Reach;
use tokio::sync::watch;

use crate::args::{ClientArgs, LoginArgs, NetworkPermit, Permit};
use crate::commands::server::stop_signal;
use crate::exit::Exit;
use crate::output;

pub async fn run(args: ClientArgs, login: &LoginArgs) -> anyhow::Result<Exit> {
    let stopping = stop_signal()?;
    let all = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let config = Config {
        state: std::path::absolute(&args.state).context("can't tell the current directory")?,
        server: args.server,
        token: args.token,
        ca_bundle: login.ca_bundle.clone(),
        cpus: args.cpus.unwrap_or(all),
        memory: args.memory,
        disk_floor: args.disk_floor,
        cache_limit: args.cache,
        permits: Permits {
            network: match args.network {
                NetworkPermit::Refuse => Reach::Nothing,
                NetworkPermit::Allow => Reach::Elsewhere,
                NetworkPermit::Nearby => Reach::Nearby,
            },
            display: args.display == Permit::Allow,
        },
    };
    let controller = Controller::open(config).await?;
    output::note("client ready");
    let (stop, stopped) = watch::channel(false);
    let mut running = Box::pin(controller.run(stopped));
    tokio::select! {
        ended = &mut running => ended?,
        () = stopping => {
            output::note("stopping");
            stop.send_replace(true);
            running.await?;
        }
    }
    Ok(Exit::Success)
}
