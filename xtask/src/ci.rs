//! `cargo xtask ci`: every gate, the quick ones first, the tests and file-system suites last. The first that fails ends it.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::suite::{self, has};
use crate::test_fs::{self, Extent};
use crate::workspace::{Workspace, cargo, line_of, step};
use crate::{paper_map, tidy};

/// Runs all gates.
///
/// # Errors
/// The first gate that fails.
pub fn run(workspace: &Workspace) -> Result<()> {
    announced(cargo().args(["fmt", "--all", "--check"]))?;
    heading("tidy");
    tidy::run(workspace)?;
    heading("paper-map");
    paper_map::run(workspace)?;
    deny(workspace)?;
    announced(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    // The end-to-end tests run the program as it is shipped.
    announced(cargo().args(["build", "--release", "--locked", "--package", "dcgrid"]))?;
    heading("tests");
    suite::run(workspace)?;
    heading("file-system suites");
    test_fs::run(workspace, Extent::Quick, &[])
}

/// cargo-deny takes minutes to install, so a machine without it says so and goes on.
fn deny(workspace: &Workspace) -> Result<()> {
    heading("cargo deny");
    if !has("deny") {
        println!("skipped: cargo-deny is not installed (cargo install cargo-deny --locked)");
        return Ok(());
    }
    let checks = ["deny", "--offline", "check", "bans", "licenses", "sources"];
    step(cargo().current_dir(&workspace.root).args(checks))?;
    // Advisories need a database from outside: a machine that can't fetch it says so.
    let fetched = cargo()
        .args(["deny", "fetch", "db"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("start cargo deny fetch")?;
    if !fetched.success() {
        println!("skipped: the advisory database can't be fetched from here");
        return Ok(());
    }
    step(cargo().current_dir(&workspace.root).args(["deny", "--offline", "check", "advisories"]))
}

fn announced(command: &mut Command) -> Result<()> {
    heading(&line_of(command));
    step(command)
}

fn heading(text: &str) {
    println!("== {text}");
}
