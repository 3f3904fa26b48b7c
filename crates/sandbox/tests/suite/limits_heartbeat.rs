//! When the Desktop Controller or the VM Portal hangs, is stopped or killed: nothing of the subjob goes on.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sandbox::Ended;

use crate::harness::{Bench, INIT_VARIABLE, eventually, init_program};

/// For what a subjob does, when the machine lets it.
const SOON: Duration = Duration::from_secs(60);

/// Silence after which one end takes the other for hung, as the documents have it.
const LIMIT: Duration = Duration::from_secs(5);

/// Time from there until nothing of the subjob is left.
const SOON_AFTER: Duration = Duration::from_secs(1);

/// Set where the test plays the client that hangs.
const CLIENT_VARIABLE: &str = "SANDBOX_TEST_HANGING_CLIENT";

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Plays a client, in a process of its own: starts a subjob, waits for it, and says how it ended.
fn client() {
    let mut bench = Bench::new().expect("the test that starts it has looked");
    let tag = bench.launcher.tag.clone();
    let spec = bench.spec(&["count_up", "count", "3", &tag]);
    let running = bench.start(&spec);
    eventually(SOON, "the program counts", || spec.work.join("count").exists());
    println!("\nTAG {tag} {}", bench.directory.path().display());
    println!("\nENDED {:?}", running.wait().ended);
}

#[test]
fn a_client_that_hangs_loses_its_subjobs() {
    if std::env::var_os(CLIENT_VARIABLE).is_some() {
        return client();
    }
    let Some(mut bench) = Bench::new() else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "limits_heartbeat::a_client_that_hangs_loses_its_subjobs", "--nocapture"])
        .env(INIT_VARIABLE, init_program())
        .env(CLIENT_VARIABLE, "1")
        .stdout(Stdio::piped());
    let mut client = Killed(command.spawn().unwrap());
    let mut lines = BufReader::new(client.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.starts_with("TAG ")).expect("the client starts a subjob");
    let mut parts = line.split(' ').skip(1);
    bench.launcher.tag = parts.next().unwrap().to_owned();
    let directory = PathBuf::from(parts.next().unwrap());
    eventually(SOON, "all of it runs", || bench.processes().len() >= 6);

    let stopped = Instant::now();
    signal(client.0.id(), Signal::STOP);
    eventually(LIMIT + SOON_AFTER, "all of it is gone", || bench.processes().is_empty());
    // A moment's silence is no reason: the machine may be busy.
    assert!(stopped.elapsed() > LIMIT - Duration::from_secs(2), "gone after {:?}", stopped.elapsed());
    signal(client.0.id(), Signal::CONT);
    let ended = lines.find(|line| line.starts_with("ENDED ")).expect("the client goes on");
    assert!(ended.contains("Lost") && ended.contains("nothing of the Desktop Controller"), "{ended}");
    client.0.wait().unwrap();
    // The client has cleared away the rest itself; its directory it has left to the test harness.
    let _ = fs::remove_dir_all(directory);
}

/// A client that is killed when the test is over, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a subjob, does something to its VM Portal, and says how long it took until nothing was left.
fn with_portal(act: impl FnOnce(u32)) -> Option<(Ended, Duration)> {
    let mut bench = Bench::new()?;
    let tag = bench.launcher.tag.clone();
    let spec = bench.spec(&["forever", &tag]);
    let running = bench.start(&spec);
    let is_up = || fs::read_to_string(spec.stdout.path().unwrap()).is_ok_and(|text| text == "up\n");
    eventually(SOON, "the program runs", is_up);
    // Init is the first, its only child is the VM Portal.
    let mut pids = bench.processes();
    pids.sort_unstable();
    let begun = Instant::now();
    act(pids[1]);
    let ended = running.wait().ended;
    let took = begun.elapsed();
    assert_eq!(bench.processes(), []);
    assert_eq!(bench.control_groups(), Vec::<PathBuf>::new());
    Some((ended, took))
}

#[test]
fn a_portal_that_is_killed_takes_everything_with_it_and_is_told_as_lost() {
    let Some((ended, took)) = with_portal(|portal| signal(portal, Signal::KILL)) else { return };
    assert!(matches!(&ended, Ended::Lost(why) if why.contains("without a report")), "{ended:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_portal_that_is_stopped_is_told_as_lost() {
    let Some((ended, took)) = with_portal(|portal| signal(portal, Signal::STOP)) else { return };
    assert!(matches!(&ended, Ended::Lost(why) if why.contains("nothing was heard")), "{ended:?}");
    assert!(took < LIMIT + Duration::from_secs(2), "{took:?}");
}
