//! `cargo xtask test-fs`: what others wrote to try file systems, on a sealed mount, as root.
//!
//! What a suite fails on a plain directory of the same machine too is not held against the mount. A suite whose program
//! is not installed is skipped, and says so.

mod bed;
mod fsx;
mod load;
mod pjdfstest;
mod programs;
mod tools;

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use self::bed::Bed;
use crate::mount;
use crate::workspace::Workspace;

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What the gates have time for.
    Quick,
    /// Everything: about ten minutes.
    Whole,
}

/// What came of a suite that did not fail.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// With what there is to say of it.
    Passed(String),
    /// With the reason.
    Skipped(String),
}

#[derive(Debug)]
struct Suite {
    name: &'static str,
    /// Programs that must be installed.
    needs: &'static [&'static str],
    run: fn(&mut Bed) -> Result<Outcome>,
}

/// In the order in which they run. The last one looks at what the others left.
const SUITES: &[Suite] = &[
    Suite { name: "pjdfstest", needs: &["cc", "/usr/include/sys/acl.h"], run: pjdfstest::run },
    Suite { name: "attributes", needs: &[programs::PYTHON], run: programs::attributes },
    Suite { name: "fsx", needs: &["cc"], run: fsx::run },
    Suite { name: "fio", needs: &["fio"], run: load::fio },
    Suite { name: "stress-ng", needs: &["stress-ng"], run: load::stress_ng },
    Suite { name: "sqlite", needs: &[programs::PYTHON], run: programs::sqlite },
    Suite { name: "python", needs: &[programs::PYTHON], run: programs::python },
    Suite { name: "git", needs: &["git"], run: programs::git },
    Suite { name: "build", needs: &["cc", "make"], run: programs::build },
    Suite { name: "reopen", needs: &["git"], run: programs::reopen },
];

/// Runs the suites that the arguments name, or all; `--quick` has each do less.
///
/// # Errors
/// An unknown name, or a suite that failed.
pub fn main(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    let extent = if arguments.contains(&"--quick") { Extent::Quick } else { Extent::Whole };
    let names: Vec<&str> = arguments.iter().copied().filter(|argument| *argument != "--quick").collect();
    for name in &names {
        let known = || SUITES.iter().map(|suite| suite.name).collect::<Vec<_>>().join(", ");
        ensure!(SUITES.iter().any(|suite| suite.name == *name), "no suite '{name}'; there are: {}", known());
    }
    run(workspace, extent, &names)
}

/// Runs the suites of these names, or all if there is none, and prints how many passed as the last line.
///
/// # Errors
/// When one failed.
pub fn run(workspace: &Workspace, extent: Extent, names: &[&str]) -> Result<()> {
    let chosen: Vec<&Suite> =
        SUITES.iter().filter(|suite| names.is_empty() || names.contains(&suite.name)).collect();
    if let Some(reason) = mount::cannot_mount() {
        println!("skipped file-system suites: {reason}");
        return Ok(());
    }
    let mut bed = Bed::make(workspace, extent)?;
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for suite in chosen {
        let begun = Instant::now();
        match suite.run(&mut bed) {
            Ok(Outcome::Passed(what)) => {
                println!("ok {}: {what} ({:.0} s)", suite.name, begun.elapsed().as_secs_f64());
                passed += 1;
            }
            Ok(Outcome::Skipped(reason)) => {
                println!("skipped {}: {reason}", suite.name);
                skipped += 1;
            }
            Err(error) => {
                println!("FAILED {}: {error:#}", suite.name);
                failed += 1;
            }
        }
    }
    let trouble = bed.end().err();
    println!("{passed} passed, {failed} failed, {skipped} skipped of the file-system suites");
    if let Some(trouble) = trouble {
        return Err(trouble.context("the server of the mount, in the end"));
    }
    if failed > 0 {
        bail!("the file system failed what others wrote to try file systems");
    }
    Ok(())
}

impl Suite {
    fn run(&self, bed: &mut Bed) -> Result<Outcome> {
        if let Some(lacking) = tools::lacking(self.needs) {
            return Ok(Outcome::Skipped(format!("{lacking} is not installed")));
        }
        bed.clear().context("clear up after the suite before")?;
        (self.run)(bed)
    }
}
