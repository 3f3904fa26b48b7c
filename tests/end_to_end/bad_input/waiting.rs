//! Waiting that ends before the job does: by a time limit, by ctrl-C, or because somebody cancels the job.

use std::fs::File;
use std::process::{Command, Stdio};

use grid_tests::{Grid, Process, Ran, run};
use rustix::process::Signal;

use super::{CANCELLED, INTERRUPTED, TIMED_OUT, check};

/// A grid without clients, so that nothing ends by itself, and a command that waits for a job on it.
fn waiting(options: &[&str]) -> (Grid, Command) {
    let grid = Grid::start(0);
    grid.file("job.toml", "spec = 1\ncommand = ['echo', 'hi']\n");
    let command = grid.command(&[&["submit", "job.toml", "--wait"], options].concat());
    (grid, command)
}

fn is_submitted(grid: &Grid) -> bool {
    grid.cli(&["--json", "jobs"]).json()[0]["state"] == "running"
}

/// Runs the command and does something to it or its job once it waits.
fn ends_when(meanwhile: impl FnOnce(&Grid, &Process)) -> Ran {
    let (grid, mut command) = waiting(&[]);
    let paths = ["stdout", "stderr"].map(|name| grid.scratch.path().join(name));
    let [stdout, stderr] = paths.each_ref().map(|path| File::create(path).expect("a file"));
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut process = Process::start("waiting", &mut command);
    let read = |path| std::fs::read_to_string(path).expect("text");
    grid.wait_until("it shows the progress", |_| read(&paths[1]).contains(" %  "));
    meanwhile(&grid, &process);
    let code = process.wait().code().unwrap_or(-1);
    Ran { code, stdout: read(&paths[0]), stderr: read(&paths[1]) }
}

#[test]
fn a_time_limit_ends_the_waiting_and_not_the_job() {
    let (grid, mut command) = waiting(&["--timeout", "300ms"]);
    check(
        &run(&mut command),
        TIMED_OUT,
        &["job 1 has not ended in the time given; it goes on", "dcgrid show 1"],
    );
    assert!(is_submitted(&grid));
}

#[test]
fn an_interrupt_ends_the_waiting_and_not_the_job() {
    let ran = ends_when(|grid, process| {
        process.signal(Signal::INT);
        assert!(is_submitted(grid));
    });
    check(&ran, INTERRUPTED, &["interrupted; job 1 goes on", "dcgrid cancel 1"]);
}

#[test]
fn a_job_that_somebody_cancels_ends_the_waiting() {
    let ran = ends_when(|grid, _| {
        grid.cli(&["cancel", "1"]).ok();
    });
    check(&ran, CANCELLED, &[]);
    assert!(ran.stdout.contains("job 1 'echo' cancelled"), "{ran:?}");
}
