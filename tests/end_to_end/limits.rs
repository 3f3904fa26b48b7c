//! What a job spec allows its subjobs, from the spec through the whole grid to what a person is told.

use std::time::{Duration, Instant};

use grid_tests::Grid;
use serde_json::Value;

/// A job of one `sh -c` with more keys, submitted and waited for; its number.
fn run(grid: &Grid, script: &str, keys: &str) -> String {
    let text = format!("spec = 1\ncommand = ['sh', '-c', '''{script}''']\nattempts = 1\n{keys}\n");
    grid.file("job.toml", text);
    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    let is_final = |grid: &Grid| {
        let state = grid.cli(&["--json", "show", &job]).json()["state"].clone();
        ["succeeded", "failed"].iter().any(|end| state == *end)
    };
    grid.wait_until("the job ends", is_final);
    job
}

/// The only attempt of a job of one.
fn attempt(grid: &Grid, job: &str) -> Value {
    grid.cli(&["--json", "show", &format!("{job}.0")]).json()["attempts"][0].clone()
}

#[test]
fn a_program_that_computes_too_long_is_ended_and_what_it_said_is_shown() {
    let grid = Grid::start(1);
    let script = "echo so far >&2; while :; do :; done";
    let job = run(&grid, script, "limits = { cpu_max = '500ms' }");
    let shown = grid.cli(&["show", &format!("{job}.0")]).ok();
    assert!(shown.contains("of processor time, limits.cpu_max = 500ms"), "{shown}");
    assert!(shown.contains("last lines of stderr\n  | so far"), "{shown}");
    // The whole of what it left can be fetched, too.
    grid.cli(&["get", &format!("{job}.0"), "-d", "left"]).ok();
    let stderr = std::fs::read_to_string(grid.scratch.path().join("left/stderr")).expect("fetched");
    assert_eq!(stderr, "so far\n");
    run(&grid, "echo quick", "limits = { cpu_max = '60s' }");
}

#[test]
fn a_rate_of_file_input_and_output_slows_and_fails_nothing() {
    let grid = Grid::start(1);
    // 24 MiB at 8 MiB a second, less what may be saved up.
    let script = "dd if=/dev/zero of=big bs=65536 count=384 2>/dev/null && wc -c < big";
    let begun = Instant::now();
    let job = run(&grid, script, "limits = { io_rate = '8MiB' }");
    let ended = attempt(&grid, &job);
    assert_eq!(ended["failure"], Value::Null, "{ended}");
    let wall = ended["wall_s"].as_f64().expect("seconds");
    assert!(wall > 2.5, "24 MiB took {wall} s");
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[test]
fn a_job_that_needs_the_network_waits_for_a_client_whose_owner_permits_it() {
    let mut grid = Grid::start(1);
    let spec = "spec = 1\ncommand = ['echo', 'ran']\nnetwork = { allow = ['127.0.0.1:9'] }\n";
    grid.file("job.toml", spec);
    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    grid.wait_until("the job says why it waits", |grid| {
        grid.cli(&["show", &job]).ok().contains("none of 1 clients permits connections to the network")
    });
    // One that needs nothing of the kind goes first.
    assert_eq!(grid.cli(&["run", "--", "echo", "hi"]).ok(), "hi\n");
    let client = grid.start_client_with(1, 1, &["--network", "allow"]);
    grid.clients.push(client);
    grid.wait_until("the job has run", |grid| {
        grid.cli(&["--json", "show", &job]).json()["state"] == "succeeded"
    });
}
