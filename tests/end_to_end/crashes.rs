//! Crashes, pauses and broken connections at random instants: the job ends as if nothing had happened.

mod job;
mod leases;
mod network;
mod proxy;
mod random;

use std::time::{Duration, Instant};

use grid_tests::{Grid, run};

use crate::machine;
use job::Job;
use random::Random;

/// How a job with crashes goes: who is killed, how often, and how long nobody is.
struct Plan {
    times: u32,
    /// Longest time between two crashes.
    pause: Duration,
}

/// Runs the job while `crash` is called at random instants; checks that it ended as without.
fn check(clients: usize, plan: &Plan, mut crash: impl FnMut(&mut Grid, &mut Random)) {
    let mut grid = Grid::start(clients);
    let mut random = Random::from_environment();
    let job = Job::submit(&grid);
    let mut crashes = 0;
    for _ in 0..plan.times {
        let instant = Instant::now() + random.duration(plan.pause);
        grid.wait_until("the next crash", |_| Instant::now() >= instant);
        crashes += u32::from(!job.has_ended(&grid));
        crash(&mut grid, &mut random);
    }
    assert_eq!(crashes, plan.times, "the job must be long enough for all crashes");
    job.check(&grid);
}

#[test]
fn a_killed_server_loses_nothing() {
    check(2, &Plan { times: 8, pause: Duration::from_millis(900) }, |grid, _| grid.crash_server());
}

#[test]
fn a_killed_client_loses_nothing() {
    check(2, &Plan { times: 8, pause: Duration::from_millis(900) }, |grid, random| {
        let number = random.below(2) as usize;
        grid.clients[number].kill();
        let state = grid.client_state(number);
        let mark = state.to_str().expect("UTF-8").to_owned();
        grid.wait_until("its subjobs are gone", |_| machine::marked(&mark).is_empty());
        grid.clients[number] = grid.start_client(number, 2);
    });
}

#[test]
fn server_and_client_killed_at_once_lose_nothing() {
    check(2, &Plan { times: 6, pause: Duration::from_millis(900) }, |grid, random| {
        let number = random.below(2) as usize;
        grid.clients[number].kill();
        grid.crash_server();
        grid.clients[number] = grid.start_client(number, 2);
    });
}

#[test]
fn a_submission_that_is_under_way_at_a_crash_makes_one_job() {
    let mut grid = Grid::start(0);
    let mut random = Random::from_environment();
    grid.file("data", vec![b'x'; 9_000_000]);
    let mut acknowledged = Vec::new();
    for number in 0..6 {
        let name = format!("submission {number}");
        let spec = format!(
            "spec = 1\nname = '{name}'\ncommand = ['cat', '{{in.data}}']\ninputs = {{ data = 'data{number}' }}\n"
        );
        grid.file(&format!("data{number}"), vec![b'0' + number; 9_000_000]);
        grid.file("submission.toml", spec);
        let mut command = grid.command(&["submit", "submission.toml"]);
        let submitting = std::thread::spawn(move || run(&mut command));
        let instant = Instant::now() + random.duration(Duration::from_millis(400));
        grid.wait_until("the crash", |_| Instant::now() >= instant);
        grid.crash_server();
        let ran = submitting.join().expect("submitting does not panic");
        let jobs = grid.cli(&["--json", "jobs"]).json();
        let made: Vec<String> = jobs
            .as_array()
            .expect("a list")
            .iter()
            .filter(|job| job["name"] == name.as_str())
            .map(|job| job["job"].to_string())
            .collect();
        if ran.code == 0 {
            acknowledged.push(ran.stdout.trim().to_owned());
            assert_eq!(made, [ran.stdout.trim()], "{name}: {ran:?}");
        } else {
            // Whoever was refused before the job was sent knows that there is none.
            assert_eq!((ran.code, made.len()), (4, 0), "{name}: {ran:?}");
        }
    }
    assert!(acknowledged.len() >= 3, "most submissions get through: {acknowledged:?}");
    for job in &acknowledged {
        assert_eq!(grid.cli(&["--json", "show", job]).json()["counts"]["waiting"], 1);
    }
}

#[test]
fn a_killed_client_leaves_nothing_and_starts_afresh() {
    let mut grid = Grid::start(1);
    grid.file("job.toml", "spec = 1\ncommand = ['sh', '-c', 'sleep 600 & sleep 601', 'leftover-5b1d']\napp = { include = ['sleep'] }\n");
    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    let runs = |_: &Grid| !machine::marked("leftover-5b1d").is_empty();
    grid.wait_until("the subjob runs", runs);
    let tag = grid.cli(&["--json", "clients"]).json()[0]["client"].as_str().expect("an id")[..8].to_owned();
    grid.clients[0].kill();
    grid.wait_until("its processes are gone", |grid| !runs(grid));
    let attempts = grid.client_state(0).join("attempts");
    assert_ne!(std::fs::read_dir(&attempts).expect("there").count(), 0, "a kill leaves its files");
    grid.cli(&["cancel", &job]).ok();
    grid.clients[0] = grid.start_client(0, 2);
    assert_eq!(grid.cli(&["run", "--", "echo", "again"]).ok(), "again\n");
    let is_clear = |_: &Grid| std::fs::read_dir(&attempts).expect("there").count() == 0;
    grid.wait_until("its files are gone", is_clear);
    let groups =
        || machine::control_groups().into_iter().filter(|path| path.to_string_lossy().contains(&tag));
    grid.wait_until("its control groups are gone", |_| groups().count() == 0);
}
