//! Reads values of a tree by type, and collects what is wrong with them.

use std::collections::BTreeMap;

use super::document::Document;
use super::error::{KeyPath, SpecError, SpecErrors, nearest};
use super::tree::{Entry, Node, Value};

/// A value and the keys that lead to it.
pub(super) struct At<'n> {
    pub node: &'n Node,
    pub path: KeyPath,
}

impl<'n> At<'n> {
    pub fn root(node: &'n Node) -> Self {
        At { node, path: KeyPath::default() }
    }
}

/// The keys of a table.
pub(super) struct Keys<'n> {
    entries: &'n [Entry],
    table: At<'n>,
    /// Names that were reported as unknown.
    unknown: Vec<&'n str>,
}

impl<'n> Keys<'n> {
    pub fn get(&self, name: &str) -> Option<At<'n>> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Some(At { node: &entry.node, path: self.table.path.key(name) })
    }
}

/// Reads values and notes errors. What gives an `Option` gives nothing exactly when it noted one, so a reading
/// without errors is complete.
pub(super) struct Reader<'d> {
    document: Option<&'d Document>,
    pub errors: SpecErrors,
}

impl<'d> Reader<'d> {
    pub fn new(document: Option<&'d Document>) -> Self {
        Reader { document, errors: SpecErrors(Vec::new()) }
    }

    /// Notes an error about a value.
    pub fn error<T>(&mut self, at: &At<'_>, message: impl Into<String>) -> Option<T> {
        self.errors.push(self.located(SpecError::new(&at.path, message)));
        None
    }

    /// Notes an error about a value, and what to do about it.
    pub fn error_with<T>(&mut self, at: &At<'_>, message: impl Into<String>, help: &str) -> Option<T> {
        self.errors.push(self.located(SpecError::new(&at.path, message).help(help)));
        None
    }

    /// Notes that a value has another type than `expected`.
    pub fn mismatch<T>(&mut self, at: &At<'_>, expected: &str) -> Option<T> {
        let found = match &at.node.value {
            Value::Text(_) => "a string",
            Value::Number(_) => "a number",
            Value::Bool(_) => "a boolean",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(name) => name,
        };
        self.error(at, format!("expected {expected}, found {found}"))
    }

    fn located(&self, error: SpecError) -> SpecError {
        match self.document {
            Some(document) => document.located(error),
            None => error,
        }
    }

    /// The table's keys, all of which must be in `known`.
    pub fn table<'n>(&mut self, at: &At<'n>, known: &[&str]) -> Option<Keys<'n>> {
        let mut keys = self.keys(at)?;
        for entry in keys.entries.iter().filter(|entry| !known.contains(&&*entry.name)) {
            keys.unknown.push(&entry.name);
            let path = at.path.key(&entry.name);
            let mut error = SpecError::new(&path, format!("unknown key '{}'", entry.name));
            error = error.suggest(&entry.name, known.iter().copied().filter(|name| *name != "$schema"));
            error.place = self.document.map(|document| document.place(entry.name_span.clone()));
            self.errors.push(error);
        }
        Some(keys)
    }

    /// The table's keys, whatever they are.
    pub fn keys<'n>(&mut self, at: &At<'n>) -> Option<Keys<'n>> {
        match &at.node.value {
            Value::Table(entries) => Some(Keys {
                entries,
                table: At { node: at.node, path: at.path.clone() },
                unknown: Vec::new(),
            }),
            _ => self.mismatch(at, "a table"),
        }
    }

    pub fn required<T>(
        &mut self,
        keys: &Keys<'_>,
        name: &str,
        read: impl FnOnce(&mut Self, &At<'_>) -> Option<T>,
    ) -> Option<T> {
        match keys.get(name) {
            Some(at) => read(self, &at),
            // It is there, with a slip of the finger that was reported.
            None if keys.unknown.iter().any(|unknown| nearest(unknown, [name]).is_some()) => None,
            None => self.error(&keys.table, format!("key '{name}' is missing")),
        }
    }

    /// Nothing if the key is absent, too.
    pub fn optional<T>(
        &mut self,
        keys: &Keys<'_>,
        name: &str,
        read: impl FnOnce(&mut Self, &At<'_>) -> Option<T>,
    ) -> Option<T> {
        keys.get(name).and_then(|at| read(self, &at))
    }

    pub fn text(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.value {
            Value::Text(text) => Some(text.clone()),
            _ => self.mismatch(at, "a string"),
        }
    }

    /// A string, or a number or boolean as it was written.
    pub fn scalar(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.value {
            Value::Text(text) | Value::Number(text) => Some(text.clone()),
            Value::Bool(value) => Some(value.to_string()),
            _ => self.mismatch(at, "a string or a number"),
        }
    }

    pub fn boolean(&mut self, at: &At<'_>) -> Option<bool> {
        match at.node.value {
            Value::Bool(value) => Some(value),
            _ => self.mismatch(at, "true or false"),
        }
    }

    pub fn whole(&mut self, at: &At<'_>, least: u64, most: u64) -> Option<u64> {
        let expected = match most {
            u64::MAX if least == 0 => "a whole number".to_owned(),
            u64::MAX => format!("a whole number from {least} up"),
            _ => format!("a whole number from {least} to {most}"),
        };
        let Value::Number(text) = &at.node.value else { return self.mismatch(at, &expected) };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            _ => self.error(at, format!("expected {expected}, found {text}")),
        }
    }

    /// One of a few words.
    pub fn choice<T: Clone>(&mut self, at: &At<'_>, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(at)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(choice.clone());
        }
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("'{name}'")).collect();
        let error = SpecError::new(&at.path, format!("expected {}, found '{text}'", alternatives(&names)));
        self.errors.push(self.located(error.suggest(&text, choices.iter().map(|(name, _)| *name))));
        None
    }

    pub fn list<T>(
        &mut self,
        at: &At<'_>,
        mut read: impl FnMut(&mut Self, &At<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::List(items) = &at.node.value else { return self.mismatch(at, "a list") };
        let read = items
            .iter()
            .enumerate()
            .map(|(index, node)| read(self, &At { node, path: at.path.index(index) }))
            // Not `collect` of options alone: all items are read, so that all their errors are noted.
            .collect::<Vec<_>>();
        read.into_iter().collect()
    }

    /// A list, or one value that stands for a list of it.
    pub fn one_or_many<T>(
        &mut self,
        at: &At<'_>,
        mut read: impl FnMut(&mut Self, &At<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        match &at.node.value {
            Value::List(_) => self.list(at, read),
            _ => read(self, at).map(|one| vec![one]),
        }
    }

    /// A table whose keys are names of the user's, in their order.
    pub fn pairs<T>(
        &mut self,
        at: &At<'_>,
        mut read: impl FnMut(&mut Self, &At<'_>) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        let keys = self.keys(at)?;
        let mut pairs = Vec::with_capacity(keys.entries.len());
        for entry in keys.entries {
            let at = At { node: &entry.node, path: at.path.key(&entry.name) };
            if let Some(value) = read(self, &at) {
                pairs.push((entry.name.clone(), value));
            }
        }
        Some(pairs)
    }

    /// A table whose keys are names of the user's, by name.
    pub fn map<T>(
        &mut self,
        at: &At<'_>,
        read: impl FnMut(&mut Self, &At<'_>) -> Option<T>,
    ) -> Option<BTreeMap<String, T>> {
        self.pairs(at, read).map(|pairs| pairs.into_iter().collect())
    }
}

/// `'a'`, `'a' or 'b'`, `'a', 'b' or 'c'`.
fn alternatives(names: &[String]) -> String {
    match names.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}
