//! `dcgrid client`: gives this machine to a grid.

use anyhow::Context as _;
use desktop_controller::{Config, Controller};
use model::network::Reach;
use model::{Permits, Sealing};
use tokio::sync::watch;

use crate::args::{ClientArgs, LoginArgs, NetworkPermit, Permit, Seal};
use crate::commands::server::stop_signal;
use crate::exit::{Exit, fault};
use crate::output;

pub async fn run(args: ClientArgs, login: &LoginArgs) -> anyhow::Result<Exit> {
    let stopping = stop_signal()?;
    let all = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let sealing = sealing(args.seal)?;
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
            sealing,
        },
    };
    let controller = Controller::open(config).await?;
    output::note(&format!("client ready; seals files: {}", sealing.name()));
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

/// What becomes of the owner's wish on this machine.
///
/// # Errors
/// All files are to be sealed, and the machine can't.
pub fn sealing(wish: Seal) -> anyhow::Result<Sealing> {
    let finding = sandbox::sealed_files();
    match (wish, finding.available) {
        (Seal::On | Seal::Auto, true) => Ok(Sealing::Always),
        (Seal::Off, true) => Ok(Sealing::OnRequest),
        (Seal::Off | Seal::Auto, false) => Ok(Sealing::Off),
        (Seal::On, false) => {
            let message = format!("this machine can't seal files: {}", finding.detail);
            let fix = finding.fix.unwrap_or_default();
            Err(fault(Exit::Internal, message, format!("{fix}; or start the client with --seal auto")))
        }
    }
}
