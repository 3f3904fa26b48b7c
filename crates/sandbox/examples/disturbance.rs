//! Measures how late an ordinary thread of the desktop wakes up from a sleep of a millisecond, beside nothing and beside
//! programs in the sandbox that take all they can: `disturbance INIT TREE PROGRAM [ROUNDS]`, where PROGRAM is a path
//! inside TREE of the act program that the tests compile from `tests/suite/hostile.c` and `files.c`. Prints for each, in
//! turns, the lateness and how many subjobs ran: a bomb is ended soon, and the next one is started at once.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sandbox::{Bounds, Cause, Launcher, Spec};

/// Time for each kind in each round.
const WINDOW: Duration = Duration::from_secs(1);

/// What the desktop's thread asks for.
const SLEEP: Duration = Duration::from_millis(1);

/// Name and act; no act is nothing at all.
const KINDS: [(&str, &[&str]); 4] = [
    ("nothing", &[]),
    ("64 busy threads", &["busy_tree", "counters", "8", "8"]),
    ("fork bombs", &["forkbomb"]),
    ("thread bombs", &["threadbomb"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [init, tree, program, rounds @ ..] = args.as_slice() else {
        return Err("usage: disturbance INIT TREE PROGRAM [ROUNDS]".into());
    };
    let rounds: u32 = rounds.first().map_or(Ok(5), |text| text.parse())?;
    let tag = format!("disturbance{}", std::process::id());
    let launcher = Launcher { command: vec![init.into()], ..Launcher::new(tag) };
    let mut late: [Vec<Duration>; KINDS.len()] = Default::default();
    let mut subjobs = [0; KINDS.len()];
    for _ in 0..rounds {
        for (kind, (_, act)) in KINDS.iter().enumerate() {
            subjobs[kind] += beside(&launcher, Path::new(tree), program, act, &mut late[kind])?;
        }
    }
    for (((name, _), late), subjobs) in KINDS.iter().zip(&mut late).zip(subjobs) {
        late.sort();
        let at = |percent: usize| late[(late.len() - 1) * percent / 100];
        println!("{name:15} p50 {:?} p99 {:?} max {:?}, {subjobs} subjobs", at(50), at(99), at(100));
    }
    Ok(())
}

/// Takes samples for a while, beside one subjob after the other. Returns how many those were.
fn beside(
    launcher: &Launcher,
    tree: &Path,
    program: &str,
    act: &[&str],
    late: &mut Vec<Duration>,
) -> Result<u32, Box<dyn Error>> {
    let is_over = AtomicBool::new(act.is_empty());
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut subjobs = 0;
            while !is_over.load(Ordering::Relaxed) {
                run_one(launcher, tree, program, act, &is_over).map_err(|error| error.to_string())?;
                subjobs += 1;
            }
            Ok::<u32, String>(subjobs)
        });
        let begun = Instant::now();
        while begun.elapsed() < WINDOW {
            let asleep = Instant::now();
            thread::sleep(SLEEP);
            late.push(asleep.elapsed().saturating_sub(SLEEP));
        }
        is_over.store(true, Ordering::Relaxed);
        Ok(load.join().map_err(|_| "the thread of the subjobs failed")??)
    })
}

/// Runs one subjob, to its end or until it is not wanted any more.
fn run_one(
    launcher: &Launcher,
    tree: &Path,
    program: &str,
    act: &[&str],
    is_over: &AtomicBool,
) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    std::fs::create_dir(directory.path().join("work"))?;
    let limits = Bounds { cpus: 64, ..Bounds::default() };
    let spec = Spec {
        args: act.iter().map(Into::into).collect(),
        ..Spec::new(tree, program, directory.path(), limits)
    };
    let running = sandbox::start(launcher, &spec)?;
    let control = running.control();
    let ended = thread::spawn(move || running.wait());
    while !ended.is_finished() {
        if is_over.load(Ordering::Relaxed) {
            control.terminate(Cause::Shutdown);
        }
        thread::sleep(Duration::from_millis(10));
    }
    ended.join().map_err(|_| "waiting for the subjob failed")?;
    Ok(())
}
