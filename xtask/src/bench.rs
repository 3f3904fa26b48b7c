//! `cargo xtask bench`: figures for every claim of speed, taken side by side with what they are compared to.
//!
//! A new measurement is one more entry of [`BENCHES`]. Most compare two commands: [`compare`] runs them in
//! interleaved pairs, so that a machine that slows down slows both, and prints the median of the pairs' ratios.

mod files;
mod grid;
mod sandbox;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{Workspace, cargo, line_of, step};

#[derive(Debug)]
struct Bench {
    name: &'static str,
    about: &'static str,
    rounds: usize,
    run: fn(&Workspace, Options<'_>) -> Result<()>,
}

/// What a measurement is told.
#[derive(Clone, Copy, Debug)]
struct Options<'a> {
    rounds: usize,
    // Not every measurement heeds these.
    /// Whether programs read the figures.
    json: bool,
    /// Megabytes of the large file.
    size: Option<u64>,
    /// What of it is measured, names with commas between; everything if there are none.
    only: Option<&'a str>,
}

const BENCHES: &[Bench] = &[
    Bench { name: "start", about: "`dcgrid --version` against /bin/true", rounds: 101, run: start },
    Bench { name: "run", about: "`dcgrid run -- echo hi` against echo", rounds: 31, run: grid::run },
    Bench { name: "dispatch", about: "subjobs a second through one server", rounds: 3, run: grid::dispatch },
    Bench { name: "sandbox", about: "the sandbox, others and none", rounds: 10, run: sandbox::run },
    Bench { name: "fs", about: "sealed files, others and none", rounds: 5, run: files::run },
    Bench { name: "sealed", about: "programs with sealed files", rounds: 10, run: sandbox::sealed },
    Bench { name: "idle", about: "processor time and memory of an idle client", rounds: 2, run: grid::idle },
];

/// Pairs that are run before any is counted: they fill the caches.
const WARM_UP: usize = 3;

/// One of the two commands that are compared.
#[derive(Debug)]
struct Side<'a> {
    program: &'a Path,
    arguments: &'a [&'a str],
}

/// Runs the measurement that the arguments name, or lists what there is.
///
/// # Errors
/// An unknown name, or a command that fails.
pub fn run(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let (name, rest) = match arguments {
        [] => {
            BENCHES.iter().for_each(|bench| println!("{:12} {}", bench.name, bench.about));
            return Ok(());
        }
        [name, rest @ ..] => (name, rest),
    };
    let given = options(rest)?;
    let known = || BENCHES.iter().map(|bench| bench.name).collect::<Vec<_>>().join(", ");
    let bench = BENCHES.iter().find(|bench| bench.name == *name);
    let bench = bench.with_context(|| format!("no measurement '{name}'; there are: {}", known()))?;
    let rounds = if given.rounds == 0 { bench.rounds } else { given.rounds };
    (bench.run)(workspace, Options { rounds, ..given })
}

/// What the arguments say; 0 rounds if they don't say how many.
fn options<'a>(mut arguments: &[&'a str]) -> Result<Options<'a>> {
    let mut options = Options { rounds: 0, json: false, size: None, only: None };
    let number = |text: &str| -> Result<u64> {
        let number = text.parse().with_context(|| format!("read '{text}' as a number"))?;
        ensure!(number > 0, "there is nothing to measure in 0 rounds or megabytes");
        Ok(number)
    };
    loop {
        arguments = match arguments {
            [] => return Ok(options),
            ["--json", rest @ ..] => {
                options.json = true;
                rest
            }
            ["--rounds", count, rest @ ..] => {
                options.rounds = usize::try_from(number(count)?)?;
                rest
            }
            ["--size", mib, rest @ ..] => {
                options.size = Some(number(mib)?);
                rest
            }
            ["--only", names, rest @ ..] => {
                options.only = Some(names);
                rest
            }
            _ => {
                bail!("usage: cargo xtask bench [NAME [--rounds N] [--json] [--size MIB] [--only NAME,...]]")
            }
        };
    }
}

/// Builds the release binary; returns where it is.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    step(cargo().args(["build", "--quiet", "--release", "--locked", "--package", "dcgrid"]))?;
    Ok(workspace.target.join("release/dcgrid"))
}

fn start(workspace: &Workspace, options: Options<'_>) -> Result<()> {
    let dcgrid = build(workspace)?;
    compare(
        &Side { program: &dcgrid, arguments: &["--version"] },
        &Side { program: Path::new("/bin/true"), arguments: &[] },
        options.rounds,
    )
}

/// Times two commands from start to exit in interleaved pairs and prints their medians and ratio.
fn compare(subject: &Side<'_>, baseline: &Side<'_>, rounds: usize) -> Result<()> {
    let pairs = pairs(|| time(subject), || time(baseline), rounds)?;
    let (of_subject, of_baseline): (Vec<Duration>, Vec<Duration>) = pairs.iter().copied().unzip();
    print_median(subject, &of_subject);
    print_median(baseline, &of_baseline);
    let ratios = ratios(&pairs);
    println!(
        "{:40} {:.2} (middle half {:.2} to {:.2}, {rounds} pairs)",
        "ratio",
        quantile(&ratios, 0.5),
        quantile(&ratios, 0.25),
        quantile(&ratios, 0.75)
    );
    Ok(())
}

fn print_median(side: &Side<'_>, times: &[Duration]) {
    let milliseconds: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    println!("{:40} {:.2} ms", line_of(&command(side)), quantile(&milliseconds, 0.5));
}

/// Runs two measurements in turn, the one that goes first changing from pair to pair.
fn pairs(
    mut subject: impl FnMut() -> Result<Duration>,
    mut baseline: impl FnMut() -> Result<Duration>,
    rounds: usize,
) -> Result<Vec<(Duration, Duration)>> {
    let mut pairs = Vec::with_capacity(rounds);
    for round in 0..WARM_UP + rounds {
        let pair = if round % 2 == 0 {
            let first = subject()?;
            (first, baseline()?)
        } else {
            let first = baseline()?;
            (subject()?, first)
        };
        if round >= WARM_UP {
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

fn time(side: &Side<'_>) -> Result<Duration> {
    let mut command = command(side);
    let begin = Instant::now();
    let status = command.status().with_context(|| format!("start {}", side.program.display()))?;
    let taken = begin.elapsed();
    ensure!(status.success(), "{} ended with {status}", line_of(&command));
    Ok(taken)
}

fn command(side: &Side<'_>) -> Command {
    let mut command = Command::new(side.program);
    command.args(side.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn ratios(pairs: &[(Duration, Duration)]) -> Vec<f64> {
    pairs.iter().map(|(subject, baseline)| subject.as_secs_f64() / baseline.as_secs_f64()).collect()
}

/// The value below which `share` of the values lie, between neighbors by weight; there is at least one value.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * (sorted.len() - 1) as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn pairs_alternate_and_the_warm_up_is_not_counted() {
        let order = RefCell::new(String::new());
        let side = |letter: char, millis| {
            let order = &order;
            move || {
                order.borrow_mut().push(letter);
                Ok(Duration::from_millis(millis))
            }
        };
        let found = pairs(side('s', 3), side('b', 2), 3).expect("nothing fails");
        assert_eq!(found, [(Duration::from_millis(3), Duration::from_millis(2)); 3]);
        assert_eq!(order.into_inner(), "sbbssbbssbbs");
    }

    #[test]
    fn the_median_is_that_of_the_pairs_ratios() {
        let pair = |subject, baseline| (Duration::from_millis(subject), Duration::from_millis(baseline));
        let ratios = ratios(&[pair(10, 10), pair(30, 10), pair(100, 50)]);
        assert_eq!(quantile(&ratios, 0.5), 2.0);
    }

    #[test]
    fn quantiles_lie_between_neighbors() {
        fn check(values: &[f64], share: f64, expect: f64) {
            assert_eq!(quantile(values, share), expect, "{values:?} at {share}");
        }
        check(&[5.0], 0.5, 5.0);
        check(&[3.0, 1.0], 0.5, 2.0);
        check(&[3.0, 1.0, 2.0], 0.5, 2.0);
        check(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25, 2.0);
        check(&[1.0, 2.0, 3.0, 4.0], 0.75, 3.25);
    }

    #[test]
    fn a_command_that_fails_is_no_measurement() {
        let program = Path::new("/bin/false");
        let error = time(&Side { program, arguments: &["-x"] }).expect_err("it ends with 1");
        assert_eq!(error.to_string(), "false -x ended with exit status: 1");
    }
}
