//! Exit codes, limits, and what is said of them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Bench, control_groups, processes_with};

#[test]
fn the_exit_code_is_the_programs() {
    let bench = Bench::new();
    bench.run(&["--", "sh", "-c", "exit 7"]).check(7, "", "");
    let ran = bench.run(&["--", "sh", "-c", "kill -SEGV $$"]);
    assert_eq!(ran.code, Some(139), "{ran:?}");
    assert!(ran.stderr.contains("signal 11 (SIGSEGV)"), "{ran:?}");
}

#[test]
fn what_can_not_run_says_why() {
    let bench = Bench::new();
    bench.run(&["--", "sortt"]).check(
        127,
        "",
        "error: there is no program 'sortt' in PATH; did you mean 'sort'?\n",
    );
    bench.file("data", "x");
    let ran = bench.run(&["--", "./data"]);
    assert!(ran.code == Some(126) && ran.stderr.contains("is not executable: chmod +x it"), "{ran:?}");
    let check = |args: &[&str], message: &str| {
        let ran = bench.run(args);
        assert!(ran.code == Some(125) && ran.stderr.contains(message), "{ran:?}");
    };
    check(&["-i", "none", "--", "true"], "can't copy 'none' to /work");
    check(&["-i", "/usr", "--", "true"], "'/usr' is not a regular file; --workdir takes directories");
    check(&["-i", "..", "--", "true"], "the input '..' has no name");
    check(&["-e", "EVM_TEST_UNSET", "--", "true"], "the variable EVM_TEST_UNSET is not set");
    check(&["--memory", "0B", "--", "true"], "memory limit is not usable: it is 0");
    check(&["--keep", ".", "--", "true"], "'.' is there already");
    check(&["--stdin", "none", "--", "true"], "can't open 'none'");
    check(&["--workdir", "none", "--", "true"], "can't open the directory 'none'");
    for (args, message) in [
        (&["--memory", "64", "--", "true"][..], "'64' has no unit"),
        (&["--allow", "db", "--", "true"], "it has no port"),
        (&["--write-back", "--", "true"], "--workdir"),
        (&["true"], "unexpected argument 'true'"),
        (&[], "<PROGRAM>"),
    ] {
        let ran = bench.run(args);
        assert!(ran.code == Some(2) && ran.stderr.contains(message), "{ran:?}");
    }
}

#[test]
fn each_limit_is_named_with_its_value() {
    let bench = Bench::new();
    let check = |args: &[&str], message: &str| {
        let ran = bench.run(args);
        assert!(ran.code == Some(124) && ran.stderr.contains(message), "{ran:?}");
    };
    check(&["--wall", "1s", "--", "sleep", "600"], "evm: ended by a limit: --wall 1s\n");
    let fill = "head -c 100000000 /dev/zero > f";
    check(&["--disk", "4MiB", "--", "sh", "-c", fill], "evm: ended by a limit: --disk 4 MiB, used ");
    let eat = "x=x; while :; do x=$x$x; done";
    check(&["--memory", "64MiB", "--", "sh", "-c", eat], "evm: ended by a limit: --memory 64 MiB, peak ");
    check(
        &["--output-limit", "10B", "--", "echo", "0123456789abc"],
        "evm: ended by a limit: standard output took more than --output-limit 10 B\n",
    );
    let spin = "while :; do :; done";
    check(
        &["--cpu-time", "1s", "--wall", "5m", "--", "sh", "-c", spin],
        "ended by a limit: --cpu-time 1s, used ",
    );
}

#[test]
fn the_end_is_json_when_asked_for() {
    let bench = Bench::new();
    let mut command = bench.command(&["run", "--json", "--", "sh", "-c", "echo out; exit 3"]);
    let output = command.output().expect("it can be started");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&report["code"], output.status.code()), (&3.into(), Some(3)));
    assert!(report["wall_seconds"].as_f64().is_some_and(|wall| wall > 0.0), "{report}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "out\n");
}

/// Starts a program that runs until it is ended, and waits until it runs.
fn start(bench: &Bench, marker: &str) -> Child {
    let text = format!("echo up; sleep {marker}");
    let mut command = bench.command(&["run", "--", "sh", "-c", &text]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it speaks");
    assert_eq!(line, "up\n");
    child
}

fn signal(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(id, signal).expect("it can be signalled");
}

/// Looks again and again until something holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn check_gone(bench: &Bench, id: u32, marker: &str) {
    eventually("every process ends", || processes_with(marker).is_empty());
    let groups = || control_groups(Path::new("/sys/fs/cgroup"), &format!("dcgrid-evm{id}x"));
    assert_eq!(groups(), Vec::<std::path::PathBuf>::new());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    assert!(!mounts.contains(&bench.cache().display().to_string()), "{mounts}");
    bench.check_nothing_is_left();
}

#[test]
fn ctrl_c_and_the_like_end_all_of_it() {
    for (number, asked) in [(130, Signal::INT), (143, Signal::TERM), (129, Signal::HUP)] {
        let bench = Bench::new();
        let marker = format!("71{number}.25");
        let child = start(&bench, &marker);
        assert!(!processes_with(&marker).is_empty());
        signal(&child, asked);
        let id = child.id();
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(number), &b""[..]));
        check_gone(&bench, id, &marker);
    }
}

#[test]
fn what_a_killed_run_left_is_cleared_by_the_next() {
    let bench = Bench::new();
    let marker = "71999.25";
    let mut child = start(&bench, marker);
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    eventually("every process ends", || processes_with(marker).is_empty());
    let id = child.id();
    bench.run(&["--", "true"]).check(0, "", "");
    check_gone(&bench, id, marker);
}

#[test]
fn ctrl_z_stops_the_program_too() {
    let bench = Bench::new();
    let mut command = bench.command(&["run", "--", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; done"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it can be started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.next().is_some_and(|line| line.is_ok_and(|line| line == "1")));
    signal(&child, Signal::TSTP);
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it is there");
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next())
    };
    eventually("it stands still", || state() == Some('T'));
    signal(&child, Signal::CONT);
    eventually("it goes on", || state() != Some('T'));
    assert!(lines.by_ref().take(50_000).all(|line| line.is_ok()), "the program goes on too");
    signal(&child, Signal::TERM);
    drop(lines);
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
    bench.check_nothing_is_left();
}
