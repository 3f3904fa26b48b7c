//! What a job spec allows its subjobs, from the spec through the whole grid to what a person is told.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use grid_tests::{Grid, have};
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
    // 80 MiB at 16 MiB a second, less what may be saved up and the last slice, whose debt nobody is left to pay.
    let script = "dd if=/dev/zero of=big bs=65536 count=1280 2>/dev/null && wc -c < big";
    let begun = Instant::now();
    let job = run(&grid, script, "limits = { io_rate = '16MiB' }");
    let ended = attempt(&grid, &job);
    assert_eq!(ended["failure"], Value::Null, "{ended}");
    let wall = ended["wall_s"].as_f64().expect("seconds");
    assert!(wall > 3.5, "80 MiB took {wall} s");
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[test]
fn a_job_that_needs_the_network_runs_where_the_owner_permits_it_and_reaches_what_it_named() {
    if !have(&["bash"]) {
        return;
    }
    let mut grid = Grid::start(1);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            // A subjob that has gone away needs no greeting.
            let _ = connection.and_then(|mut stream| stream.write_all(b"greetings\n"));
        }
    });
    // What is not named can't be connected to, whether somebody listens or not.
    let script = format!("cat < /dev/tcp/127.0.0.1/{port}; cat < /dev/tcp/127.0.0.1/{other} || echo refused");
    let command = format!("spec = 1\ncommand = ['bash', '-c', '{script}']\n");
    let keys = format!("network = {{ allow = ['127.0.0.1:{port}'], rate = '1MB' }}\n");
    let aggregate = "aggregate = { how = 'concat', from = 'stdout', out = 'said' }\n";
    grid.file("job.toml", command + &keys + aggregate);
    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    grid.wait_until("the job says why it waits", |grid| {
        grid.cli(&["show", &job]).ok().contains("none of 1 clients permits connections to its own machine")
    });
    // One that needs nothing of the kind goes first.
    assert_eq!(grid.cli(&["run", "--", "echo", "hi"]).ok(), "hi\n");
    let client = grid.start_client_with(1, 1, &["--network", "nearby"]);
    grid.clients.push(client);
    grid.wait_until("the job has run", |grid| {
        grid.cli(&["--json", "show", &job]).json()["state"] == "succeeded"
    });
    grid.cli(&["get", &job, "-d", "result"]).ok();
    let said = std::fs::read_to_string(grid.scratch.path().join("result/said")).expect("fetched");
    assert_eq!(said, "greetings\nrefused\n");
}
