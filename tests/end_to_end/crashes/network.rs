//! Networks and servers that come and go, without anybody crashing.

use std::time::{Duration, Instant};

use grid_tests::Grid;
use rustix::process::Signal;

use super::job::Job;
use super::proxy::Proxy;
use super::random::Random;
use crate::machine;

#[test]
fn connections_that_break_at_any_byte_change_nothing() {
    let mut grid = Grid::start(0);
    let server = grid.url.strip_prefix("https://").expect("a URL").parse().expect("an address");
    let proxy = Proxy::start(server, Duration::from_millis(2));
    grid.url = format!("https://{}", proxy.address);
    for number in 0..2 {
        let client = grid.start_client(number, 2);
        grid.clients.push(client);
    }
    let mut random = Random::from_environment();
    let job = Job::submit(&grid);
    let mut cuts = 0;
    while !job.has_ended(&grid) && cuts < 40 {
        let instant = Instant::now() + random.duration(Duration::from_millis(300));
        grid.wait_until("the next cut", |_| Instant::now() >= instant);
        proxy.cut();
        cuts += 1;
    }
    job.check(&grid);
    let connections = proxy.connections();
    assert!(cuts >= 10 && connections >= 10, "{cuts} cuts, {connections} connections");
}

#[test]
fn a_server_that_stands_still_for_a_while_loses_nothing() {
    let grid = Grid::start(2);
    let job = Job::submit(&grid);
    grid.wait_until("some have ended", |grid| {
        grid.cli(&["--json", "show", &job.id]).json()["counts"]["succeeded"].as_u64() > Some(5)
    });
    grid.server.signal(Signal::STOP);
    // Longer than a lease: as when a laptop that runs all of a grid is closed.
    let later = Instant::now() + Duration::from_secs(7);
    grid.wait_until("seven seconds have passed", |_| Instant::now() >= later);
    grid.server.signal(Signal::CONT);
    job.check(&grid);
    let failures = grid.cli(&["--json", "show", &job.id]).json()["failures"].clone();
    assert_eq!(failures, serde_json::json!([]), "no client lost its subjobs");
}

#[test]
fn a_client_can_be_stopped_while_it_waits_for_the_server() {
    let mut grid = Grid::start(1);
    let script = "sleep 1; head -c 9000000 /dev/zero > big";
    grid.file(
        "job.toml",
        format!(
            "spec = 1\ncommand = ['sh', '-c', '{script}', 'upload-9d2c']\noutputs = ['big']\n\
             app = {{ include = ['head', 'sleep'] }}\n"
        ),
    );
    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    grid.wait_until("it runs", |_| !machine::marked("upload-9d2c").is_empty());
    grid.server.stop();
    let log = grid.scratch.path().join("client-0.log");
    let waits =
        |_: &Grid| std::fs::read_to_string(&log).is_ok_and(|text| text.contains("upload interrupted"));
    grid.wait_until("it wants to upload", waits);
    assert!(grid.clients[0].stop().success());
    grid.restart_server();
    grid.clients[0] = grid.start_client(0, 2);
    grid.wait_until("it has run again", |grid| {
        grid.cli(&["--json", "show", &job]).json()["state"] == "succeeded"
    });
}
