//! `cargo xtask paper-map`: docs/paper-map.md tells where each section of the paper lives in the tree. Here is
//! the list of what the paper has; a row is `| § | what it asks for | where it is |`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use crate::tidy::{Finding, missing_paths};
use crate::workspace::Workspace;

const MAP: &str = "docs/paper-map.md";

/// What a row says that can't name a path yet.
const NOT_YET: &str = "not yet";

/// What a row says when its section asks for nothing to be built.
const NOTHING: &str = "nothing to build";

/// The paper's sections in order; the ten steps of §2.1 and what §5 measures have rows of their own.
const SECTIONS: &[&str] = &[
    "1",
    "2",
    "2.1 PNM",
    "2.1 RS",
    "2.1 JM",
    "2.1 EVM",
    "2.1 step 1",
    "2.1 step 2",
    "2.1 step 3",
    "2.1 step 4",
    "2.1 step 5",
    "2.1 step 6",
    "2.1 step 7",
    "2.1 step 8",
    "2.1 step 9",
    "2.1 step 10",
    "3",
    "4",
    "4.1",
    "4.1.1",
    "4.1.2",
    "4.2",
    "4.2.1",
    "4.2.2",
    "4.2.3",
    "4.3",
    "4.3.1",
    "4.3.1.1",
    "4.3.1.2",
    "4.3.2",
    "4.3.3",
    "4.3.3.1",
    "4.3.3.2",
    "4.3.3.3",
    "4.3.3.4",
    "4.3.3.5",
    "4.4",
    "4.4.1",
    "4.4.2",
    "5",
    "5 table 1",
    "5 figure 4",
    "6",
    "7",
];

/// Checks the map.
///
/// # Errors
/// When it can't be read, lacks a section, has one that the paper lacks, or sends its reader nowhere.
pub fn run(workspace: &Workspace) -> Result<()> {
    let text = workspace.text(MAP)?.with_context(|| format!("{MAP} is not text"))?;
    let mut findings = check(&text);
    findings.extend(missing_paths(MAP, &text, |path| workspace.exists(path)));
    findings.iter().for_each(|finding| println!("{finding}"));
    if !findings.is_empty() {
        bail!("{MAP} has {} errors", findings.len());
    }
    let open = rows(&text).iter().filter(|row| row.place.contains(NOT_YET)).count();
    println!("paper-map: {} sections, {} of them not yet or in part", SECTIONS.len(), open);
    Ok(())
}

fn check(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows(text) {
        if !SECTIONS.contains(&row.section) {
            findings.push(Finding::at(MAP, row.line, format!("the paper has no section '{}'", row.section)));
        } else if !seen.insert(row.section) {
            findings.push(Finding::at(MAP, row.line, format!("a second row for section {}", row.section)));
        }
        if !row.place.contains('`') && !row.place.contains(NOT_YET) && !row.place.contains(NOTHING) {
            let text = format!("section {} has neither a path nor '{NOT_YET}' or '{NOTHING}'", row.section);
            findings.push(Finding::at(MAP, row.line, text));
        }
    }
    for section in SECTIONS.iter().filter(|section| !seen.contains(**section)) {
        findings.push(Finding::of(MAP, format!("no row for section {section}")));
    }
    findings
}

#[derive(Debug)]
struct Row<'a> {
    line: usize,
    section: &'a str,
    place: &'a str,
}

/// The rows of all tables, without their heads.
fn rows(text: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // A line `| a | b | c |` splits into five, empty at both ends.
        let [_, section, _, place, _] = cells.as_slice() else { continue };
        if section.starts_with(|first: char| first.is_ascii_digit()) {
            rows.push(Row { line: index + 1, section, place });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map with one good row for each section except those in `without`.
    fn map(without: &[&str]) -> String {
        let kept = SECTIONS.iter().filter(|section| !without.contains(section));
        let rows: String = kept.map(|section| format!("| {section} | it | `crates/model` |\n")).collect();
        format!("| § | asks | where |\n|---|---|---|\n{rows}")
    }

    fn told(text: &str) -> Vec<String> {
        check(text).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_map_of_all_sections_passes() {
        assert_eq!(told(&map(&[])), [""; 0]);
    }

    #[test]
    fn every_way_to_get_it_wrong_is_told() {
        assert_eq!(told(&map(&["4.2.3"])), ["no row for section 4.2.3"]);
        assert_eq!(told(&format!("{}| 4.5 | x | `a` |\n", map(&[]))), ["the paper has no section '4.5'"]);
        assert_eq!(told(&format!("{}| 7 | x | `a` |\n", map(&[]))), ["a second row for section 7"]);
        let vague = format!("{}| 7 | x | soon |\n", map(&["7"]));
        assert_eq!(told(&vague), ["section 7 has neither a path nor 'not yet' or 'nothing to build'"]);
        let planned = format!("{}| 7 | x | not yet: planned |\n", map(&["7"]));
        assert_eq!(told(&planned), [""; 0]);
    }
}
