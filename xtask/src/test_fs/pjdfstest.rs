//! pjdfstest: what POSIX says of each system call on files, by users and kinds of file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::Outcome;
use super::bed::Bed;
use super::tools::{from_registry, run as run_program, within};

/// What Linux has of the things that not every system has. Its time stamps have the granularity of the kernel's tick, of
/// 10 ms at the coarsest; `nobody` and `daemon` are users on every Debian.
///
/// Remounting is left out: mount(8) looks for a helper named like the type of a FUSE mount, and ours has none.
const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utimensat = {}
utime_now = {}
[settings]
naptime = 0.03
allow_remount = false
expected_failures = []
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// What ext4 passes and we can't, with the reason.
const BEYOND_US: &[(&str, &str)] =
    &[("link::link_count_max", "pathconf has no answer for any FUSE mount, so it is skipped")];

/// Fewer than this many passes mean that it was not really tried.
const LEAST: usize = 300;

const LIMIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

type Verdicts = BTreeMap<String, Verdict>;

pub(super) fn run(bed: &mut Bed) -> Result<Outcome> {
    let program = match from_registry(bed, "pjdfstest", "0.2.2") {
        Ok(program) => program,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    let configuration = bed.scratch().join("pjdfstest.toml");
    fs::write(&configuration, CONFIGURATION)?;
    let try_in = |directory: &Path, log: &str| -> Result<(Verdicts, String)> {
        let mut command = within(LIMIT, &program);
        command.arg("-c").arg(&configuration).arg("-p").arg(directory).args(["-s", "/dev/shm"]);
        let ran = run_program(bed, log, &bed.scratch(), &mut command)?;
        let verdicts = verdicts(&ran.output);
        ensure!(ran.output.contains("\nSummary: "), ran.failure());
        Ok((verdicts, ran.output))
    };
    let (sealed, said) = try_in(&bed.sealed(), "pjdfstest.sealed")?;
    let (plain, _) = try_in(&bed.plain(), "pjdfstest.plain")?;
    let count = |of: &Verdicts, which| of.values().filter(|verdict| **verdict == which).count();
    ensure!(count(&sealed, Verdict::Passed) >= LEAST, "hardly anything was tried:\n{said}");
    let worse = worse(&sealed, &plain);
    if !worse.is_empty() {
        let told: String = worse.iter().map(|name| format!("\n{}", told_of(&said, name))).collect();
        bail!("{} pass in a plain directory alone:{told}", worse.len());
    }
    let summary = |of: &Verdicts| {
        let [passed, failed, skipped] =
            [Verdict::Passed, Verdict::Failed, Verdict::Skipped].map(|which| count(of, which));
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    };
    Ok(Outcome::Passed(format!("{}; in a plain directory {}", summary(&sealed), summary(&plain))))
}

/// Each test's verdict, from lines such as `chmod::change_perm::fifo       ok`.
fn verdicts(output: &str) -> Verdicts {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, verdict) = (words.next()?, words.next()?);
        let verdict = match verdict {
            "ok" => Verdict::Passed,
            "FAILED" => Verdict::Failed,
            "skipped" => Verdict::Skipped,
            _ => return None,
        };
        (name.contains("::") && words.next().is_none()).then(|| (name.to_owned(), verdict))
    };
    output.lines().filter_map(line).collect()
}

/// Tests that pass in the plain directory and don't in the mount, but for those that nobody could.
fn worse<'a>(sealed: &Verdicts, plain: &'a Verdicts) -> Vec<&'a str> {
    let passed =
        plain.iter().filter(|(_, verdict)| **verdict == Verdict::Passed).map(|(name, _)| name.as_str());
    let lost = passed.filter(|name| sealed.get(*name) != Some(&Verdict::Passed));
    lost.filter(|name| BEYOND_US.iter().all(|(beyond, _)| beyond != name)).collect()
}

/// The lines about a test.
fn told_of(output: &str, name: &str) -> String {
    let lines = output.lines().skip_while(|line| !line.starts_with(name));
    lines.take(4).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
chmod::change_perm::fifo                                                      ok
unlink::erofs_named                                                      skipped
\tRemounts (allow_remount) are not allowed in the configuration file
rename::exdev                                                             FAILED
\tcalled `Result::unwrap()`
link::link_count_max                                                          ok

Summary: 1 failed, 1 skipped, 2 passed, 0 expected failures, 4 total
";

    #[test]
    fn verdicts_are_read_from_what_it_prints() {
        let found = verdicts(OUTPUT);
        assert_eq!(found.len(), 4);
        assert_eq!(found["chmod::change_perm::fifo"], Verdict::Passed);
        assert_eq!(found["unlink::erofs_named"], Verdict::Skipped);
        assert_eq!(found["rename::exdev"], Verdict::Failed);
    }

    #[test]
    fn only_what_a_plain_directory_passes_counts_against_us() {
        let plain = verdicts(OUTPUT);
        assert!(worse(&plain, &plain).is_empty());
        let nothing = Verdicts::new();
        assert_eq!(worse(&nothing, &plain), ["chmod::change_perm::fifo"]);
        assert_eq!(told_of(OUTPUT, "rename::exdev").lines().nth(1), Some("\tcalled `Result::unwrap()`"));
    }
}
