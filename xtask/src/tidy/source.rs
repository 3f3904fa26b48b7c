//! A Rust file as the rules see it: tokens with their lines, which of them are tests, and the paths they spell.
//!
//! Comments, texts and documentation are out of sight here, so that a rule about `unsafe` is not tripped by
//! someone who writes about it. Rules about the text itself read the text.

use std::ops::RangeInclusive;
use std::str::FromStr;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

/// One token: a name, a punctuation mark, a bracket, or `"` for any literal. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path as written, with the braces of `use` opened: `std::{fs, io::Write}` is two paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpelledPath {
    pub segments: Vec<String>,
    pub line: usize,
}

#[derive(Debug)]
pub struct Source {
    pub tokens: Vec<Token>,
    tests: Vec<RangeInclusive<usize>>,
    /// Whether the file as a whole is part of tests only.
    is_test: bool,
}

impl Source {
    /// Reads the text of a file; `Err` carries the line at which it stops being Rust.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let stream = TokenStream::from_str(text).map_err(|error| error.span().start().line)?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let tests = test_items(&tokens);
        Ok(Source { tokens, tests, is_test: false })
    }

    /// The same file when all of it is tests.
    pub fn into_test(self) -> Self {
        Source { is_test: true, ..self }
    }

    /// Whether a line belongs to an item under `#[cfg(test)]`.
    pub fn is_test(&self, line: usize) -> bool {
        self.is_test || self.tests.iter().any(|range| range.contains(&line))
    }

    /// How many of `lines` lines do not belong to tests.
    pub fn production_lines(&self, lines: usize) -> usize {
        let tests: usize = self.tests.iter().map(|range| range.end() - range.start() + 1).sum();
        if self.is_test { 0 } else { lines - tests }
    }

    /// The files that `path` makes part of tests by `#[cfg(test)] mod NAME;`, in both places where they may be.
    pub fn test_modules(&self, path: &str) -> Vec<String> {
        let folder = match path.rsplit_once('/') {
            Some((folder, "lib.rs" | "main.rs" | "mod.rs")) => folder,
            _ => path.trim_end_matches(".rs"),
        };
        let is_module = |window: &&[Token]| {
            window[0].text == "mod" && window[2].text == ";" && self.is_test(window[0].line)
        };
        let modules = self.tokens.windows(3).filter(is_module).map(|window| &window[1].text);
        modules.flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]).collect()
    }

    /// Every path of two or more segments, and every single name that a `use` brings in.
    pub fn paths(&self) -> Vec<SpelledPath> {
        let mut paths = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            at = read_path(&self.tokens, at, &[], &mut paths).max(at + 1);
        }
        paths.retain(|path: &SpelledPath| path.segments.len() > 1);
        paths
    }

    /// Lines at which the tokens spell `pattern`, one word or mark per element.
    pub fn find<'a>(&'a self, pattern: &'a [&'a str]) -> impl Iterator<Item = usize> + 'a {
        let spells = move |window: &&[Token]| window.iter().map(|token| &token.text).eq(pattern);
        self.tokens.windows(pattern.len()).filter(spells).map(|window| window[0].line)
    }

    /// Index of the bracket that closes the one at `open`; the tokenizer has made sure that there is one.
    pub fn closing(tokens: &[Token], open: usize) -> usize {
        let mut depth = 0usize;
        for (index, token) in tokens.iter().enumerate().skip(open) {
            match token.text.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" if depth == 1 => return index,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
        }
        tokens.len().saturating_sub(1)
    }
}

/// Whether a file lies in a folder that holds nothing but tests.
pub fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "benches")
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let mut push = |text: String, span: Span| tokens.push(Token { text, line: span.start().line });
        match tree {
            TokenTree::Ident(ident) => push(ident.to_string(), ident.span()),
            TokenTree::Punct(punct) => push(punct.to_string(), punct.span()),
            TokenTree::Literal(literal) => push("\"".to_owned(), literal.span()),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned(), group.span_open());
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
        }
    }
}

/// Line ranges of the items that only exist in tests, outermost only.
fn test_items(tokens: &[Token]) -> Vec<RangeInclusive<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let word = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text.as_str());
        let is_cfg = (word(0), word(1), word(2), word(3)) == ("#", "[", "cfg", "(");
        let for_tests = word(4) == "test" || (word(4), word(6)) == ("all", "test");
        if is_cfg && for_tests {
            let end = item_end(tokens, Source::closing(tokens, at + 1) + 1);
            ranges.push(tokens[at].line..=tokens[end].line);
            at = end;
        }
        at += 1;
    }
    ranges
}

/// Index of the last token of the item that starts at `start`, attributes included.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at,
            "{" => {
                let close = Source::closing(tokens, at);
                // `use a::{b, c};` goes on after its braces.
                let goes_on = tokens.get(close + 1).is_some_and(|next| next.text == ";");
                return if goes_on { close + 1 } else { close };
            }
            "(" | "[" => at = Source::closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
    tokens.len().saturating_sub(1)
}

/// Reads the path that starts at `at` with `prefix` before it; gives the index of the token after it.
fn read_path(tokens: &[Token], mut at: usize, prefix: &[String], paths: &mut Vec<SpelledPath>) -> usize {
    let Some(first) = tokens.get(at) else { return at };
    let line = first.line;
    let mut segments = prefix.to_vec();
    let separated = |at: usize| {
        let mark = |index: usize| tokens.get(index).is_some_and(|token| token.text == ":");
        mark(at) && mark(at + 1)
    };
    loop {
        match tokens.get(at).map(|token| token.text.as_str()) {
            Some("{") if !segments.is_empty() => {
                let close = Source::closing(tokens, at);
                let mut inner = at + 1;
                while inner < close {
                    inner = read_path(tokens, inner, &segments, paths).max(inner + 1);
                }
                return close + 1;
            }
            Some(word) if word == "*" && !segments.is_empty() || is_name(word) => {
                segments.push(word.to_owned());
                at += 1;
            }
            _ => break,
        }
        if !separated(at) {
            break;
        }
        at += 2;
    }
    if segments.len() > prefix.len() {
        paths.push(SpelledPath { segments, line });
    }
    at
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse(text).expect("the sample is Rust")
    }

    #[test]
    fn comments_texts_and_documentation_hide_what_they_say() {
        let hidden = "//! unsafe\n/// unsafe\n/* unsafe */ const A: &str = \"unsafe\"; // unsafe\n";
        assert_eq!(source(hidden).find(&["unsafe"]).count(), 0);
        assert_eq!(source("fn f() {\n    unsafe { g() }\n}\n").find(&["unsafe"]).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn paths_are_found_in_use_trees_and_in_expressions() {
        fn check(text: &str, expect: &[&str]) {
            let found: Vec<String> =
                source(text).paths().iter().map(|path| path.segments.join("::")).collect();
            assert_eq!(found, expect, "{text}");
        }
        check("use std::fs;", &["std::fs"]);
        check(
            "use std::{fs::File, io::{self, Write}};",
            &["std::fs::File", "std::io::self", "std::io::Write"],
        );
        check("use std::time::*;", &["std::time::*"]);
        check("fn f() { ::std::thread::sleep(d); }", &["std::thread::sleep"]);
        check("fn f() { Vec::<u8>::new(); x.fs(); let fs = 1; }", &[]);
        check("fn f() -> T { if a == B::C { d } else { e } }", &["B::C"]);
    }

    #[test]
    fn items_under_cfg_test_are_tests_to_their_last_line() {
        let text = "fn a() {}\n#[cfg(test)]\nuse x::{y, z};\nfn b() {}\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n";
        let source = source(text);
        let tests: Vec<usize> = (1..=8).filter(|line| source.is_test(*line)).collect();
        assert_eq!((tests, source.production_lines(8)), (vec![2, 3, 5, 6, 7, 8], 2));
        assert_eq!(source.into_test().production_lines(8), 0);
    }

    #[test]
    fn files_under_cfg_test_are_known_from_the_file_that_names_them() {
        let source = source("mod a;\n#[cfg(test)]\npub mod b;\n#[cfg(test)]\nmod c {\n    mod d;\n}\n");
        assert_eq!(source.test_modules("src/lib.rs")[..2], ["src/b.rs", "src/b/mod.rs"]);
        assert_eq!(source.test_modules("src/plan.rs")[0], "src/plan/b.rs");
        assert!(!source.test_modules("src/lib.rs").contains(&"src/a.rs".to_owned()));
    }

    #[test]
    fn a_file_that_is_no_rust_says_where_it_breaks() {
        assert_eq!(Source::parse("fn a() {}\nfn b( {\n").map(|_| ()), Err(2));
    }

    #[test]
    fn folders_of_tests_are_known_by_their_name() {
        for (path, expect) in [
            ("crates/link/tests/replay.rs", true),
            ("tests/end_to_end/demo.rs", true),
            ("crates/link/src/lib.rs", false),
            ("crates/link/src/contests.rs", false),
        ] {
            assert_eq!(is_test_file(path), expect, "{path}");
        }
    }
}
