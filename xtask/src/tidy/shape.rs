//! How long files and functions may be before they hide what they do. Tests don't count.

use super::Finding;
use super::source::Source;

/// Lines of a file outside its tests: the most there may be, and where to look again.
const FILE_LINES: usize = 600;
const FILE_LINES_HINT: usize = 400;

/// Lines of a function, from `fn` to its last brace: the most there may be, and where to look again.
const FUNCTION_LINES: usize = 100;
const FUNCTION_LINES_HINT: usize = 70;

/// Findings about the length of a file and of each of its functions.
pub fn check(path: &str, text: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.production_lines(text.lines().count());
    if lines > FILE_LINES_HINT {
        let text =
            format!("{lines} lines outside tests: split above {FILE_LINES_HINT}, at most {FILE_LINES}");
        findings.push(weighed(Finding::of(path, text), lines > FILE_LINES));
    }
    for function in functions(source).iter().filter(|function| !source.is_test(function.line)) {
        if function.lines > FUNCTION_LINES_HINT {
            let text = format!(
                "{} has {} lines: aim at {FUNCTION_LINES_HINT}, at most {FUNCTION_LINES}",
                function.name, function.lines
            );
            findings.push(weighed(Finding::at(path, function.line, text), function.lines > FUNCTION_LINES));
        }
    }
    findings
}

fn weighed(finding: Finding, is_error: bool) -> Finding {
    if is_error { finding } else { finding.hint() }
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// The functions that have a body, those inside others as well.
fn functions(source: &Source) -> Vec<Function> {
    let tokens = &source.tokens;
    let mut functions = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(name) = tokens.get(at + 1).filter(|_| token.text == "fn") else { continue };
        // `fn(u8)` is a type, and `fn $name` a pattern.
        if !name.text.starts_with(|first: char| first.is_alphabetic() || first == '_') {
            continue;
        }
        if let Some(close) = body_end(source, at + 2) {
            let lines = tokens[close].line - token.line + 1;
            functions.push(Function { name: name.text.clone(), line: token.line, lines });
        }
    }
    functions
}

/// Index of the brace that closes the body of the function whose parameters start at `at`, if it has one.
fn body_end(source: &Source, mut at: usize) -> Option<usize> {
    let tokens = &source.tokens;
    loop {
        match tokens.get(at)?.text.as_str() {
            ";" => return None,
            "{" => return Some(Source::closing(tokens, at)),
            "(" | "[" => at = Source::closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::told;

    /// A function of that many lines.
    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    f();\n".repeat(lines - 2))
    }

    fn check_text(path: &str, text: &str) -> Vec<Finding> {
        check(path, text, &Source::parse(text).expect("the sample is Rust"))
    }

    #[test]
    fn a_function_grows_from_fine_over_a_hint_to_an_error() {
        let weights =
            |lines| check_text("a.rs", &function(lines)).iter().map(|f| f.weight).collect::<Vec<_>>();
        assert_eq!(weights(70), []);
        assert_eq!(weights(71), [crate::tidy::Weight::Hint]);
        assert_eq!(weights(100), [crate::tidy::Weight::Hint]);
        assert_eq!(weights(101), [crate::tidy::Weight::Error]);
        assert_eq!(
            told(&check_text("a.rs", &function(101))),
            ["1 long has 101 lines: aim at 70, at most 100"]
        );
    }

    #[test]
    fn a_file_grows_from_fine_over_a_hint_to_an_error() {
        let weights = |lines| {
            check_text("a.rs", &"const A: u8 = 1;\n".repeat(lines))
                .iter()
                .map(|f| f.weight)
                .collect::<Vec<_>>()
        };
        assert_eq!(weights(400), []);
        assert_eq!(weights(401), [crate::tidy::Weight::Hint]);
        assert_eq!(weights(601), [crate::tidy::Weight::Error]);
    }

    #[test]
    fn tests_may_be_long() {
        let module = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(700));
        assert_eq!(check_text("a.rs", &module), []);
        let text = function(700);
        let tests = Source::parse(&text).expect("the sample is Rust").into_test();
        assert_eq!(check("tests/end_to_end/a.rs", &text, &tests), []);
    }

    #[test]
    fn functions_are_told_from_what_looks_like_one() {
        let text = "type F = fn(u8) -> u8;\ntrait T {\n    fn a(&self);\n    fn b(x: [u8; 3])\n    where\n        Self: Sized,\n    {\n    }\n}\n";
        let source = Source::parse(text).expect("the sample is Rust");
        assert_eq!(functions(&source), [Function { name: "b".into(), line: 4, lines: 5 }]);
    }
}
