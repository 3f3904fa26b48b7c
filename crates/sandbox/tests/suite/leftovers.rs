//! What is left when it is over, however it ended: nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use sandbox::{Cause, LimitHit};

use crate::harness::{Bench, INIT_VARIABLE, eventually, init_program};

/// For what a subjob does, when the machine lets it.
const SOON: Duration = Duration::from_secs(60);

/// Whether the client to be killed pauses its subjob before: `yes` or `no`.
const PAUSED_VARIABLE: &str = "SANDBOX_TEST_PAUSED";

const NO_GROUPS: Vec<PathBuf> = Vec::new();

#[test]
fn after_an_end_of_any_kind_nothing_is_left() {
    let Some(mut bench) = Bench::new() else { return };
    let tag = bench.launcher.tag.clone();
    for act in ["hello", "exit", "signal", "daemonize", "missing"] {
        let mut spec = bench.spec(&[act, "9", &tag]);
        if act == "missing" {
            spec.program = "/bin/missing".into();
        }
        bench.run(&spec);
        assert_eq!(bench.processes(), [], "{act}");
        assert_eq!(bench.control_groups(), NO_GROUPS, "{act}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bench.directory.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn a_daemon_does_not_outlive_the_program_and_does_not_hold_it_up() {
    let Some(mut bench) = Bench::new() else { return };
    let tag = bench.launcher.tag.clone();
    let outcome = bench.act(&["daemonize", &tag]);
    assert_eq!(outcome.ok(), "left\n");
    assert_eq!(bench.processes(), []);
}

/// Plays the client that is killed, in a process of its own: starts a subjob and waits for it.
fn client_to_be_killed(paused: &str) {
    let mut bench = Bench::new().expect("the test that kills it has looked");
    let tag = bench.launcher.tag.clone();
    let spec = bench.spec(&["count_up", "count", "3", &tag]);
    let running = bench.start(&spec);
    eventually(SOON, "the program counts", || spec.work.join("count").exists());
    if paused == "yes" {
        running.control().pause().unwrap();
    }
    println!("\nTAG {tag} {}", bench.directory.path().display());
    running.wait();
}

#[test]
fn a_client_killed_takes_everything_with_it() {
    if let Ok(paused) = std::env::var(PAUSED_VARIABLE) {
        return client_to_be_killed(&paused);
    }
    for paused in ["no", "yes"] {
        let Some(mut bench) = Bench::new() else { return };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "leftovers::a_client_killed_takes_everything_with_it", "--nocapture"])
            .env(INIT_VARIABLE, init_program())
            .env(PAUSED_VARIABLE, paused)
            .stdout(Stdio::piped());
        let mut client = command.spawn().unwrap();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line =
            lines.into_iter().find(|line| line.starts_with("TAG ")).expect("the client starts a subjob");
        let mut parts = line.split(' ').skip(1);
        bench.launcher.tag = parts.next().unwrap().to_owned();
        let directory = PathBuf::from(parts.next().unwrap());
        // Init, the VM Portal, the program and its three children.
        eventually(SOON, "all of it runs", || bench.processes().len() >= 6);

        client.kill().unwrap();
        client.wait().unwrap();
        eventually(Duration::from_secs(1), "all of it is gone", || bench.processes().is_empty());

        // What only a next start of the client can clear away.
        let groups = bench.control_groups().len();
        let found = sandbox::remove_leftovers(&bench.launcher.tag).unwrap();
        assert!(found <= groups);
        assert_eq!(bench.control_groups(), NO_GROUPS);
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn leftovers_of_another_client_are_left_alone() {
    let Some(mut bench) = Bench::new() else { return };
    let tag = bench.launcher.tag.clone();
    let spec = bench.spec(&["forever", &tag]);
    let running = bench.start(&spec);
    eventually(SOON, "the program runs", || bench.processes().len() == 3);
    assert_eq!(sandbox::remove_leftovers(&format!("{tag}x")).unwrap(), 0);
    assert_eq!(sandbox::remove_leftovers(&tag[..tag.len() - 1]).unwrap(), 0);
    assert_eq!(bench.processes().len(), 3);
    running.control().terminate(Cause::Shutdown);
    assert_eq!(running.wait().hit, Some(LimitHit::Terminated { cause: Cause::Shutdown }));
}
