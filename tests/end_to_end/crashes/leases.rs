//! Leases of clients that are silent, and of clients that share what they may not.

use std::time::{Duration, Instant};

use grid_tests::{Grid, binary, run};
use rustix::process::Signal;
use serde_json::Value;

/// A job whose subjob takes some seconds and then tells where it ran: the work directory's inode differs.
const SLOW: &str = "spec = 1\nname = 'slow'\ncommand = ['sh', '-c', 'sleep 4; echo done > out']\n\
                    app = { include = ['sleep'] }\noutputs = ['out']\n\
                    aggregate = { how = 'concat', from = 'out', out = 'out' }\n";

fn show(grid: &Grid, what: &str) -> Value {
    grid.cli(&["--json", "show", what]).json()
}

#[test]
fn a_silent_clients_subjob_runs_elsewhere_and_its_late_report_does_not_count() {
    let mut grid = Grid::start(1);
    grid.file("slow.toml", SLOW);
    let job = grid.cli(&["submit", "slow.toml"]).ok().trim().to_owned();
    grid.wait_until("it runs", |grid| show(grid, &job)["counts"]["running"] == 1);
    grid.clients[0].signal(Signal::STOP);
    let second = grid.start_client(1, 2);
    grid.clients.push(second);
    grid.wait_until("it has ended elsewhere", |grid| show(grid, &job)["state"] == "succeeded");
    grid.clients[0].signal(Signal::CONT);
    // The late report is over when the client takes work again.
    grid.clients[1].stop();
    assert_eq!(grid.cli(&["run", "--", "echo", "awake"]).ok(), "awake\n");
    let subjob = show(&grid, &format!("{job}.0"));
    let attempts = subjob["attempts"].as_array().expect("a list");
    let failures: Vec<&Value> = attempts.iter().map(|attempt| &attempt["failure"]).collect();
    assert_eq!(failures, [&Value::from("the client was not heard of for too long"), &Value::Null]);
    assert_ne!(attempts[0]["client"], attempts[1]["client"]);
    assert_eq!(show(&grid, &job)["counts"]["succeeded"], 1);
}

#[test]
fn a_late_report_counts_with_its_files_when_nobody_else_has_the_subjob() {
    let grid = Grid::start(1);
    grid.file("slow.toml", SLOW);
    let job = grid.cli(&["submit", "slow.toml"]).ok().trim().to_owned();
    grid.wait_until("it runs", |grid| show(grid, &job)["counts"]["running"] == 1);
    grid.clients[0].signal(Signal::STOP);
    grid.wait_until("its lease has run out", |grid| show(grid, &job)["counts"]["waiting"] == 1);
    grid.clients[0].signal(Signal::CONT);
    grid.wait_until("it has ended", |grid| show(grid, &job)["state"] == "succeeded");
    grid.cli(&["get", &job, "-d", "result"]).ok();
    let out = std::fs::read_to_string(grid.scratch.path().join("result/out"));
    assert_eq!(out.expect("fetched"), "done\n");
}

#[test]
fn a_live_client_keeps_a_subjob_that_is_longer_than_a_lease() {
    let grid = Grid::start(2);
    let begun = Instant::now();
    assert_eq!(grid.cli(&["run", "--", "sleep", "8"]).ok(), "");
    let took = begun.elapsed();
    let attempts = show(&grid, "1.0")["attempts"].as_array().expect("a list").len();
    assert_eq!(attempts, 1, "it ran more than once in {took:?}");
    assert!(took >= Duration::from_secs(8));
}

#[test]
fn a_second_client_on_one_state_directory_is_refused() {
    let grid = Grid::start(1);
    grid.wait_until("the first is ready", |grid| grid.client_state(0).join("membership.json").exists());
    let mut second = std::process::Command::new(binary());
    let ran = run(second.args(["client", "--state"]).arg(grid.client_state(0)));
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("is in use by another client"), "{}", ran.stderr);
    assert!(ran.stderr.contains("own state directory"), "{}", ran.stderr);
    assert_eq!(grid.cli(&["run", "--", "echo", "undisturbed"]).ok(), "undisturbed\n");
}

#[test]
fn a_second_server_on_one_state_directory_is_refused() {
    let grid = Grid::start(1);
    let mut second = std::process::Command::new(binary());
    let ran = run(second.args(["server", "--listen", "127.0.0.1:0", "--state"]).arg(grid.server_state()));
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("is in use by another server"), "{}", ran.stderr);
    assert_eq!(grid.cli(&["run", "--", "echo", "undisturbed"]).ok(), "undisturbed\n");
}
