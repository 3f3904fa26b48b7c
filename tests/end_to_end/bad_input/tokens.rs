//! Who may not: tokens and keys that are wrong, damaged, used up, out of date or revoked, and servers that are not
//! the right one.

use std::process::Command;
use std::time::{Duration, Instant};

use grid_tests::{Grid, Ran, binary, run};

use super::{FAILED, REFUSED, UNREACHABLE, USAGE, check};

fn token(grid: &Grid, arguments: &[&str]) -> String {
    grid.cli(&[&["token", "create"], arguments].concat()).ok().trim().to_owned()
}

/// Runs a command with a token of one's own.
fn as_user(grid: &Grid, token: &str, arguments: &[&str]) -> Ran {
    run(grid
        .command(arguments)
        .env_remove("DCGRID_LOGIN")
        .env("DCGRID_SERVER", &grid.url)
        .env("DCGRID_TOKEN", token))
}

/// Tries to join a grid; a client that gets in would run until it is killed.
fn join(url: &str, token: &str) -> Ran {
    let state = tempfile::tempdir().expect("a temporary directory");
    run(Command::new("timeout")
        .arg("20")
        .arg(binary())
        .args(["client", "--server", url, "--token", token, "--state"])
        .arg(state.path()))
}

fn damaged(token: &str) -> String {
    token[..token.len() - 4].to_owned()
}

/// The token with another secret: of the right form, but made by nobody.
fn made_up(token: &str) -> String {
    let last = if token.ends_with("AA") { "BB" } else { "AA" };
    format!("{}{last}", &token[..token.len() - 2])
}

#[test]
fn a_user_token_that_is_not_good_is_refused() {
    let grid = Grid::start(0);
    let good = token(&grid, &["user", "bob"]);
    let refused = |token: &str, parts: &[&str]| {
        check(&as_user(&grid, token, &["jobs"]), REFUSED, parts);
        let login = grid.scratch.path().join("login.json");
        let mut command = grid.command(&["login", &grid.url, "--token", token]);
        check(&run(command.env("DCGRID_LOGIN", &login)), REFUSED, parts);
        assert!(!login.exists(), "a login that failed is not remembered");
    };
    assert_eq!(as_user(&grid, &good, &["--json", "jobs"]).json(), serde_json::json!([]));
    refused("hello", &["this is not a token"]);
    refused(&damaged(&good), &["is damaged: copy it again"]);
    refused(&made_up(&good), &["not known to this server"]);
    refused(&token(&grid, &["join"]), &["this is a join token where a user token is needed"]);
    let counted = grid.cli(&["token", "create", "user", "bob", "--uses", "1"]);
    check(&counted, USAGE, &["unexpected argument '--uses'"]);
    let short = token(&grid, &["user", "eve", "--expires", "1s"]);
    grid.wait_until("it has expired", |grid| as_user(grid, &short, &["jobs"]).code != 0);
    refused(&short, &["has expired", "ask the administrator"]);
    let tokens = grid.cli(&["--json", "token", "list"]).json();
    let bob = tokens.as_array().expect("a list").iter().find(|token| token["user"] == "bob").expect("listed");
    grid.cli(&["token", "revoke", &bob["id"].to_string()]).ok();
    refused(&good, &["was revoked"]);
}

#[test]
fn a_join_token_that_is_not_good_is_refused() {
    let grid = Grid::start(0);
    let good = token(&grid, &["join", "--uses", "5"]);
    let refused = |token: &str, parts: &[&str]| check(&join(&grid.url, token), REFUSED, parts);
    refused("hello", &["the join token can't be used", "this is not a token"]);
    refused(&damaged(&good), &["is damaged"]);
    refused(&made_up(&good), &["not known to this server"]);
    refused(&token(&grid, &["user", "bob"]), &["this is a user token where a join token is needed"]);
    grid.cli(&["token", "revoke", &grid.cli(&["--json", "token", "list"]).json()[1]["id"].to_string()]).ok();
    refused(&good, &["was revoked"]);
    let short = token(&grid, &["join", "--expires", "1s"]);
    let later = Instant::now() + Duration::from_millis(1_100);
    grid.wait_until("it has expired", |_| Instant::now() >= later);
    refused(&short, &["has expired"]);
    let once = token(&grid, &["join", "--uses", "1"]);
    let state = grid.client_state(7);
    let mut first = Command::new("timeout");
    first
        .args(["--signal=INT", "1"])
        .arg(binary())
        .args(["client", "--server", &grid.url, "--token", &once, "--state"]);
    let first = run(first.arg(&state));
    assert!(state.join("membership.json").exists(), "{first:?}");
    refused(&once, &["is used up"]);
}

#[test]
fn a_revoked_client_ends_and_does_not_come_back() {
    let mut grid = Grid::start(1);
    assert_eq!(grid.cli(&["run", "--", "echo", "in"]).ok(), "in\n");
    let id = grid.cli(&["--json", "clients"]).json()[0]["client"].as_str().expect("an id").to_owned();
    let job = grid.cli(&["run", "--", "true"]);
    assert_eq!(job.code, 0);
    grid.cli(&["clients", "revoke", &id]).ok();
    assert_eq!(grid.clients[0].wait().code(), Some(REFUSED));
    let log = std::fs::read_to_string(grid.scratch.path().join("client-0.log")).expect("its log");
    assert!(log.contains("this client's key was revoked"), "{log}");
    let mut again = grid.start_client(0, 2);
    assert_eq!(again.wait().code(), Some(REFUSED), "not on its old key");
    let fresh = token(&grid, &["join"]);
    std::fs::remove_file(grid.client_state(0).join("membership.json")).expect("it had joined");
    let mut rejoin = Command::new(binary());
    rejoin.args(["client", "--server", &grid.url, "--token", &fresh, "--state"]).arg(grid.client_state(0));
    check(&run(&mut rejoin), REFUSED, &["key was revoked", "ask the administrator"]);
    assert_eq!(grid.cli(&["--json", "clients"]).json()[0]["state"], "revoked");
    let nobody = "0".repeat(id.len());
    check(&grid.cli(&["clients", "revoke", &nobody]), FAILED, &["there is no client"]);
}

#[test]
fn a_server_that_is_down_is_said_so_at_once() {
    let mut grid = Grid::start(0);
    let join_token = token(&grid, &["join"]);
    grid.server.stop();
    let begun = Instant::now();
    check(&grid.cli(&["jobs"]), UNREACHABLE, &["no server at", &grid.url, "dcgrid server"]);
    check(&grid.cli(&["run", "--", "true"]), UNREACHABLE, &["no server at"]);
    check(&join(&grid.url, &join_token), UNREACHABLE, &["no server at"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "no long waits for what is not there");
}

#[test]
fn another_grids_server_is_not_trusted() {
    let mut grid = Grid::start(0);
    let (user_token, join_token) = (token(&grid, &["user", "bob"]), token(&grid, &["join"]));
    grid.server.stop();
    std::fs::rename(grid.server_state(), grid.scratch.path().join("true-grid")).expect("stopped");
    // A new state directory at the same address is another grid, with a CA of its own.
    grid.restart_server();
    check(
        &as_user(&grid, &user_token, &["jobs"]),
        REFUSED,
        &["is not the one the token is for", "--ca-bundle"],
    );
    check(&join(&grid.url, &join_token), REFUSED, &["is not the one the token is for"]);
}

#[test]
fn users_see_and_touch_only_what_is_theirs() {
    let grid = Grid::start(1);
    let (bob, eve) = (token(&grid, &["user", "bob"]), token(&grid, &["user", "eve"]));
    assert_eq!(as_user(&grid, &bob, &["run", "--", "echo", "mine"]).ok(), "mine\n");
    let job = as_user(&grid, &bob, &["--json", "jobs"]).json()[0]["job"].to_string();
    assert_eq!(as_user(&grid, &eve, &["--json", "jobs"]).json(), serde_json::json!([]));
    let subjob = format!("{job}.0");
    for arguments in [["show", &job], ["show", &subjob], ["logs", &job], ["get", &job], ["cancel", &job]] {
        check(&as_user(&grid, &eve, &arguments), FAILED, &[&format!("job {job}")]);
    }
    for arguments in [&["token", "list"][..], &["token", "create", "join"], &["token", "revoke", "1"]] {
        check(&as_user(&grid, &eve, arguments), REFUSED, &["eve is not an administrator"]);
    }
    let client = grid.cli(&["--json", "clients"]).json()[0]["client"].as_str().expect("an id").to_owned();
    check(&as_user(&grid, &eve, &["clients", "revoke", &client]), REFUSED, &["eve is not an administrator"]);
    assert_eq!(as_user(&grid, &bob, &["logs", &job]).ok(), "mine\n");
}

#[test]
fn every_listing_has_a_form_for_programs() {
    let grid = Grid::start(1);
    grid.cli(&["run", "--", "echo", "x"]).ok();
    for arguments in [
        &["jobs"][..],
        &["show", "1"],
        &["show", "1.0"],
        &["logs", "1"],
        &["get", "1", "-d", "result"],
        &["clients"],
        &["token", "list"],
        &["token", "create", "join"],
        &["wrap", "echo", "--files"],
        &["schema"],
    ] {
        let json = grid.cli(&[&["--json"], arguments].concat()).json();
        assert!(json.is_array() || json.is_object(), "{arguments:?}");
    }
    let doctor = grid.cli(&["--json", "doctor"]);
    serde_json::from_str::<serde_json::Value>(&doctor.stdout).expect("JSON, whatever it found");
}
