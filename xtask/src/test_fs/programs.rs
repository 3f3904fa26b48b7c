//! Programs that need more of a file system than most, on the mount: git, a compiler, SQLite, Python's own tests.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::bed::{Bed, CLONE};
use super::tools::{Ran, run, within};
use super::{Extent, Outcome};
use crate::workspace::cargo;

/// For which dependencies are looked up: others' were never fetched.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Debian's, and not one that somebody has put before it in the path.
pub(super) const PYTHON: &str = "/usr/bin/python3";

const LIMIT: Duration = Duration::from_secs(600);

/// Extended attributes, files without a name, locks between processes, holes, shared maps.
pub(super) fn attributes(bed: &mut Bed) -> Result<Outcome> {
    let said = python_script(bed, "attributes.py", include_str!("attributes.py"), &[])?.ok()?;
    Ok(Outcome::Passed(said.trim().to_owned()))
}

/// Writers that are killed in the middle of transactions, in every journal mode.
pub(super) fn sqlite(bed: &mut Bed) -> Result<Outcome> {
    let rounds = match bed.extent {
        Extent::Quick => "1",
        Extent::Whole => "5",
    };
    let said = python_script(bed, "database.py", include_str!("database.py"), &[rounds])?.ok()?;
    Ok(Outcome::Passed(said.trim().to_owned()))
}

fn python_script(bed: &Bed, name: &str, text: &str, arguments: &[&str]) -> Result<Ran> {
    let script = bed.scratch().join(name);
    fs::write(&script, text)?;
    let mut command = within(LIMIT, PYTHON);
    command.arg(&script).args(arguments);
    run(bed, &format!("{name}.log"), &bed.sealed(), &mut command)
}

/// Python's own tests of what it does with files.
const PYTHON_TESTS: &[&str] = &[
    "bufio",
    "dbm",
    "dbm_dumb",
    "fcntl",
    "file",
    "filecmp",
    "fileinput",
    "fileio",
    "genericpath",
    "glob",
    "gzip",
    "mailbox",
    "mmap",
    "os",
    "pathlib",
    "posix",
    "posixpath",
    "py_compile",
    "shelve",
    "shutil",
    "sqlite3",
    "stat",
    "tarfile",
    "tempfile",
    "unicode_file",
    "unicode_file_functions",
    "zipfile",
    "zipimport",
];

/// Those that take longer than ten seconds.
const LONG_PYTHON_TESTS: &[&str] = &["compileall", "eintr", "importlib", "io", "largefile"];

pub(super) fn python(bed: &mut Bed) -> Result<Outcome> {
    let probe = Command::new(PYTHON).args(["-c", "import test.test_os"]).output().context("start Python")?;
    if !probe.status.success() {
        return Ok(Outcome::Skipped("Python's tests are not installed (libpython3.11-testsuite)".into()));
    }
    let mut tests: Vec<String> = PYTHON_TESTS.iter().map(|name| format!("test_{name}")).collect();
    if bed.extent == Extent::Whole {
        tests.extend(LONG_PYTHON_TESTS.iter().map(|name| format!("test_{name}")));
    }
    let sealed = python_tests(bed, &bed.sealed(), &tests, "python.sealed")?;
    let failed = failed_python_tests(&sealed.output);
    ensure!(sealed.success || !failed.is_empty(), sealed.failure());
    if failed.is_empty() {
        return Ok(Outcome::Passed(format!("{} tests", tests.len())));
    }
    let plain = python_tests(bed, &bed.plain(), &failed, "python.plain")?;
    let too = failed_python_tests(&plain.output);
    let ours: Vec<&String> = failed.iter().filter(|name| !too.contains(name)).collect();
    ensure!(ours.is_empty(), "{ours:?} pass in a plain directory alone: {}", sealed.failure());
    let what = format!("{} tests; failed in a plain directory too: {}", tests.len(), too.join(", "));
    Ok(Outcome::Passed(what))
}

fn python_tests(bed: &Bed, directory: &Path, tests: &[String], log: &str) -> Result<Ran> {
    let mut command = within(LIMIT, PYTHON);
    command.args(["-m", "test", "-j2", "--tempdir"]).arg(directory).args(tests);
    run(bed, log, directory, &mut command)
}

/// The names below the line `2 tests failed:`.
fn failed_python_tests(output: &str) -> Vec<String> {
    let is_heading = |line: &&str| line.ends_with("tests failed:") || line.ends_with("test failed:");
    let lines = output.lines().skip_while(|line| !is_heading(line)).skip(1);
    let names = lines.take_while(|line| line.starts_with("    ")).flat_map(str::split_whitespace);
    names.map(str::to_owned).collect()
}

/// A clone of this repository: all its objects, a work tree, a commit, all objects packed anew.
pub(super) fn git(bed: &mut Bed) -> Result<Outcome> {
    // Whoever checked out the sources need not be who runs this.
    let settings = bed.scratch().join("gitconfig");
    fs::write(&settings, "[safe]\n\tdirectory = *\n[user]\n\tname = Nobody\n\temail = nobody@localhost\n")?;
    let clone = bed.sealed().join(CLONE);
    let from = format!("file://{}", bed.workspace.display());
    git_in(bed, &bed.sealed(), &["clone", "--quiet", &from, CLONE])?;
    check_clone(bed)?;
    let readme = clone.join("README.md");
    let text = fs::read_to_string(&readme).context("the clone has a README")?;
    fs::write(&readme, text.to_uppercase())?;
    let commands: &[&[&str]] = &[
        &["commit", "--quiet", "--all", "--message", "Say it aloud"],
        &["stash", "list"],
        &["checkout", "--quiet", "HEAD~0"],
        &["gc", "--quiet", "--prune=now"],
        &["revert", "--no-edit", "HEAD"],
        &["archive", "--output", "../all.tar", "HEAD"],
    ];
    for command in commands {
        git_in(bed, &clone, command)?;
    }
    check_clone(bed)?;
    ensure!(fs::read_to_string(&readme)? == text, "what was reverted is not what it was");
    let files = git_in(bed, &clone, &["ls-files"])?.lines().count();
    Ok(Outcome::Passed(format!("cloned, committed to, packed and checked, {files} files")))
}

fn check_clone(bed: &Bed) -> Result<()> {
    let clone = bed.sealed().join(CLONE);
    git_in(bed, &clone, &["fsck", "--full", "--strict", "--no-progress"])?;
    let changed = git_in(bed, &clone, &["status", "--porcelain"])?;
    ensure!(changed.is_empty(), "the work tree is not what was checked out:\n{changed}");
    Ok(())
}

fn git_in(bed: &Bed, directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = within(LIMIT, "git");
    command.args(arguments).env("GIT_CONFIG_GLOBAL", bed.scratch().join("gitconfig"));
    run(bed, "git.log", directory, &mut command)?.ok()
}

/// zstd, which comes with a crate that we use: copied, compiled by make with two compilers at once, linked, and tried.
pub(super) fn build(bed: &mut Bed) -> Result<Outcome> {
    let project = bed.sealed().join("project");
    fs::create_dir(&project)?;
    let sources = zstd_sources(bed)?;
    let copied = Command::new("cp").arg("--recursive").arg(sources).arg(project.join("lib")).status()?;
    ensure!(copied.success(), "the sources can't be copied");
    fs::write(project.join("Makefile"), include_str!("zstd.mk"))?;
    fs::write(project.join("roundtrip.c"), include_str!("roundtrip.c"))?;
    run(bed, "make.log", &project, within(LIMIT, "make").args(["--silent", "--jobs=2", "check"]))?.ok()?;
    // All of it is newer than what it is made of.
    let again = run(bed, "make.log", &project, within(LIMIT, "make").args(["--question", "roundtrip"]))?;
    ensure!(again.success, "make would build again what it has just built");
    Ok(Outcome::Passed("zstd compiled, linked, and true to what it compresses".into()))
}

fn zstd_sources(bed: &Bed) -> Result<std::path::PathBuf> {
    let metadata =
        ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", PLATFORM];
    let output =
        cargo().current_dir(&bed.workspace).args(metadata).output().context("start cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let package = packages.iter().find(|package| package["name"] == "zstd-sys");
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let Some(manifest) = manifest else { bail!("no crate of ours brings zstd any more") };
    Ok(Path::new(manifest).with_file_name("zstd").join("lib"))
}

/// A checkpoint, and what it holds in the next session: the clone, checked by git.
pub(super) fn reopen(bed: &mut Bed) -> Result<Outcome> {
    if !bed.sealed().join(CLONE).is_dir() {
        return Ok(Outcome::Skipped("there is no clone to look at: run the suite 'git' too".into()));
    }
    bed.reopen()?;
    check_clone(bed)?;
    Ok(Outcome::Passed("the clone is whole after a checkpoint and a new mount".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_read_from_what_python_prints() {
        fn check(output: &str, expect: &[&str]) {
            assert_eq!(failed_python_tests(output), expect, "{output}");
        }
        check("All 3 tests OK.\n", &[]);
        check("1 test failed:\n    test_os\n\n1 test skipped:\n    test_dbm\n", &["test_os"]);
        check(
            "2 tests failed:\n    test_compileall test_sqlite3\n    test_os\n\nTotal\n",
            &["test_compileall", "test_sqlite3", "test_os"],
        );
    }
}
