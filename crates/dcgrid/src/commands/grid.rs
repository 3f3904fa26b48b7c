//! `dcgrid clients`: who is there, and barring one.

use protocol::api::ClientView;

use crate::args::{ClientsAction, LoginArgs};
use crate::exit::Exit;
use crate::output::{self, Table};
use crate::settings::connect;

pub async fn clients(action: Option<ClientsAction>, login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let mut link = connect(login)?;
    if let Some(ClientsAction::Revoke { client }) = action {
        link.post::<()>(&format!("/v1/clients/{client}/revoke"), &()).await?;
        if json {
            output::json(&serde_json::json!({ "revoked": client }));
        } else {
            output::line(&format!("client {client} is barred; its subjobs go to others"));
        }
        return Ok(Exit::Success);
    }
    let clients: Vec<ClientView> = link.get("/v1/clients").await?;
    if json {
        output::json(&clients);
        return Ok(Exit::Success);
    }
    let mut table = Table::new(&[
        "client",
        "host",
        "state",
        "cpus",
        "memory",
        "seals",
        "running",
        "succeeded",
        "failed",
        "last seen",
    ]);
    for client in clients {
        table.row([
            client.client.to_string(),
            client.inventory.host_name.clone(),
            client.state_text(),
            client.inventory.cpus.to_string(),
            client.inventory.memory.to_string(),
            client.inventory.permits.sealing.name().to_owned(),
            client.running.to_string(),
            client.succeeded.to_string(),
            client.failed.to_string(),
            client.last_seen.map_or("never".to_owned(), |at| at.to_string()),
        ]);
    }
    table.print();
    Ok(Exit::Success)
}
