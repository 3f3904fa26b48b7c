//! Measures how long it takes to pause a busy tree of 8 processes with 8 threads each, until it is known to stand
//! still: `pause INIT TREE PROGRAM [ROUNDS]`, where PROGRAM is a path inside TREE of the act program that the tests
//! compile from `tests/suite/hostile.c` and `files.c`. Prints the times of pausing and of resuming.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use sandbox::{Bounds, Cause, Launcher, Spec};

const PROCESSES: usize = 8;
const THREADS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [init, tree, program, rounds @ ..] = args.as_slice() else {
        return Err("usage: pause INIT TREE PROGRAM [ROUNDS]".into());
    };
    let rounds = rounds.first().map_or(Ok(200), |text| text.parse())?;
    let tag = format!("pause{}", std::process::id());
    let launcher = Launcher { command: vec![init.into()], ..Launcher::new(tag) };
    let directory = tempfile::tempdir()?;
    let spec = spec(tree, program, directory.path())?;
    let running = sandbox::start(&launcher, &spec)?;
    let control = running.control();
    while counting(&spec.work) < PROCESSES * THREADS - 1 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut pauses, mut resumes) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        control.pause()?;
        pauses.push(begun.elapsed());
        let begun = Instant::now();
        control.resume()?;
        resumes.push(begun.elapsed());
        // Time to be busy again.
        std::thread::sleep(Duration::from_millis(20));
    }
    control.terminate(Cause::Shutdown);
    running.wait();
    for (name, times) in [("pause", &mut pauses), ("resume", &mut resumes)] {
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!("{name:6} p50 {:?} p99 {:?} max {:?}", at(50), at(99), at(100));
    }
    Ok(())
}

/// Threads that have begun to count, by their counters in the program's file.
fn counting(work: &Path) -> usize {
    let bytes = std::fs::read(work.join("counters")).unwrap_or_default();
    bytes.chunks_exact(64).filter(|counter| counter[..8] != [0; 8]).count()
}

fn spec(tree: &str, program: &str, directory: &Path) -> Result<Spec, Box<dyn Error>> {
    std::fs::create_dir_all(directory.join("work"))?;
    let numbers = [PROCESSES, THREADS].map(|number| number.to_string());
    let args = ["busy_tree", "counters"].into_iter().chain(numbers.iter().map(String::as_str));
    Ok(Spec {
        args: args.map(Into::into).collect(),
        ..Spec::new(tree, program, directory, Bounds { cpus: 64, ..Bounds::default() })
    })
}
