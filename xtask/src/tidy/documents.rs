//! The documents: ARCHITECTURE.md stays short, decisions are numbered without gaps, and every path that a
//! document sends its reader to exists.

use super::Finding;

/// Most lines that ARCHITECTURE.md may have: it is the bird's eye view.
const ARCHITECTURE_LINES: usize = 200;

/// The documents whose paths are checked.
const GUIDES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs/paper-map.md",
    "docs/threat-model.md",
    "docs/vocabulary.md",
];

/// A word in backticks with a slash is one of our paths when it begins with one of these folders.
const FOLDERS: &[&str] =
    &["crates", "docs", "tests", "xtask", "examples", "scripts", ".ci", ".cargo", ".config"];

/// A word in backticks without a slash is one of our files when it ends like this.
const FILE_ENDINGS: &[&str] = &[".md"];

const DECISIONS: &str = "docs/decisions/";

/// Findings about one document.
pub fn check(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if path == "ARCHITECTURE.md" && lines > ARCHITECTURE_LINES {
        findings.push(Finding::of(path, format!("{lines} lines, at most {ARCHITECTURE_LINES}")));
    }
    if GUIDES.contains(&path) {
        findings.extend(missing_paths(path, text, exists));
    }
    findings
}

/// Findings about the numbers and names of the decision records among `files`.
pub fn check_decisions(files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected = 1;
    let mut records: Vec<&str> = files.iter().filter_map(|file| file.strip_prefix(DECISIONS)).collect();
    records.sort_unstable();
    for record in records {
        let path = format!("{DECISIONS}{record}");
        let Some(number) = decision_number(record) else {
            findings
                .push(Finding::of(&path, "a decision record is called NNNN-title.md, in a-z, 0-9 and '-'"));
            continue;
        };
        if number != expected {
            findings.push(Finding::of(&path, format!("the next decision's number is {expected:04}")));
        }
        expected = number + 1;
    }
    findings
}

/// Findings about paths in backticks and links that lead nowhere. Fenced code is not read: it shows sessions.
pub fn missing_paths(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    let mut is_fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        }
        if is_fenced {
            continue;
        }
        let quoted = quoted_paths(line).map(str::to_owned);
        let linked = linked_paths(line).map(|link| resolve(folder, link));
        for mentioned in quoted.chain(linked).filter(|mentioned| !exists(mentioned)) {
            findings.push(Finding::at(path, index + 1, format!("'{mentioned}' does not exist")));
        }
    }
    findings
}

/// The words in backticks that are paths of ours.
pub fn quoted_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| is_path(word))
}

fn is_path(word: &str) -> bool {
    if word.contains([' ', '<', '*', '$', '{', '…']) {
        return false;
    }
    match word.split_once('/') {
        Some((first, _)) => FOLDERS.contains(&first),
        None => FILE_ENDINGS.iter().any(|ending| word.ends_with(ending)),
    }
}

/// The targets of the links of a line that lead to files, without their anchors.
fn linked_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

/// A link as a path from the root; it is written from the folder of its document.
fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

fn decision_number(record: &str) -> Option<u32> {
    let (number, title) = record.strip_suffix(".md")?.split_once('-')?;
    let is_title = !title.is_empty()
        && title.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (number.len() == 4 && is_title).then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::told;

    #[test]
    fn the_birds_eye_view_stays_short() {
        let of = |path, lines| check(path, &"x\n".repeat(lines), |_| true).len();
        assert_eq!(of("ARCHITECTURE.md", 200), 0);
        assert_eq!(of("ARCHITECTURE.md", 201), 1);
        assert_eq!(of("README.md", 201), 0);
    }

    #[test]
    fn decisions_are_numbered_from_one_without_gaps() {
        fn check_names(names: &[&str], expect: &[&str]) {
            let files: Vec<String> = names.iter().map(|name| format!("docs/decisions/{name}")).collect();
            assert_eq!(told(&check_decisions(&files)), expect, "{names:?}");
        }
        let name = "0 a decision record is called NNNN-title.md, in a-z, 0-9 and '-'";
        check_names(&["0001-one-loop.md", "0002-leases.md"], &[]);
        check_names(&["0002-leases.md", "0001-one-loop.md"], &[]);
        check_names(&["0001-one-loop.md", "0003-leases.md"], &["0 the next decision's number is 0002"]);
        check_names(&["0001-a.md", "0001-b.md"], &["0 the next decision's number is 0002"]);
        check_names(&["0000-a.md"], &["0 the next decision's number is 0001"]);
        check_names(&["1-a.md"], &[name]);
        check_names(&["0001-One_Loop.md"], &[name]);
        check_names(&["notes.txt"], &[name]);
    }

    #[test]
    fn paths_that_a_guide_names_exist() {
        fn check_line(line: &str, expect: &[&str]) {
            let exists = |path: &str| ["crates/model", "docs/vocabulary.md", "README.md"].contains(&path);
            assert_eq!(told(&missing_paths("docs/paper-map.md", line, exists)), expect, "{line}");
        }
        check_line(
            "`crates/model` and `README.md` and [words](vocabulary.md#lease) and [up](../README.md)",
            &[],
        );
        check_line("`crates/modle`", &["1 'crates/modle' does not exist"]);
        check_line("`ARCHITECTURE.md`", &["1 'ARCHITECTURE.md' does not exist"]);
        check_line("[a](words.md)", &["1 'docs/words.md' does not exist"]);
        check_line(
            "`application/json`, `dcgrid up`, `a/b`, `docs/<name>`, [web](https://example.org/x)",
            &[],
        );
        check_line("```\n`crates/modle`\n```\n`crates/modle`", &["4 'crates/modle' does not exist"]);
    }
}
