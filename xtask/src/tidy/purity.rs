//! Where effects may not be. The layers decide from what they are told, so that a whole grid can be simulated
//! from a seed: no clock, file, socket, randomness, process, thread or runtime in them.

use super::Finding;
use super::source::{Source, SpelledPath};
use crate::workspace::Crate;

/// A part of the tree and what its production code may not use.
#[derive(Debug)]
struct Part {
    folder: &'static str,
    /// The crate whose manifest is bound too; nothing when the part is less than a crate.
    package: Option<&'static str>,
    forbidden: &'static [Forbidden],
}

#[derive(Debug)]
struct Forbidden {
    path: &'static [&'static str],
    why: &'static str,
}

const fn no(path: &'static [&'static str], why: &'static str) -> Forbidden {
    Forbidden { path, why }
}

const EFFECTS: &[Forbidden] = &[
    no(&["Instant", "now"], "the time comes in as an argument"),
    no(&["SystemTime", "now"], "the time comes in as an argument"),
    no(&["std", "time", "Instant"], "the time comes in as an argument"),
    no(&["std", "time", "SystemTime"], "the time comes in as an argument"),
    no(&["std", "fs"], "files belong to the shell around it"),
    no(&["std", "net"], "sockets belong to the shell around it"),
    no(&["std", "os"], "the system belongs to the shell around it"),
    no(&["std", "env"], "settings come in as arguments"),
    no(&["std", "process"], "processes belong to the shell around it"),
    no(&["std", "thread"], "threads belong to the shell around it"),
    no(&["std", "*"], "name what is used, so that effects show"),
    no(&["RandomState"], "randomness comes in as a seed"),
    no(&["rand"], "randomness comes in as a seed"),
    no(&["fastrand"], "randomness comes in as a seed"),
    no(&["getrandom"], "randomness comes in as a seed"),
    no(&["rustix"], "the system belongs to the shell around it"),
    no(&["libc"], "the system belongs to the shell around it"),
    no(&["tokio"], "runtimes belong to the shell around it"),
];

/// `wrap` and the sandbox touch files and processes for a living, but never wait for two things at once.
const RUNTIME: &[Forbidden] = &[no(&["tokio"], "this crate is synchronous")];

const PARTS: &[Part] = &[
    Part { folder: "crates/model/src/", package: Some("model"), forbidden: EFFECTS },
    Part { folder: "crates/job-manager/src/", package: Some("job-manager"), forbidden: EFFECTS },
    Part {
        folder: "crates/resource-scheduler/src/",
        package: Some("resource-scheduler"),
        forbidden: EFFECTS,
    },
    Part { folder: "crates/node-manager/src/", package: Some("node-manager"), forbidden: EFFECTS },
    Part { folder: "crates/desktop-controller/src/policy/", package: None, forbidden: EFFECTS },
    Part { folder: "crates/desktop-controller/src/policy.rs", package: None, forbidden: EFFECTS },
    Part { folder: "crates/wrap/src/", package: Some("wrap"), forbidden: RUNTIME },
    Part { folder: "crates/sandbox/src/", package: Some("sandbox"), forbidden: RUNTIME },
];

/// Findings about effects in the production code of a file.
pub fn check_source(path: &str, source: &Source) -> Vec<Finding> {
    let parts = PARTS.iter().filter(|part| path.starts_with(part.folder));
    parts.flat_map(|part| check_part(path, source, part)).collect()
}

/// Findings about crates of effects in the manifest of a pure crate. Tests may use what they like: a golden
/// file has to be read somehow.
pub fn check_manifests(crates: &[Crate]) -> Vec<Finding> {
    crates.iter().flat_map(check_manifest).collect()
}

fn check_part(path: &str, source: &Source, part: &Part) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for spelled in source.paths() {
        let broken = part.forbidden.iter().find(|forbidden| contains(&spelled, forbidden.path));
        if let Some(forbidden) = broken
            && !source.is_test(spelled.line)
        {
            let text = format!("{} has no place here: {}", spelled.segments.join("::"), forbidden.why);
            findings.push(Finding::at(path, spelled.line, text));
        }
    }
    findings
}

fn check_manifest(package: &Crate) -> Vec<Finding> {
    let Some(part) = PARTS.iter().find(|part| part.package == Some(package.name.as_str())) else {
        return Vec::new();
    };
    let of_production = package.dependencies.iter().filter(|dependency| !dependency.dev);
    of_production
        .filter_map(|dependency| {
            let forbidden =
                part.forbidden.iter().find(|forbidden| *forbidden.path == [dependency.name.as_str()])?;
            let text = format!("the crate '{}' has no place here: {}", dependency.name, forbidden.why);
            Some(Finding::of(&package.manifest, text))
        })
        .collect()
}

fn contains(spelled: &SpelledPath, pattern: &[&str]) -> bool {
    spelled.segments.windows(pattern.len()).any(|window| window.iter().eq(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::told;
    use crate::workspace::Dependency;

    fn check(path: &str, text: &str, expect: &[&str]) {
        let source = Source::parse(text).expect("the sample is Rust");
        assert_eq!(told(&check_source(path, &source)), expect, "{path}: {text}");
    }

    #[test]
    fn the_pure_parts_have_no_effects_however_they_are_spelled() {
        let pure = "crates/resource-scheduler/src/match.rs";
        for text in [
            "use std::fs;",
            "use std::{collections::BTreeMap, fs::File};",
            "use std::time::{Duration, Instant};",
            "fn f() { let t = std::time::SystemTime::now(); }",
            "fn f(i: T) { i.since(Instant::now()) }",
            "fn f() { std::thread::sleep(d) }",
            "use std::process::Command;",
            "use std::net::TcpStream;",
            "use std::hash::RandomState;",
            "use tokio::sync::mpsc;",
            "fn f() -> u64 { rand::random() }",
            "use std::*;",
        ] {
            let source = Source::parse(text).expect("the sample is Rust");
            assert_eq!(check_source(pure, &source).len(), 1, "{text}");
        }
        check(
            pure,
            "use std::time::Duration;\nuse std::collections::BTreeMap;\nfn f(now: Timestamp) {}\n",
            &[],
        );
    }

    #[test]
    fn only_the_pure_parts_are_bound_and_only_their_production_code() {
        let text = "//! A.\nuse std::fs;\n";
        let told = ["2 std::fs has no place here: files belong to the shell around it"];
        check("crates/desktop-controller/src/policy/pause.rs", text, &told);
        check("crates/desktop-controller/src/policy.rs", text, &told);
        check("crates/desktop-controller/src/runner.rs", text, &[]);
        check("crates/server/src/store.rs", text, &[]);
        let tests = Source::parse(text).expect("the sample is Rust").into_test();
        assert_eq!(check_source("crates/model/src/plan/tests.rs", &tests), []);
        check("crates/model/src/plan.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n", &[]);
    }

    #[test]
    fn wrap_and_sandbox_are_synchronous() {
        let told = ["1 tokio::fs::read has no place here: this crate is synchronous"];
        check("crates/sandbox/src/portal.rs", "fn f() { tokio::fs::read(p) }\n", &told);
        check("crates/wrap/src/elf.rs", "use std::fs;\n", &[]);
    }

    #[test]
    fn a_pure_crate_depends_on_no_crate_of_effects_except_in_tests() {
        let of = |name: &str, on: &str, dev| {
            let dependencies = vec![Dependency { name: on.into(), ours: false, dev }];
            told(&check_manifest(&Crate { name: name.into(), dependencies, ..Crate::default() }))
        };
        assert_eq!(
            of("model", "tokio", false),
            ["0 the crate 'tokio' has no place here: runtimes belong to the shell around it"]
        );
        assert_eq!(of("wrap", "tokio", false).len(), 1);
        assert_eq!(of("model", "rand", true).len(), 0);
        assert_eq!(of("server", "tokio", false).len(), 0);
    }
}
