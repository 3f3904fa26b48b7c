//! How files open and end, and what our Rust never says.

use super::Finding;
use super::source::Source;

/// Endings of the text files whose white space we keep.
const KEPT: &[&str] = &[".rs", ".toml", ".md", ".sh", ".yml", "Makefile", ".ci/run", "LICENSE"];

/// Words that admit unfinished work, written apart so that this file does not say them.
const UNFINISHED: &[&str] = &[concat!("fix", "me"), concat!("for", " now")];

/// Macros that stand for work not done, or for work in progress.
const UNFINISHED_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

/// Findings about the text of any file.
pub fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if KEPT.iter().any(|ending| path.ends_with(ending)) {
        check_white_space(path, text, &mut findings);
    }
    if path.ends_with(".rs") {
        if !text.starts_with("//!") {
            findings.push(Finding::at(path, 1, "the file does not open with //! and what lives in it"));
        }
        for (number, line) in numbered(text) {
            if line.contains('\t') {
                findings.push(Finding::at(path, number, "a tab"));
            }
            let lower = line.to_lowercase();
            for word in UNFINISHED.iter().filter(|word| lower.contains(**word)) {
                findings.push(Finding::at(path, number, format!("'{word}': finish it, or file an issue")));
            }
        }
    }
    findings
}

/// Findings about the tokens of a Rust file.
pub fn check_source(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in UNFINISHED_MACROS {
        for line in source.find(&[name, "!"]) {
            findings.push(Finding::at(path, line, format!("{name}! has no place in a commit")));
        }
    }
    for line in source.find(&["#", "[", "ignore"]) {
        let text = "an ignored test: let it run and print 'skipped: REASON' where it can't";
        findings.push(Finding::at(path, line, text));
    }
    findings
}

fn check_white_space(path: &str, text: &str, findings: &mut Vec<Finding>) {
    for (number, line) in numbered(text) {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::at(path, number, "white space at the end of the line"));
        }
    }
    if !text.ends_with('\n') || text.ends_with("\n\n") {
        findings.push(Finding::of(path, "the file does not end with exactly one newline"));
    }
}

/// Lines from 1, split at `\n` alone: a carriage return is for the rules to see.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split('\n').enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::told;

    #[test]
    fn the_text_of_a_file() {
        fn check(path: &str, text: &str, expect: &[&str]) {
            assert_eq!(told(&check_text(path, text)), expect, "{path}: {text:?}");
        }
        let end = "0 the file does not end with exactly one newline";
        let open = "1 the file does not open with //! and what lives in it";
        check("a.rs", "//! A.\n", &[]);
        check("a.rs", "#![forbid(unsafe_code)]\n", &[open]);
        check("a.rs", "/// A.\n", &[open]);
        check("a.rs", "//! A.", &[end]);
        check("a.rs", "//! A.\n\n", &[end]);
        check("a.rs", "//! A. \n", &["1 white space at the end of the line"]);
        check("a.rs", "//! A.\r\n", &["1 white space at the end of the line"]);
        check("a.rs", "//! A.\n\tx\n", &["2 a tab"]);
        check("Makefile", "a:\n\tb\n", &[]);
        check("docs/a.md", "A.  \n", &["1 white space at the end of the line"]);
        check("tests/golden/a.txt", "a  ", &[]);
    }

    #[test]
    fn unfinished_work_is_found_by_what_it_says() {
        for (index, word) in UNFINISHED.iter().enumerate() {
            let text = format!("//! A.\n// {}\n", word.to_uppercase());
            let told = told(&check_text("a.rs", &text));
            assert_eq!(told, [format!("2 '{}': finish it, or file an issue", UNFINISHED[index])]);
        }
    }

    #[test]
    fn unfinished_work_is_found_by_its_macros() {
        fn check(text: &str, expect: usize) {
            let source = Source::parse(text).expect("the sample is Rust");
            assert_eq!(check_source("a.rs", &source).len(), expect, "{text}");
        }
        check("fn f() { todo!() }", 1);
        check("fn f() { unimplemented!(\"x\") }", 1);
        check("fn f() { std::dbg!(x); }", 1);
        check("#[test]\n#[ignore]\nfn f() {}", 1);
        check("#[test]\n#[ignore = \"slow\"]\nfn f() {}", 1);
        check("// todo!()\nfn todo() { ignore(\"dbg!(x)\") }", 0);
    }
}
