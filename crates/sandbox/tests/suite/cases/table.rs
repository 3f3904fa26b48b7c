//! The table of all cases, as `docs/hostile-cases.md` has it.
//!
//! It is written from the same data that the tests hold the sandbox to, so it can only claim what they have seen.
//! `UPDATE_GOLDEN=1 cargo test -p sandbox --test suite cases::table` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{ELSEWHERE, TOPICS, libraries, resources};
use crate::harness::{INIT_VARIABLE, skip};

const HEAD: &str = "\
# Hostile cases

What a hostile program tries, what stops it, and what comes of it. Each line is run in a real sandbox, as root and again
as an ordinary user, beside a harmless twin that must succeed. `crates/sandbox/tests/suite/cases` holds the lines as data
and writes this file; the acts themselves are in `crates/sandbox/tests/suite/acts`.

| # | the program tries to | barrier | result | acts | harmless twin |
|---|---|---|---|---|---|
";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All lines, in the order of their numbers.
fn render() -> String {
    let mut lines: Vec<(u8, String)> = Vec::new();
    let code = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ");
    for attempt in TOPICS.iter().flat_map(|(_, attempts)| *attempts) {
        let (acts, twin) = (code(attempt.acts), code(&[attempt.twin]));
        let words = attempt.expect.words();
        lines.push((
            attempt.number,
            format!("{} | {} | {words} | {acts} | {twin}", attempt.to, attempt.barrier),
        ));
    }
    for siege in resources::SIEGES {
        let (act, twin) = (code(&[siege.act]), code(&[siege.twin]));
        let words = siege.stop.words();
        let words = siege.needs.map_or(words.clone(), |what| format!("{words}; needs the kernel's {what}"));
        lines.push((siege.number, format!("{} | {} | {words} | {act} | {twin}", siege.to, siege.barrier)));
    }
    for injection in libraries::INJECTIONS {
        let acts = "in `crates/sandbox/tests/suite/cases/libraries.rs` | a registered library";
        lines.push((
            injection.number,
            format!("{} | {} | refused | {acts}", injection.to, libraries::BARRIER),
        ));
    }
    for case in ELSEWHERE {
        let test = format!("`{}` in `{}`", case.test, case.file);
        lines.push((
            case.number,
            format!("{} | {} | {} | {test} | in the same test", case.to, case.barrier, case.result),
        ));
    }
    lines.sort_by_key(|(number, _)| *number);
    let mut text = HEAD.to_owned();
    for (number, line) in lines {
        writeln!(text, "| {number} | {line} |").unwrap();
    }
    text
}

#[test]
fn the_document_says_what_the_tests_hold_to() {
    if std::env::var_os(INIT_VARIABLE).is_some() {
        return skip("the suite was copied away from the documents; it compares them where it was built");
    }
    let path = repository().join("docs/hostile-cases.md");
    let text = render();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == text,
        "docs/hostile-cases.md is stale: UPDATE_GOLDEN=1 cargo test -p sandbox --test suite cases::table"
    );
    for case in ELSEWHERE {
        let file = std::fs::read_to_string(repository().join(case.file)).unwrap();
        assert!(file.contains(&format!("fn {}()", case.test)), "{} is not in {}", case.test, case.file);
    }
}

#[test]
fn every_act_belongs_to_a_case() {
    if std::env::var_os(INIT_VARIABLE).is_some() {
        return skip("the suite was copied away from the acts; it compares them where it was built");
    }
    let attempts = || TOPICS.iter().flat_map(|(_, attempts)| *attempts);
    let mut used: BTreeSet<&str> = attempts().flat_map(|attempt| attempt.acts).copied().collect();
    used.extend(attempts().map(|attempt| attempt.twin));
    used.extend(resources::SIEGES.iter().flat_map(|siege| [siege.act, siege.twin]));
    // Reached by executing them from another act.
    used.extend(["nothing", "has_gained"]);
    let mut written = BTreeSet::new();
    for entry in std::fs::read_dir(repository().join("crates/sandbox/tests/suite/acts")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for (at, kind) in text.match_indices("ACT(") {
            let is_definition = at == 0 || text[..at].ends_with('\n') || text[..at].ends_with("CALL_");
            let name = text[at + kind.len()..].split([',', ')']).next().unwrap();
            if is_definition && !name.contains("NAME") {
                written.insert(name.to_owned());
            }
        }
    }
    let unused: Vec<&String> = written.iter().filter(|name| !used.contains(name.as_str())).collect();
    assert!(unused.is_empty(), "{unused:?}");
    let numbers: BTreeSet<u8> = attempts().map(|attempt| attempt.number).collect();
    assert!(!numbers.is_empty());
}
