//! Measures what the sandbox adds to the start-up of a program that does nothing, in turns with the bare program:
//! `start_up INIT TREE PROGRAM [ROUNDS]`, where PROGRAM is a path inside TREE that also runs outside of it.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sandbox::{Bounds, Ended, Launcher, Spec};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [init, tree, program, rounds @ ..] = args.as_slice() else {
        return Err("usage: start_up INIT TREE PROGRAM [ROUNDS]".into());
    };
    let rounds = rounds.first().map_or(Ok(50), |text| text.parse())?;
    let mut launcher = Launcher::new(format!("startup{}", std::process::id()));
    launcher.command = vec![init.into()];
    let directory = tempfile::tempdir()?;
    let (mut bare, mut boxed) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        bare.push(run_bare(&Path::new(tree).join(program.trim_start_matches('/')))?);
        boxed.push(run_boxed(&launcher, tree, program, &directory.path().join(round.to_string()))?);
    }
    for (name, times) in [("bare", &mut bare), ("sandbox", &mut boxed)] {
        times.sort();
        println!("{name:8} min {:?} median {:?} max {:?}", times[0], times[rounds / 2], times[rounds - 1]);
    }
    Ok(())
}

fn run_bare(program: &Path) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    Command::new(program).status()?;
    Ok(begun.elapsed())
}

fn run_boxed(launcher: &Launcher, tree: &str, program: &str, run: &Path) -> Result<Duration, Box<dyn Error>> {
    std::fs::create_dir_all(run.join("work"))?;
    let spec = Spec::new(tree, program, run, Bounds::default());
    let begun = Instant::now();
    let exit = sandbox::start(launcher, &spec)?.wait();
    let took = begun.elapsed();
    match exit.ended {
        Ended::Code(0) => Ok(took),
        other => Err(format!("{other:?}").into()),
    }
}
