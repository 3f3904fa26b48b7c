//! `dcgrid doctor`: what this machine can give a sandbox, and whether the server can be reached.

use protocol::api::WhoAmI;
use sandbox::{Enforcer, Finding};
use serde::Serialize;

use crate::args::LoginArgs;
use crate::exit::Exit;
use crate::output::{self, Table};
use crate::settings::connect;

/// One thing that was looked at, for people and programs.
#[derive(Debug, Serialize)]
pub struct Check {
    what: String,
    ok: bool,
    enforced_by: &'static str,
    detail: String,
    fix: Option<String>,
}

pub async fn run(login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let mut checks: Vec<Check> = sandbox::probe().into_iter().map(Check::from).collect();
    checks.push(server(login).await);
    let missing = checks.iter().any(|check| !check.ok && check.enforced_by == "nobody");
    if json {
        output::json(&checks);
    } else {
        Check::table(&checks).print();
        for check in checks.iter().filter(|check| !check.ok) {
            if let Some(fix) = &check.fix {
                output::note(&format!("{}: {fix}", check.what));
            }
        }
    }
    Ok(if missing { Exit::Failed } else { Exit::Success })
}

impl Check {
    pub fn table(checks: &[Check]) -> Table {
        let mut table = Table::new(&["what", "state", "enforced by", "detail"]);
        for Check { what, ok, enforced_by, detail, .. } in checks {
            let state = if *ok { "ok" } else { "missing" };
            table.row([what, state, enforced_by, detail.as_str()].map(str::to_owned));
        }
        table
    }
}

impl From<Finding> for Check {
    fn from(finding: Finding) -> Self {
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
