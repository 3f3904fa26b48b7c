//! Measurements of a running grid: a command there and back, dispatch, and what an idle client costs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Options, Side, build, compare};
use crate::workspace::{Workspace, cargo, step};

/// How long an idle client is watched in one round.
const IDLE: Duration = Duration::from_secs(60);

/// `dcgrid run -- echo hi` on a running grid, against echo itself.
pub(super) fn run(workspace: &Workspace, options: Options<'_>) -> Result<()> {
    let dcgrid = build(workspace)?;
    let scratch = Scratch::new(workspace)?;
    let grid = Service::start(
        &dcgrid,
        &["--json", "up", "--listen", "127.0.0.1:0", "--state"],
        &scratch.0.join("up"),
    )?;
    let login = grid.ready["login_file"].as_str().context("the grid names no login file")?;
    let arguments = ["--login-file", login, "run", "--", "echo", "hi"];
    compare(
        &Side { program: &dcgrid, arguments: &arguments },
        &Side { program: Path::new("/bin/echo"), arguments: &["hi"] },
        options.rounds,
    )
}

/// Subjobs a second that a server hands out and takes back; the load runs on the same machine.
pub(super) fn dispatch(_: &Workspace, options: Options<'_>) -> Result<()> {
    let example = ["--release", "--quiet", "--locked", "--package", "server", "--example", "dispatch"];
    step(cargo().arg("build").args(example))?;
    for (clients, per_poll, subjobs) in [("1", "1", "1000"), ("64", "1", "10000"), ("64", "10", "50000")] {
        for _ in 0..options.rounds {
            step(cargo().arg("run").args(example).args(["--", clients, per_poll, subjobs]))?;
        }
    }
    Ok(())
}

/// Processor time and memory of a client that has nothing to do.
pub(super) fn idle(workspace: &Workspace, options: Options<'_>) -> Result<()> {
    let dcgrid = build(workspace)?;
    let scratch = Scratch::new(workspace)?;
    let state = scratch.0.join("server");
    let server =
        Service::start(&dcgrid, &["--json", "server", "--listen", "127.0.0.1:0", "--state"], &state)?;
    let login = server.ready["login_file"].as_str().context("the server names no login file")?;
    let url = server.ready["server"].as_str().context("the server names no address")?;
    let token = Command::new(&dcgrid).args(["--login-file", login, "token", "create", "join"]).output()?;
    ensure!(token.status.success(), "no join token: {}", String::from_utf8_lossy(&token.stderr));
    let token = String::from_utf8(token.stdout)?;
    let client = Command::new(&dcgrid)
        .args(["client", "--server", url, "--token", token.trim(), "--state"])
        .arg(scratch.0.join("client"))
        .stderr(Stdio::null())
        .spawn()?;
    let client = Stopped(client);
    // One subjob first, so that all that a client ever loads is loaded.
    let warmed = Command::new(&dcgrid).args(["--login-file", login, "run", "--", "true"]).status()?;
    ensure!(warmed.success(), "the grid does not run a subjob");
    for _ in 0..options.rounds {
        let (before, begun) = (processor_time(client.0.id())?, Instant::now());
        std::thread::sleep(IDLE);
        let used = processor_time(client.0.id())? - before;
        let share = 100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64();
        println!("idle client: {share:.3} % of a core, {} MB resident", resident(client.0.id())? >> 20);
    }
    Ok(())
}

/// Processor time of a process, user and system (proc(5), stat fields 14 and 15, in ticks of 10 ms).
pub(super) fn processor_time(id: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("malformed stat")?.split_whitespace().collect();
    let ticks =
        |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).context("malformed stat");
    Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}

/// Resident memory of a process in bytes (proc(5), `VmRSS`).
fn resident(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

/// A directory below the target directory, removed at the end.
pub(super) struct Scratch(pub PathBuf);

impl Scratch {
    pub(super) fn new(workspace: &Workspace) -> Result<Self> {
        let path = workspace.target.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left lies below the target directory, which is cleaned as a whole.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that is asked to stop at the end.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let asked = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        if asked.is_err() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// A server or a whole grid, with what it said when it was ready.
struct Service {
    ready: Value,
    _process: Stopped,
}

impl Service {
    fn start(dcgrid: &Path, arguments: &[&str], state: &Path) -> Result<Self> {
        let mut child = Command::new(dcgrid)
            .args(arguments)
            .arg(state)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let process = Stopped(child);
        let mut text = String::new();
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            text.push_str(&line);
            if line == "}" {
                break;
            }
        }
        Ok(Service {
            ready: serde_json::from_str(&text).context("the grid did not start")?,
            _process: process,
        })
    }
}
