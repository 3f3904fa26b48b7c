//! The placeholders that one spec has, and the templates that its texts become.

use std::collections::BTreeMap;

use model::plan::{Axis, Piece, Template, ValuePart};

use super::error::{KeyPath, SpecError, SpecErrors, nearest};
use super::placeholder::{LoneBrace, Token, index_width, tokens};
use super::types::Spec;

/// What the placeholders of a spec stand for.
pub(super) struct Scope<'a> {
    pub spec: &'a Spec,
    /// Name → path in the working directory; for the input that is split, that of the chunk.
    pub inputs: BTreeMap<&'a str, String>,
    /// Path of the chunk in the working directory.
    pub chunk: Option<String>,
    /// Records of the whole split input.
    pub records: u64,
    pub axes: &'a [Axis],
    /// Names of all sweep values, and whether these are all: not after an error in the table file.
    pub names: Vec<String>,
    pub names_known: bool,
    /// Whether the axes are whole and good, so that what they make of a template can be judged.
    pub values_known: bool,
}

impl Scope<'_> {
    /// The template of a text, or an error at `path`.
    pub fn template(&self, text: &str, path: &KeyPath, errors: &mut SpecErrors) -> Template {
        if errors.is_full() {
            // The search for what might be meant is the slow part, and nobody would read it.
            return Template::default();
        }
        self.try_template(text, path).unwrap_or_else(|error| {
            errors.push(error);
            Template::default()
        })
    }

    pub fn try_template(&self, text: &str, path: &KeyPath) -> Result<Template, SpecError> {
        let tokens = tokens(text).map_err(|LoneBrace(brace)| {
            SpecError::new(path, format!("a '{brace}' in '{text}' has no partner"))
                .help(format!("write '{brace}{brace}' for the brace itself"))
        })?;
        let mut template = Template::default();
        for token in tokens {
            let piece = match token {
                Token::Text(text) => Piece::Text(text),
                Token::Hole(name) => self.piece(name, path)?,
            };
            match (template.0.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
                (_, piece) => template.0.push(piece),
            }
        }
        Ok(template)
    }

    fn piece(&self, name: &str, path: &KeyPath) -> Result<Piece, SpecError> {
        if let Some(width) = index_width(name) {
            let bad = |()| {
                SpecError::new(path, format!("'{{{name}}}' is not a width"))
                    .help("write {index:04} for four digits with leading zeros")
            };
            return Ok(Piece::Index { width: width.map_err(bad)? });
        }
        if let Some(input) = name.strip_prefix("in.") {
            return self.input(input, path).map(Piece::Text);
        }
        if let Some(value) = name.strip_prefix("sweep.") {
            return self.value(value, path);
        }
        match name {
            "out" => Ok(Piece::Text(".".to_owned())),
            "cpus" => Ok(Piece::Text(self.spec.resources.cpus.to_string())),
            "seed" if self.spec.repeat.is_some() => Ok(Piece::Seed),
            "seed" => Err(SpecError::new(path, "'{seed}' needs a repeat")
                .help("add repeat = { times = 1000, seed = 1 }")),
            "chunk" | "split.total" => match &self.chunk {
                Some(chunk) if name == "chunk" => Ok(Piece::Text(chunk.clone())),
                Some(_) => Ok(Piece::Text(self.records.to_string())),
                None => Err(SpecError::new(path, format!("'{{{name}}}' needs an input that is split"))
                    .help("add split = { input = \"NAME\", format = \"fasta\", parts = 40 }")),
            },
            _ => Err(self.unknown(name, path)),
        }
    }

    fn input(&self, name: &str, path: &KeyPath) -> Result<String, SpecError> {
        if self.spec.split.as_ref().is_some_and(|split| split.input == name) {
            let message = format!("input '{name}' is split: a subjob has only its chunk");
            return Err(SpecError::new(path, message).help("write {chunk}"));
        }
        if let Some(input) = self.inputs.get(name) {
            return Ok(input.clone());
        }
        let help = match nearest(name, self.spec.inputs.keys().map(String::as_str)) {
            Some(name) => format!("did you mean '{{in.{name}}}'?"),
            None => format!("add it: inputs.{name} = \"path\""),
        };
        Err(SpecError::new(path, format!("no input is named '{name}'")).help(help))
    }

    fn value(&self, name: &str, path: &KeyPath) -> Result<Piece, SpecError> {
        if let Some(piece) = self.column(name) {
            return Ok(piece);
        }
        if !self.names_known {
            return Ok(Piece::Text(String::new()));
        }
        let help = match nearest(name, self.names.iter().map(String::as_str)) {
            Some(name) => format!("did you mean '{{sweep.{name}}}'?"),
            None => format!("add it: sweep.values.{name} = [1, 2]"),
        };
        Err(SpecError::new(path, format!("no sweep value is named '{name}'")).help(help))
    }

    /// The value of a column by its name, or by its name and `.name` or `.stem`.
    pub fn column(&self, name: &str) -> Option<Piece> {
        let parts = [("", ValuePart::Whole), (".name", ValuePart::Name), (".stem", ValuePart::Stem)];
        parts.into_iter().find_map(|(suffix, part)| {
            let name = name.strip_suffix(suffix)?;
            let columns = self.axes.iter().enumerate().flat_map(|(axis, of)| {
                of.columns.iter().enumerate().map(move |(column, of)| (axis as u32, column as u32, of))
            });
            let mut columns = columns.filter(|(_, _, column)| column.name == name);
            columns.next().map(|(axis, column, _)| Piece::Value { axis, column, part })
        })
    }

    fn unknown(&self, name: &str, path: &KeyPath) -> SpecError {
        let mut known: Vec<String> =
            ["chunk", "out", "index", "seed", "cpus", "split.total"].map(str::to_owned).to_vec();
        known.extend(self.spec.inputs.keys().map(|name| format!("in.{name}")));
        known.extend(self.names.iter().map(|name| format!("sweep.{name}")));
        // Who forgets the `in.` or `sweep.` in front finds it here too.
        let qualified =
            known.iter().find(|known| known.split_once('.').is_some_and(|(_, rest)| rest == name));
        let qualified = qualified.map(String::as_str);
        let help = match qualified.or_else(|| nearest(name, known.iter().map(String::as_str))) {
            Some(known) => format!("did you mean '{{{known}}}'?"),
            None => "write '{{' and '}}' for braces that are meant literally".to_owned(),
        };
        SpecError::new(path, format!("unknown placeholder '{{{name}}}'")).help(help)
    }
}

/// Whether a placeholder's name asks for a column, whole or in part.
pub(super) fn asks_for(hole: &str, column: &str) -> bool {
    let rest = hole.strip_prefix("sweep.").and_then(|name| name.strip_prefix(column));
    matches!(rest, Some("" | ".name" | ".stem"))
}
