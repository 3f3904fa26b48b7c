//! The text of a spec: reads it into a tree and tells the place of an error from its keys.

use std::ops::Range;

use serde_json::value::RawValue;
use toml::de::DeTable;

use super::error::{Key, KeyPath, Place, SpecError, SpecErrors};
use super::tree::{MAX_DEPTH, Node, Value, json_node, toml_table};

/// Longest text of a spec; larger parameter sets belong in a table file.
pub const MAX_SPEC_BYTES: usize = 1 << 20;

/// The text of a spec, read but not yet understood.
#[derive(Debug)]
pub struct Document {
    file: String,
    text: String,
    pub(super) root: Node,
}

impl Document {
    /// Reads TOML. `file` is the name that errors begin with.
    ///
    /// # Errors
    /// The first place that is not TOML.
    pub fn toml(file: &str, text: &str) -> Result<Self, SpecErrors> {
        let mut document = Document::unread(file, text)?;
        match DeTable::parse(text) {
            Ok(table) => {
                let span = table.span();
                document.root = Node { span, value: toml_table(table.into_inner()) };
                Ok(document)
            }
            Err(error) => Err(document.syntax_error(error.message(), error.span())),
        }
    }

    /// Reads JSON. `file` is the name that errors begin with.
    ///
    /// # Errors
    /// The first place that is not JSON, and keys that are there twice.
    pub fn json(file: &str, text: &str) -> Result<Self, SpecErrors> {
        let mut document = Document::unread(file, text)?;
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
            let at = offset_of(text, error.line(), error.column());
            // The place is told by the error itself; without it the message stands alone.
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
            document.syntax_error(message, Some(at..at))
        })?;
        match json_node(raw, text, MAX_DEPTH) {
            Ok(root) => document.root = root,
            Err((message, span)) => return Err(document.syntax_error(&message, Some(span))),
        }
        Ok(document)
    }

    fn unread(file: &str, text: &str) -> Result<Self, SpecErrors> {
        if text.len() > MAX_SPEC_BYTES {
            let message = format!("{file} has {} bytes, more than {MAX_SPEC_BYTES}", text.len());
            let error = SpecError::new(&KeyPath::default(), message);
            return Err(error.help("put long parameter lists into a table file (sweep.table)").into());
        }
        let root = Node { span: 0..0, value: Value::Table(Vec::new()) };
        Ok(Document { file: file.to_owned(), text: text.to_owned(), root })
    }

    fn syntax_error(&self, message: &str, span: Option<Range<usize>>) -> SpecErrors {
        let mut error = SpecError::new(&KeyPath::default(), message);
        error.place = span.map(|span| self.place(span));
        error.into()
    }

    /// Gives each error that has none its place in this text, found by its keys.
    pub fn locate(&self, errors: SpecErrors) -> SpecErrors {
        let mut errors = SpecErrors(errors.0.into_iter().map(|error| self.located(error)).collect());
        errors.sort();
        errors
    }

    pub(super) fn located(&self, mut error: SpecError) -> SpecError {
        if error.place.is_none() {
            error.place = Some(self.place(self.span_of(&error.key_path)));
        }
        error
    }

    /// Follows the keys as far as they lead: a key that is missing is told at the table that lacks it.
    fn span_of(&self, path: &KeyPath) -> Range<usize> {
        let mut node = &self.root;
        let mut span = 0..0;
        for key in &path.0 {
            match (key, &node.value) {
                (Key::Name(name), Value::Table(entries)) => {
                    let Some(entry) = entries.iter().find(|entry| entry.name == *name) else { break };
                    node = &entry.node;
                    // A table is told at its name, as its span may be all of the text that follows.
                    span = match &node.value {
                        Value::Table(_) | Value::List(_) => entry.name_span.clone(),
                        _ => node.span.clone(),
                    };
                }
                (Key::Index(index), Value::List(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    node = item;
                    span = node.span.clone();
                }
                // One value where several may stand is the list of that value.
                (Key::Index(0), _) => {}
                _ => break,
            }
        }
        span
    }

    pub(super) fn place(&self, span: Range<usize>) -> Box<Place> {
        let text = &*self.text;
        let start = floor_char_boundary(text, span.start);
        let end = floor_char_boundary(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        Box::new(Place {
            file: self.file.clone(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end.min(line_end)].chars().count().max(1),
            source_line: text[line_start..line_end].trim_end_matches('\r').to_owned(),
        })
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The byte at a line and a column of bytes, both from 1.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    start + column.saturating_sub(1)
}
