//! `dcgrid doctor`: what this machine can give a sandbox, and whether the server can be reached.

use protocol::api::WhoAmI;
use sandbox::Enforcer;
use serde::Serialize;

use crate::args::LoginArgs;
use crate::exit::Exit;
use crate::output::{self, Table};
use crate::settings::connect;

#[derive(Serialize)]
struct Check {
    what: String,
    ok: bool,
    enforced_by: &'static str,
    detail: String,
    fix: Option<String>,
}

pub async fn run(login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let mut checks: Vec<Check> = sandbox::probe().into_iter().map(from_finding).collect();
    checks.push(server(login).await);
    let missing = checks.iter().any(|check| !check.ok && check.enforced_by == "nobody");
    if json {
        output::json(&checks);
    } else {
        let mut table = Table::new(&["what", "state", "enforced by", "detail"]);
        for check in &checks {
            let state = if check.ok { "ok" } else { "missing" };
            table.row([
                check.what.clone(),
                state.to_owned(),
                check.enforced_by.to_owned(),
                check.detail.clone(),
            ]);
        }
        table.print();
        for check in checks.iter().filter(|check| !check.ok) {
            if let Some(fix) = &check.fix {
                output::note(&format!("{}: {fix}", check.what));
            }
        }
    }
    Ok(if missing { Exit::Failed } else { Exit::Success })
}

fn from_finding(finding: sandbox::Finding) -> Check {
    Check {
        what: finding.what.to_owned(),
        ok: finding.available,
        enforced_by: match finding.enforced_by {
            Enforcer::Kernel => "kernel",
            Enforcer::DesktopController => "desktop controller",
            Enforcer::Nobody => "nobody",
        },
        detail: finding.detail,
        fix: finding.fix.map(str::to_owned),
    }
}

/// Whether the server answers. A machine that only runs a client needs no login: that is no fault.
async fn server(login: &LoginArgs) -> Check {
    let check = |ok, detail, fix| Check { what: "server".to_owned(), ok, enforced_by: "-", detail, fix };
    let mut link = match connect(login) {
        Ok(link) => link,
        Err(error) => return check(false, error.to_string(), Some("`dcgrid login URL`".to_owned())),
    };
    match link.get::<WhoAmI>("/v1/whoami").await {
        Ok(who) => check(true, format!("{} as {}", link.address(), who.user), None),
        Err(error) => check(false, error.to_string(), error.fix()),
    }
}
