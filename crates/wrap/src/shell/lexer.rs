//! Splits a shell script into words and follows what kind of word can come next: quotes, substitutions, redirections,
//! `case`, functions, comments and heredocs. Forgiving: any text ends, and none is an error.

use std::collections::BTreeSet;

use super::{Words, is_command_name, is_variable};

/// Commands whose first argument that is no option is a command again.
const WRAPPERS: [&str; 16] = [
    "builtin", "command", "doas", "env", "eval", "exec", "ionice", "nice", "nohup", "setsid", "stdbuf",
    "sudo", "time", "timeout", "trap", "xargs",
];

/// After these, a command may stand.
const BEFORE_COMMAND: [&str; 14] =
    ["!", "coproc", "do", "done", "elif", "else", "esac", "fi", "if", "then", "until", "while", "{", "}"];

/// The state of reading one script.
#[derive(Default)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    words: Words,
    functions: BTreeSet<String>,
    place: Place,
    /// What is expected again after the word of a redirection.
    after_redirection: Place,
    /// The word being read, without its quotes.
    word: String,
    in_word: bool,
    /// Something in the word is known only when the script runs.
    dynamic: bool,
    /// The quotes and substitutions that are open, innermost last.
    open: Vec<Open>,
    /// `case` words that are not closed by their `esac`.
    cases: usize,
    heredocs: Vec<String>,
}

/// What kind of word is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Command,
    /// The command behind a wrapper; options and settings may come before it.
    Wrapped,
    Argument,
    /// The file after `<` or `>`.
    Redirection,
    /// The word that will end a heredoc.
    Delimiter,
    FunctionName,
    /// Between `case` and `in`.
    CaseWord,
    /// Before the `)` of a branch of `case`.
    Pattern,
}

/// An open quote or substitution. A substitution keeps what was expected before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Parenthesis(Place),
    Backquote(Place),
    Quote,
}

/// Stands in a word for what is known only when the script runs.
const UNKNOWN: char = '\u{fffd}';

impl Lexer<'_> {
    /// The words of a script and the functions that it defines.
    pub fn read(script: &str) -> (Words, BTreeSet<String>) {
        let mut lexer = Lexer { text: script.as_bytes(), ..Lexer::default() };
        while let Some(byte) = lexer.next() {
            match lexer.open.last() {
                Some(Open::Quote) => lexer.quoted(byte),
                _ => lexer.plain(byte),
            }
        }
        lexer.end_word();
        (lexer.words, lexer.functions)
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn plain(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                self.separate();
                self.skip_heredocs();
            }
            b' ' | b'\t' | b'\r' => self.end_word(),
            b';' | b'&' | b'|' => {
                let branch_ends = byte == b';' && self.peek() == Some(b';');
                self.separate();
                if branch_ends && self.cases > 0 {
                    self.place = Place::Pattern;
                    self.at += 1;
                }
            }
            b'#' if !self.in_word => self.skip_line(),
            b'\'' => self.single_quoted(),
            b'"' => {
                self.in_word = true;
                self.open.push(Open::Quote);
            }
            b'\\' => {
                if let Some(next) = self.next().filter(|next| *next != b'\n') {
                    self.push(next);
                }
            }
            b'$' => self.dollar(),
            b'`' => self.backquote(),
            b'(' => self.parenthesis(),
            b')' => self.close_parenthesis(),
            b'<' | b'>' => self.redirection(byte),
            _ => self.push(byte),
        }
    }

    fn quoted(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.open.pop();
            }
            b'\\' => {
                if let Some(next) = self.next() {
                    self.push(next);
                }
            }
            b'$' => self.dollar(),
            b'`' => self.backquote(),
            _ => self.push(byte),
        }
    }

    fn push(&mut self, byte: u8) {
        self.in_word = true;
        // Names of commands are ASCII; anything else only has to keep the word from looking like one.
        self.word.push(if byte.is_ascii() { char::from(byte) } else { UNKNOWN });
    }

    fn single_quoted(&mut self) {
        self.in_word = true;
        while let Some(byte) = self.next().filter(|byte| *byte != b'\'') {
            self.push(byte);
        }
    }

    fn dollar(&mut self) {
        self.push_unknown();
        match self.peek() {
            Some(b'(') if self.text.get(self.at + 1) == Some(&b'(') => self.skip_balanced(b'(', b')'),
            Some(b'(') => {
                self.at += 1;
                self.substitute(Open::Parenthesis);
            }
            Some(b'{') => self.skip_balanced(b'{', b'}'),
            _ => {
                while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    self.at += 1;
                }
            }
        }
    }

    fn backquote(&mut self) {
        match self.open.last().copied() {
            Some(Open::Backquote(before)) => self.close(before),
            _ => self.substitute(Open::Backquote),
        }
    }

    /// A substitution or subshell begins: its first word is a command.
    fn substitute(&mut self, open: fn(Place) -> Open) {
        self.end_word();
        self.open.push(open(self.place));
        self.place = Place::Command;
    }

    fn close(&mut self, before: Place) {
        self.end_word();
        self.open.pop();
        self.place = before;
        self.push_unknown();
    }

    fn push_unknown(&mut self) {
        self.in_word = true;
        self.dynamic = true;
        self.word.push(UNKNOWN);
    }

    fn parenthesis(&mut self) {
        if self.in_word && self.peek() == Some(b')') {
            // `name()`: a function.
            self.at += 1;
            self.functions.insert(std::mem::take(&mut self.word));
            self.drop_word();
            self.place = Place::Command;
        } else if !self.in_word && self.peek() == Some(b'(') {
            self.at -= 1;
            self.skip_balanced(b'(', b')');
        } else if self.place != Place::Pattern {
            self.substitute(Open::Parenthesis);
        }
    }

    fn close_parenthesis(&mut self) {
        if self.place == Place::Pattern {
            self.drop_word();
            self.place = Place::Command;
        } else if let Some(Open::Parenthesis(before)) = self.open.last().copied() {
            self.close(before);
        } else {
            self.end_word();
            self.place = Place::Command;
        }
    }

    fn redirection(&mut self, byte: u8) {
        if self.word.bytes().all(|byte| byte.is_ascii_digit()) {
            self.drop_word();
        }
        self.end_word();
        let rest = &self.text[self.at.min(self.text.len())..];
        if byte == b'<' && rest.starts_with(b"<") && !rest.starts_with(b"<<") {
            self.at += if rest.starts_with(b"<-") { 2 } else { 1 };
            self.redirect(Place::Delimiter);
        } else if rest.starts_with(b"(") {
            self.at += 1;
            self.substitute(Open::Parenthesis);
        } else {
            self.at += rest.iter().take_while(|byte| b"<>&|".contains(byte)).count();
            self.redirect(Place::Redirection);
        }
    }

    fn redirect(&mut self, place: Place) {
        if !matches!(self.place, Place::Redirection | Place::Delimiter) {
            self.after_redirection = self.place;
        }
        self.place = place;
    }

    fn separate(&mut self) {
        self.end_word();
        if self.place != Place::Pattern && self.place != Place::CaseWord {
            self.place = Place::Command;
        }
    }

    fn drop_word(&mut self) {
        self.word.clear();
        self.in_word = false;
        self.dynamic = false;
    }

    fn end_word(&mut self) {
        if !std::mem::take(&mut self.in_word) {
            return;
        }
        let word = std::mem::take(&mut self.word);
        let literal = !std::mem::take(&mut self.dynamic);
        self.note_paths(&word);
        self.place = match self.place {
            Place::Command | Place::Wrapped => self.command(word, literal),
            Place::Argument => {
                // find(1) takes a command in the middle of its arguments.
                let before_command = matches!(word.as_str(), "-exec" | "-execdir" | "-ok");
                self.mention(&word);
                if before_command { Place::Command } else { Place::Argument }
            }
            Place::Redirection => self.after_redirection,
            Place::Delimiter => {
                self.heredocs.push(word);
                self.after_redirection
            }
            Place::FunctionName => {
                self.functions.insert(word);
                Place::Command
            }
            Place::CaseWord if word == "in" => Place::Pattern,
            Place::CaseWord => Place::CaseWord,
            Place::Pattern if word == "esac" => {
                self.cases = self.cases.saturating_sub(1);
                Place::Command
            }
            Place::Pattern => Place::Pattern,
        };
    }

    /// Takes a word that stands where a command can; gives what comes next.
    fn command(&mut self, word: String, literal: bool) -> Place {
        if let Some((_, value)) = word.split_once('=').filter(|(name, _)| is_variable(name)) {
            let first = value.split_whitespace().next().unwrap_or_default();
            if is_command_name(first) {
                self.words.assigned.insert(first.to_owned());
            }
            self.mention(value);
            return self.place;
        }
        if self.place == Place::Wrapped
            && (word.starts_with('-') || word.starts_with(|c: char| c.is_ascii_digit()))
        {
            return Place::Wrapped;
        }
        match word.as_str() {
            "case" => {
                self.cases += 1;
                return Place::CaseWord;
            }
            "function" => return Place::FunctionName,
            "esac" => self.cases = self.cases.saturating_sub(1),
            _ => {}
        }
        if BEFORE_COMMAND.contains(&word.as_str()) {
            return Place::Command;
        }
        let wraps = WRAPPERS.contains(&word.as_str());
        if literal && is_command_name(&word) {
            self.words.commands.insert(word);
        } else {
            self.mention(&word);
        }
        if wraps { Place::Wrapped } else { Place::Argument }
    }

    fn mention(&mut self, text: &str) {
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_.+-".contains(c));
        self.words.mentioned.extend(names.filter(|name| is_command_name(name)).map(str::to_owned));
    }

    fn note_paths(&mut self, text: &str) {
        let parts = text.split(|c: char| c.is_whitespace() || "=:,;|&()<>\"'".contains(c));
        let is_path = |part: &&str| {
            part.len() > 1
                && part.starts_with('/')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "/_.+-".contains(c))
        };
        self.words.paths.extend(parts.filter(is_path).map(str::to_owned));
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.at += 1;
        }
    }

    /// Skips from the opening mark at the current place past the closing one that belongs to it.
    fn skip_balanced(&mut self, open: u8, close: u8) {
        let mut depth = 0;
        while let Some(byte) = self.next() {
            if byte == open {
                depth += 1;
            } else if byte == close {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
        }
    }

    /// Skips the bodies of the heredocs that the line just ended has opened: they are text.
    fn skip_heredocs(&mut self) {
        for delimiter in std::mem::take(&mut self.heredocs) {
            while self.at < self.text.len() {
                let start = self.at;
                self.skip_line();
                let line = &self.text[start..self.at];
                self.at += 1;
                let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
                if &line[tabs..] == delimiter.as_bytes() {
                    break;
                }
            }
        }
    }
}
