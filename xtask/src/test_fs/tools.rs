//! How the suites' programs are found, installed and run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::bed::Bed;
use crate::workspace::{cargo, line_of};

/// Lines of a failed program's output that are told.
const TOLD: usize = 30;

/// The first of some programs and files that this machine lacks.
pub(super) fn lacking(needs: &[&'static str]) -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |need: &str| {
        if need.starts_with('/') {
            Path::new(need).exists()
        } else {
            std::env::split_paths(&path).any(|place| place.join(need).is_file())
        }
    };
    needs.iter().copied().find(|need| !has(need))
}

/// A program of the crates registry, of this version and no other, below the target directory. It is installed there if
/// it isn't yet.
///
/// # Errors
/// It can't be fetched or built.
pub(super) fn from_registry(bed: &Bed, name: &str, version: &str) -> Result<PathBuf> {
    let root = bed.target.join("test-fs");
    let program = root.join("bin").join(name);
    let is_there = Command::new(&program).arg("--version").output().is_ok_and(|output| {
        output.status.success()
            && String::from_utf8_lossy(&output.stdout).trim() == format!("{name} {version}")
    });
    if is_there {
        return Ok(program);
    }
    let mut install = cargo();
    install.args(["install", "--quiet", "--locked", "--root"]).arg(&root);
    install.arg(format!("{name}@{version}"));
    let output = install.output().context("start cargo install")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", line_of(&install), last_lines(&said, 3));
    }
    Ok(program)
}

/// What a program ended with and said.
#[derive(Debug)]
pub(super) struct Ran {
    pub success: bool,
    /// Both streams, as they came.
    pub output: String,
    line: String,
}

impl Ran {
    /// What it said, if it succeeded.
    ///
    /// # Errors
    /// It didn't: with the last that it said.
    pub(super) fn ok(self) -> Result<String> {
        if self.success { Ok(self.output) } else { Err(self.failure()) }
    }

    /// That it did not succeed, with the last that it said.
    pub(super) fn failure(&self) -> anyhow::Error {
        anyhow::anyhow!("{} did not succeed:\n{}", self.line, last_lines(&self.output, TOLD))
    }
}

/// A command that is killed, with its children, when it takes longer than `limit`: a file system that doesn't answer
/// must not hold up all that comes after.
pub(super) fn within(limit: Duration, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", &limit.as_secs().to_string()]).arg(program);
    command
}

/// Runs a command in a directory; `log` is the name of a file for what it says.
///
/// # Errors
/// It can't be started.
pub(super) fn run(bed: &Bed, log: &str, directory: &Path, command: &mut Command) -> Result<Ran> {
    let log = bed.scratch().join(log);
    let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
    command.current_dir(directory).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = command.status().with_context(|| format!("start {}", line_of(command)))?;
    let output = fs::read(&log).with_context(|| format!("read {}", log.display()))?;
    let output = String::from_utf8_lossy(&output).into_owned();
    Ok(Ran { success: status.success(), output, line: format!("{} ({status})", line_of(command)) })
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_that_is_not_there_is_named() {
        assert_eq!(lacking(&["sh", "/proc/self/stat"]), None);
        assert_eq!(lacking(&["sh", "no-such-program", "nor-this"]), Some("no-such-program"));
        assert_eq!(lacking(&["/no/such/file"]), Some("/no/such/file"));
    }

    #[test]
    fn only_the_end_of_much_output_is_told() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }
}
