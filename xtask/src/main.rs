//! The only automation of the workspace: `cargo xtask tidy | ci | bench | test-fs | paper-map`.
//!
//! What each command checks or measures is in the module of its name; this file only chooses among them.
#![forbid(unsafe_code)]

mod bench;
mod ci;
mod mount;
mod paper_map;
mod suite;
mod test_fs;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  tidy                       check the rules of the house that no compiler checks
  paper-map                  check docs/paper-map.md against the list of the paper's sections
  ci                         all gates: fmt, clippy, tidy, paper-map, deny, tests, file system
  test-fs [--quick] [SUITE ...]  what others wrote to try file systems, on sealed files; as root
  bench [NAME [--rounds N] [--json] [--size MIB] [--only NAME,...]]  measure NAME, or list what can be measured";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["tidy"] => tidy::run(&Workspace::load()?),
        ["paper-map"] => paper_map::run(&Workspace::load()?),
        ["ci"] => ci::run(&Workspace::load()?),
        ["test-fs", rest @ ..] => test_fs::main(&Workspace::load()?, rest),
        ["bench", rest @ ..] => bench::run(&Workspace::load()?, rest),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("no such command\n{USAGE}"),
    }
}
