//! `cargo xtask tidy`: the rules of the house that no compiler checks, a module per rule.
//!
//! | module | rule |
//! |---|---|
//! | `edges` | which of our crates may depend on which |
//! | `safety` | where `unsafe` may stand |
//! | `purity` | where no clock, file, socket, randomness, process, thread or runtime may be |
//! | `wording` | how files open and end, and what they never say |
//! | `shape` | how long files and functions may be |
//! | `documents` | the documents: length, numbering, paths that exist |
//! | `manifests` | every crate obeys the workspace's lints |
//! | `places` | no path of a developer's machine |
//!
//! Every rule is a function from text or plain data to findings, so each can be tested by breaking it.

mod documents;
mod edges;
mod manifests;
mod places;
mod purity;
mod safety;
mod shape;
mod source;
mod wording;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, bail};

pub use documents::missing_paths;
use source::{Source, is_test_file};

use crate::workspace::Workspace;

/// What a rule has to say about a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub path: String,
    /// From 1; nothing when it is about the file as a whole.
    pub line: Option<usize>,
    pub weight: Weight,
    pub text: String,
}

/// Whether a finding fails the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Error,
    /// Worth a second look, and allowed.
    Hint,
}

impl Finding {
    pub fn at(path: &str, line: usize, text: impl Into<String>) -> Self {
        Finding { path: path.to_owned(), line: Some(line), weight: Weight::Error, text: text.into() }
    }

    pub fn of(path: &str, text: impl Into<String>) -> Self {
        Finding { path: path.to_owned(), line: None, weight: Weight::Error, text: text.into() }
    }

    pub fn hint(self) -> Self {
        Finding { weight: Weight::Hint, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Error => "error",
            Weight::Hint => "hint",
        };
        match self.line {
            Some(line) => write!(f, "{weight}: {}:{line}: {}", self.path, self.text),
            None => write!(f, "{weight}: {}: {}", self.path, self.text),
        }
    }
}

/// Checks the whole workspace.
///
/// # Errors
/// When a file can't be read, or a rule is broken; what and where has been printed by then.
pub fn run(workspace: &Workspace) -> Result<()> {
    let findings = findings(workspace)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    let errors = findings.iter().filter(|finding| finding.weight == Weight::Error).count();
    if errors > 0 {
        bail!("{errors} rules of the house are broken");
    }
    println!(
        "tidy: {} files, {} crates, {} hints",
        workspace.files.len(),
        workspace.crates.len(),
        findings.len()
    );
    Ok(())
}

fn findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = edges::check(&workspace.crates);
    findings.extend(purity::check_manifests(&workspace.crates));
    for package in &workspace.crates {
        if let Some(manifest) = workspace.text(&package.manifest)? {
            findings.extend(manifests::check(&package.manifest, &manifest));
        }
        for root in &package.roots {
            if let Some(text) = workspace.text(root)? {
                findings.extend(safety::check_root(&package.name, root, &text));
            }
        }
    }
    let sources = sources(workspace, &mut findings)?;
    for file in &workspace.files {
        let Some(text) = workspace.text(file)? else { continue };
        findings.extend(wording::check_text(file, &text));
        findings.extend(documents::check(file, &text, |path| workspace.exists(path)));
        match sources.get(file) {
            Some(source) => {
                findings.extend(check_source(file, &text, source));
                findings.extend(places::check(file, &text, |line| source.is_test(line)));
            }
            None => findings.extend(places::check(file, &text, |_| is_test_file(file))),
        }
    }
    findings.extend(documents::check_decisions(&workspace.files));
    Ok(findings)
}

/// The Rust files, each told whether all of it is tests; those that can't be read are findings.
fn sources(workspace: &Workspace, findings: &mut Vec<Finding>) -> Result<BTreeMap<String, Source>> {
    let mut sources = BTreeMap::new();
    let mut tests: BTreeSet<String> =
        workspace.files.iter().filter(|file| is_test_file(file)).cloned().collect();
    for file in workspace.files.iter().filter(|file| file.ends_with(".rs")) {
        match workspace.text(file)?.as_deref().map_or(Err(1), Source::parse) {
            Ok(source) => {
                tests.extend(source.test_modules(file));
                sources.insert(file.clone(), source);
            }
            Err(line) => findings.push(Finding::at(file, line, "this is not Rust from here on")),
        }
    }
    let told = |(file, source): (String, Source)| {
        let source = if tests.contains(&file) { source.into_test() } else { source };
        (file, source)
    };
    Ok(sources.into_iter().map(told).collect())
}

fn check_source(file: &str, text: &str, source: &Source) -> Vec<Finding> {
    let mut findings = wording::check_source(file, source);
    findings.extend(safety::check_source(file, source));
    findings.extend(purity::check_source(file, source));
    findings.extend(shape::check(file, text, source));
    findings
}

/// For the tests of the rules: `LINE text` of each finding, line 0 for those about the whole.
#[cfg(test)]
fn told(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{} {}", finding.line.unwrap_or(0), finding.text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_prints_as_a_place_that_an_editor_can_jump_to() {
        assert_eq!(Finding::at("a.rs", 3, "bad").to_string(), "error: a.rs:3: bad");
        assert_eq!(Finding::of("a.rs", "long").hint().to_string(), "hint: a.rs: long");
    }

    #[test]
    fn one_broken_file_is_found_by_every_rule_that_reads_sources() {
        let text = "//! Sample.\nuse std::fs;\nfn f() {\n    unsafe { todo!() }\n}\n";
        let source = Source::parse(text).expect("the sample is Rust");
        let told = told(&check_source("crates/model/src/x.rs", text, &source));
        assert_eq!(told.len(), 3, "{told:?}");
    }
}
