//! Runs all tests and counts them: by cargo-nextest where it is installed, else by `cargo test`, which gives the
//! same verdict more slowly and without a process per test.
//!
//! A test that can't run on a machine prints a line `skipped: REASON` and returns. Both runners take it for
//! passed, so its output is read here and it is counted as what it is.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{Workspace, cargo, line_of, step};

/// What came of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    /// A line per skipped test: its name and its reason.
    skipped: Vec<String>,
}

const SKIPPED: &str = "skipped: ";

/// Runs documentation tests, then all others, and prints `N passed, N failed, N skipped` as the last line.
///
/// # Errors
/// When a test failed, or none ran.
pub fn run(workspace: &Workspace) -> Result<()> {
    step(cargo().args(["test", "--workspace", "--locked", "--doc", "--quiet"]))?;
    let (tally, succeeded) = if has("nextest") { nextest(workspace)? } else { libtest()? };
    tally.skipped.iter().for_each(|skipped| println!("skipped {skipped}"));
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped.len());
    ensure!(tally.passed > 0, "no test ran");
    ensure!(succeeded && tally.failed == 0, "the tests failed");
    Ok(())
}

/// Whether `cargo NAME` is installed.
pub fn has(name: &str) -> bool {
    let quiet = cargo().args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn nextest(workspace: &Workspace) -> Result<(Tally, bool)> {
    let report = workspace.target.join("nextest/ci/junit.xml");
    // What an earlier run left must not be counted for this one.
    if report.exists() {
        std::fs::remove_file(&report).with_context(|| format!("remove {}", report.display()))?;
    }
    let mut command = cargo();
    command.args(["nextest", "run", "--workspace", "--locked", "--profile", "ci", "--no-fail-fast"]);
    let status = command.status().with_context(|| format!("start {}", line_of(&command)))?;
    if !report.exists() {
        bail!("{} ended with {status} before any test ran", line_of(&command));
    }
    let xml = std::fs::read_to_string(&report).with_context(|| format!("read {}", report.display()))?;
    Ok((from_junit(&xml), status.success()))
}

fn libtest() -> Result<(Tally, bool)> {
    println!("cargo-nextest is not installed: cargo test runs the same tests");
    let mut command: Command = cargo();
    command.args(["test", "--workspace", "--locked", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    command.args(["--", "--show-output"]).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {}", line_of(&command)))?;
    let stdout = child.stdout.take().expect("stdout was piped two lines above");
    let mut lines = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("read the output of the tests")?;
        println!("{line}");
        lines.push(line);
    }
    let status = child.wait().context("wait for the tests")?;
    Ok((from_libtest(lines.iter().map(String::as_str)), status.success()))
}

/// Reads the report that nextest writes with the output of all tests in it.
fn from_junit(xml: &str) -> Tally {
    let mut tally = Tally::default();
    for case in xml.split("<testcase ").skip(1) {
        let case = case.split("</testcase>").next().unwrap_or(case);
        let name = format!("{} {}", attribute(case, "classname"), attribute(case, "name"));
        if case.contains("<failure") || case.contains("<error") {
            tally.failed += 1;
        } else if let Some(reason) = case.lines().find_map(skip_reason) {
            tally.skipped.push(format!("{name}: {}", unescaped(reason)));
        } else {
            tally.passed += 1;
        }
    }
    tally
}

/// Reads what `cargo test -- --show-output` prints: the output of each test after `---- NAME stdout ----`, then
/// a line `test result: …` per program.
fn from_libtest<'a>(lines: impl Iterator<Item = &'a str>) -> Tally {
    let mut tally = Tally::default();
    let mut name = "";
    let mut is_failures = false;
    for line in lines {
        // The output of failed tests is shown too, under its own heading; a failed test is not skipped.
        is_failures = match line {
            "successes:" => false,
            "failures:" => true,
            _ => is_failures,
        };
        if let Some(shown) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            name = shown;
        } else if let Some(reason) = skip_reason(line) {
            // A test that gives two reasons is still one test.
            if !name.is_empty() && !is_failures {
                tally.skipped.push(format!("{name}: {reason}"));
                name = "";
            }
        } else if let Some(result) = line.strip_prefix("test result: ") {
            tally.passed += count_before(result, " passed");
            tally.failed += count_before(result, " failed");
        }
    }
    tally.passed = tally.passed.saturating_sub(tally.skipped.len());
    tally
}

/// The reason in a line of a test's output, which may stand right after the tag that opens the output.
fn skip_reason(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let said =
        line.strip_prefix("<system-out>").or_else(|| line.strip_prefix("<system-err>")).unwrap_or(line);
    let reason = said.strip_prefix(SKIPPED)?;
    Some(reason.split("</system-").next().unwrap_or(reason).trim_end())
}

fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    let start = tag.split_once(&format!("{name}=\"")).map_or("", |(_, rest)| rest);
    start.split('"').next().unwrap_or(start)
}

fn count_before(text: &str, word: &str) -> usize {
    let before = text.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn unescaped(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_nextest_is_counted_with_its_skips() {
        let xml = r#"<testsuites name="nextest-run" tests="4" failures="1" errors="0">
    <testsuite name="link" tests="4">
        <testcase name="replay::twice" classname="link" time="0.1">
        </testcase>
        <testcase name="quick" classname="link" time="0.1"/>
        <testcase name="needs::fuse" classname="sandbox" time="0.1">
            <system-out>running 1 test
test needs::fuse ... ok</system-out>
            <system-err>skipped: no /dev/fuse &amp; no user namespaces
skipped: twice</system-err>
        </testcase>
        <testcase name="bad" classname="link" time="0.1">
            <failure type="test failure">boom</failure>
            <system-out>skipped: not any more</system-out>
        </testcase>
    </testsuite>
</testsuites>"#;
        let skipped = vec!["sandbox needs::fuse: no /dev/fuse & no user namespaces".to_owned()];
        assert_eq!(from_junit(xml), Tally { passed: 2, failed: 1, skipped });
    }

    #[test]
    fn the_output_of_cargo_test_is_counted_with_its_skips() {
        let printed = "\
test tests::a ... ok
test tests::b ... ok

successes:

---- tests::b stdout ----
skipped: no /dev/fuse
skipped: nor anything else

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
failures:

---- tests::d stdout ----
skipped: not any more

test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        let skipped = vec!["tests::b: no /dev/fuse".to_owned()];
        assert_eq!(from_libtest(printed.lines()), Tally { passed: 4, failed: 1, skipped });
    }
}
