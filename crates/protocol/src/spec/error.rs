//! What is wrong with a spec, where, and what to do about it: the text that a person reads.
//!
//! An error knows the path of keys it is about. Its line and column come from the `Document` that the spec was
//! read from, so a server that has only the keys and a command line that has the file report the same error.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most errors reported at once; whoever mends ten mends the rest in a second round.
pub const MAX_ERRORS: usize = 10;

/// One error in a spec.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub struct SpecError {
    pub message: String,
    /// The keys that lead to what is wrong; empty for the spec as a whole.
    pub key_path: KeyPath,
    /// What to do about it.
    pub help: Option<String>,
    /// Where the keys are in the text, once a `Document` has told.
    pub place: Option<Box<Place>>,
}

/// A place in the text of a spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Characters that are meant, at least 1.
    pub width: usize,
    pub source_line: String,
}

impl SpecError {
    pub(super) fn new(key_path: &KeyPath, message: impl Into<String>) -> Self {
        SpecError { message: message.into(), key_path: key_path.clone(), help: None, place: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds `did you mean '…'?` if one of `known` is close to `unknown`.
    pub(super) fn suggest<'a>(self, unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(unknown, known) {
            Some(name) => self.help(format!("did you mean '{name}'?")),
            None => self,
        }
    }
}

impl fmt::Display for SpecError {
    /// `file:line:column: message`, the source line, a caret and the help; without a place, the keys instead.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => {
                write!(f, "{}:{}:{}: {}", place.file, place.line, place.column, printable(&self.message))?;
                place.write_excerpt(f)?;
            }
            None if self.key_path.is_root() => f.write_str(&printable(&self.message))?,
            None => write!(f, "{}: {}", self.key_path, printable(&self.message))?,
        }
        match &self.help {
            Some(help) => write!(f, "\nhelp: {}", printable(help)),
            None => Ok(()),
        }
    }
}

/// Characters of a source line that are shown, so that a minified JSON file doesn't flood the terminal.
const EXCERPT: usize = 96;

impl Place {
    fn write_excerpt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.column - 1;
        // Far to the right, a third of the excerpt is what goes before.
        let skip = if before + self.width.min(EXCERPT / 2) > EXCERPT { before - EXCERPT / 3 } else { 0 };
        let length = self.source_line.chars().count();
        let cut = |is_cut: bool| if is_cut { "…" } else { "" };
        let shown: String = self.source_line.chars().skip(skip).take(EXCERPT).collect();
        let shown = [cut(skip > 0), &printable(&shown), cut(length > skip + EXCERPT)].concat();
        let indent = " ".repeat(before - skip + cut(skip > 0).chars().count());
        let carets = "^".repeat(self.width.min(EXCERPT.saturating_sub(before - skip)).max(1));
        let (number, margin) = (self.line, " ".repeat(self.line.to_string().len()));
        write!(f, "\n {number} | {}\n {margin} | {indent}{carets}", shown.trim_end())
    }
}

/// The text with each control character as one harmless character: a spec must not steer the reader's terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// All errors of one reading, at least one and at most [`MAX_ERRORS`].
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpecErrors(pub Vec<SpecError>);

impl SpecErrors {
    /// Nothing, or the errors of a reading that goes no further, in the order of the text.
    pub(super) fn none(mut self) -> Result<(), SpecErrors> {
        self.sort();
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|error| error.place.as_ref().map(|place| (place.line, place.column)));
    }

    pub(super) fn push(&mut self, error: SpecError) {
        if !self.is_full() {
            self.0.push(error);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_ERRORS
    }
}

impl From<SpecError> for SpecErrors {
    fn from(error: SpecError) -> Self {
        SpecErrors(vec![error])
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// The keys that lead to a value, printed `aggregate[0].sort[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyPath(pub Vec<Key>);

/// One step of a [`KeyPath`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Key {
    Index(usize),
    Name(String),
}

impl KeyPath {
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(name: &str) -> Self {
        KeyPath::default().key(name)
    }

    pub(super) fn key(&self, name: &str) -> Self {
        self.step(Key::Name(name.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.step(Key::Index(index))
    }

    fn step(&self, key: Key) -> Self {
        let mut keys = self.0.clone();
        keys.push(key);
        KeyPath(keys)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_bare = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        };
        for (position, key) in self.0.iter().enumerate() {
            match key {
                Key::Index(index) => write!(f, "[{index}]")?,
                Key::Name(name) => {
                    f.write_str(if position == 0 { "" } else { "." })?;
                    if is_bare(name) { f.write_str(name)? } else { write!(f, "{name:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// The name most like `unknown`, if it is so like that a slip of the finger explains it.
pub(super) fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (unknown.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .filter(|(distance, name)| *distance <= allowed && *distance < name.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_path_prints_as_it_is_written() {
        let check = |path: KeyPath, expect: &str| assert_eq!(path.to_string(), expect);
        check(KeyPath::default(), "");
        check(KeyPath::of("aggregate").index(0).key("sort").index(1), "aggregate[0].sort[1]");
        check(KeyPath::of("env").key("A.B \""), r#"env."A.B \"""#);
    }

    #[test]
    fn only_a_slip_is_suggested() {
        let check = |unknown, expect| {
            assert_eq!(nearest(unknown, ["command", "env", "inputs", "name"]), expect, "{unknown}");
        };
        check("comand", Some("command"));
        check("input", Some("inputs"));
        check("nmae", Some("name"));
        check("evn", Some("env"));
        check("x", None);
        check("walltime", None);
    }

    #[test]
    fn a_long_line_is_shown_around_the_place_and_controls_are_defused() {
        let place = |column, width, source_line: &str| {
            let place =
                Place { file: "a".into(), line: 12, column, width, source_line: source_line.to_owned() };
            SpecError { place: Some(place.into()), ..SpecError::new(&KeyPath::default(), "m\u{1b}[31m") }
                .to_string()
        };
        assert_eq!(place(3, 1, "a\tb\u{1b}"), "a:12:3: m\u{fffd}[31m\n 12 | a b\u{fffd}\n    |   ^");
        let long = format!("{}here{}", "x".repeat(500), "y".repeat(500));
        let text = place(501, 4, &long);
        assert!(text.contains("xxxhereyyy"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 110), "{text}");
    }
}
