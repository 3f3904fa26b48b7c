//! From the tree of a document to a [`Spec`]: which keys there are, what type each takes, what is missing.
//!
//! Goes on after an error, so that all are reported together. What the values mean is `resolve`'s.

use std::num::NonZeroU64;

use model::DisplaySize;
use serde::de::{Deserialize, Deserializer, Error as _};

use super::bounds::{read_amount, read_limits, read_network, read_resources};
use super::document::Document;
use super::error::SpecErrors;
use super::reader::{At, Reader};
use super::tree::{Node, Value};
use super::types::{
    AggregateSpec, App, ColumnSpec, CommentsRule, ConcatSpec, FilesSpec, InputFile, OutputSpec, RepeatSpec,
    SecretSource, Spec, SplitSpec, Sweep, SweepMode, SweepValues, TableFile, TableSpec, default_attempts,
};
use super::words::split_words;
use crate::split::{SplitFormat, SplitRule};

impl Spec {
    /// Reads a spec's keys and values.
    ///
    /// # Errors
    /// Unknown and missing keys and values of a wrong type, up to ten at once.
    pub fn read(document: &Document) -> Result<Self, SpecErrors> {
        Spec::from_node(&document.root, Some(document))
    }

    fn from_node(root: &Node, document: Option<&Document>) -> Result<Self, SpecErrors> {
        let mut reader = Reader::new(document);
        let spec = read_spec(&mut reader, &At::root(root));
        reader.errors.none()?;
        Ok(spec.expect("a reading without errors has read all that is required"))
    }
}

/// For a spec inside another message; errors then tell keys but no places.
impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spec::from_node(&Node::deserialize(deserializer)?, None).map_err(D::Error::custom)
    }
}

/// Keys of the spec itself. `$schema` is an editor's marker in JSON and means nothing here.
pub(super) const SPEC_KEYS: &[&str] = &[
    "spec",
    "name",
    "command",
    "app",
    "env",
    "stdin",
    "inputs",
    "split",
    "sweep",
    "repeat",
    "outputs",
    "aggregate",
    "resources",
    "limits",
    "network",
    "sealed",
    "attempts",
    "secrets",
    "$schema",
];

fn read_spec(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Spec> {
    let keys = reader.table(at, SPEC_KEYS)?;
    let spec = reader.required(&keys, "spec", |reader, at| {
        let version = reader.whole(at, 0, u64::from(u32::MAX))?;
        if version != 1 {
            let message = format!("version {version} of the job spec is unknown");
            return reader.error_with(at, message, "this program reads version 1: spec = 1");
        }
        Some(1)
    });
    let command = reader.required(&keys, "command", read_command);
    Some(Spec {
        name: reader.optional(&keys, "name", Reader::text),
        app: reader.optional(&keys, "app", read_app).unwrap_or_default(),
        env: reader.optional(&keys, "env", |r, at| r.map(at, Reader::scalar)).unwrap_or_default(),
        stdin: reader.optional(&keys, "stdin", Reader::text),
        inputs: reader.optional(&keys, "inputs", |r, at| r.map(at, read_input)).unwrap_or_default(),
        split: reader.optional(&keys, "split", read_split),
        sweep: reader.optional(&keys, "sweep", read_sweep),
        repeat: reader.optional(&keys, "repeat", read_repeat),
        outputs: reader.optional(&keys, "outputs", |r, at| r.list(at, read_output)).unwrap_or_default(),
        aggregate: reader
            .optional(&keys, "aggregate", |r, at| r.one_or_many(at, read_aggregate))
            .unwrap_or_default(),
        resources: reader.optional(&keys, "resources", read_resources).unwrap_or_default(),
        limits: reader.optional(&keys, "limits", read_limits).unwrap_or_default(),
        network: reader.optional(&keys, "network", read_network).unwrap_or_default(),
        sealed: reader.optional(&keys, "sealed", Reader::boolean).unwrap_or_default(),
        attempts: reader
            .optional(&keys, "attempts", |r, at| r.whole(at, 1, 20))
            .map_or_else(default_attempts, |attempts| attempts as u32),
        secrets: reader.optional(&keys, "secrets", |r, at| r.map(at, read_secret)).unwrap_or_default(),
        spec: spec?,
        command: command?,
    })
}

fn read_command(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Vec<String>> {
    let words = match &at.node.value {
        Value::Text(text) => match split_words(text) {
            Ok(words) => words,
            Err(message) => {
                let help = "write the command as a list, or quote what is meant literally";
                return reader.error_with(at, message, help);
            }
        },
        Value::List(_) => reader.list(at, Reader::scalar)?,
        _ => return reader.mismatch(at, "a list of strings"),
    };
    if words.is_empty() {
        return reader.error(at, "the command is empty");
    }
    Some(words)
}

fn read_app(reader: &mut Reader<'_>, at: &At<'_>) -> Option<App> {
    let keys = reader.table(at, &["program", "include", "jit", "gui"])?;
    Some(App {
        program: reader.optional(&keys, "program", Reader::text),
        include: reader.optional(&keys, "include", |r, at| r.list(at, Reader::text)).unwrap_or_default(),
        jit: reader.optional(&keys, "jit", Reader::boolean),
        gui: reader.optional(&keys, "gui", read_gui).flatten(),
    })
}

fn read_gui(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Option<DisplaySize>> {
    match &at.node.value {
        Value::Bool(wanted) => Some(wanted.then(DisplaySize::default)),
        Value::Text(text) => match text.parse() {
            Ok(size) => Some(Some(size)),
            Err(error) => reader.error(at, error.to_string()),
        },
        _ => reader.mismatch(at, "true, false or a size such as \"1280x1024\""),
    }
}

fn read_input(reader: &mut Reader<'_>, at: &At<'_>) -> Option<InputFile> {
    if let Value::Text(path) = &at.node.value {
        return Some(InputFile::Path(path.clone()));
    }
    let keys = reader.table(at, &["path", "as"])?;
    let path = reader.required(&keys, "path", Reader::text)?;
    Some(match reader.optional(&keys, "as", Reader::text) {
        Some(name) => InputFile::Named { path, name },
        None => InputFile::Path(path),
    })
}

fn read_split(reader: &mut Reader<'_>, at: &At<'_>) -> Option<SplitSpec> {
    let keys = reader.table(at, &["input", "format", "records", "parts", "bytes"])?;
    let input = reader.required(&keys, "input", Reader::text);
    let format = reader.required(&keys, "format", |r, at| r.choice(at, &[("fasta", SplitFormat::Fasta)]));
    let number = |r: &mut Reader<'_>, at: &At<'_>| NonZeroU64::new(r.whole(at, 1, u64::MAX)?);
    let rules: Vec<SplitRule> = [
        reader.optional(&keys, "records", number).map(SplitRule::Records),
        reader.optional(&keys, "parts", number).map(SplitRule::Parts),
        reader.optional(&keys, "bytes", read_amount).map(SplitRule::Bytes),
    ]
    .into_iter()
    .flatten()
    .collect();
    let given = ["records", "parts", "bytes"].iter().filter(|name| keys.get(name).is_some()).count();
    if given != 1 {
        let message =
            if given == 0 { "nothing says where to cut" } else { "more than one rule says where to cut" };
        let help = "give one of records = 1000, parts = 40 and bytes = \"64MiB\"";
        return reader.error_with(at, message, help);
    }
    Some(SplitSpec { input: input?, format: format?, rule: rules.into_iter().next()? })
}

fn read_sweep(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Sweep> {
    let keys = reader.table(at, &["mode", "values", "table"])?;
    let modes = [("product", SweepMode::Product), ("zip", SweepMode::Zip)];
    let mode = reader.optional(&keys, "mode", |r, at| r.choice(at, &modes)).unwrap_or_default();
    let values = reader.optional(&keys, "values", |r, at| r.pairs(at, read_values)).unwrap_or_default();
    let table = reader.optional(&keys, "table", read_table_file);
    if keys.get("values").is_none() && keys.get("table").is_none() {
        return reader.error_with(at, "the sweep has no values", "add sweep.values or sweep.table");
    }
    Some(Sweep { mode, values, table })
}

fn read_values(reader: &mut Reader<'_>, at: &At<'_>) -> Option<SweepValues> {
    if let Value::List(_) = &at.node.value {
        return reader.list(at, Reader::scalar).map(SweepValues::List);
    }
    if !matches!(at.node.value, Value::Table(_)) {
        return reader.mismatch(at, "a list of values, { glob = \"…\" } or { range = [from, to] }");
    }
    let keys = reader.table(at, &["glob", "range"])?;
    match (keys.get("glob"), keys.get("range")) {
        (Some(glob), None) => Some(SweepValues::Glob { glob: reader.text(&glob)? }),
        (None, Some(range)) => {
            let range_values = reader.list(&range, Reader::scalar)?;
            if !(2..=3).contains(&range_values.len()) {
                return reader.error(&range, "a range is [from, to] or [from, to, step]");
            }
            Some(SweepValues::Range { range: range_values })
        }
        _ => reader.error(at, "exactly one of 'glob' and 'range' must be given"),
    }
}

fn read_table_file(reader: &mut Reader<'_>, at: &At<'_>) -> Option<TableFile> {
    let keys = reader.table(at, &["file", "inputs"])?;
    let inputs = reader.optional(&keys, "inputs", |r, at| r.list(at, Reader::text)).unwrap_or_default();
    Some(TableFile { file: reader.required(&keys, "file", Reader::text)?, inputs })
}

fn read_repeat(reader: &mut Reader<'_>, at: &At<'_>) -> Option<RepeatSpec> {
    let keys = reader.table(at, &["times", "seed"])?;
    let seed = reader.optional(&keys, "seed", |r, at| r.whole(at, 0, u64::MAX)).unwrap_or_default();
    let times = reader.required(&keys, "times", |r, at| r.whole(at, 1, model::plan::MAX_SUBJOBS))?;
    Some(RepeatSpec { times, seed })
}

fn read_output(reader: &mut Reader<'_>, at: &At<'_>) -> Option<OutputSpec> {
    if let Value::Text(path) = &at.node.value {
        return Some(OutputSpec { path: path.clone(), optional: false });
    }
    let keys = reader.table(at, &["path", "optional"])?;
    let optional = reader.optional(&keys, "optional", Reader::boolean).unwrap_or_default();
    Some(OutputSpec { path: reader.required(&keys, "path", Reader::text)?, optional })
}

/// The kinds of aggregate and the keys of each.
pub(super) const AGGREGATES: &[(&str, &[&str])] = &[
    (
        "concat",
        &["how", "from", "out", "header_lines", "comment", "comments", "squeeze_blanks", "sort", "top"],
    ),
    ("table", &["how", "from", "out", "row", "columns", "sort", "top"]),
    ("files", &["how", "from", "to"]),
];

fn read_aggregate(reader: &mut Reader<'_>, at: &At<'_>) -> Option<AggregateSpec> {
    // The other keys can only be judged when it is known which kind it is.
    let how = reader.keys(at)?;
    let (kind, known) = reader.required(&how, "how", |r, at| {
        let kinds: Vec<_> = AGGREGATES.iter().map(|(kind, known)| (*kind, (*kind, *known))).collect();
        r.choice(at, &kinds)
    })?;
    let keys = reader.table(at, known)?;
    let from = reader.optional(&keys, "from", Reader::text);
    if kind == "files" {
        return Some(AggregateSpec::Files(FilesSpec {
            from,
            to: reader.optional(&keys, "to", Reader::text),
        }));
    }
    let out = reader.required(&keys, "out", Reader::text);
    let sort = reader.optional(&keys, "sort", |r, at| r.one_or_many(at, Reader::text)).unwrap_or_default();
    let top = reader.optional(&keys, "top", |r, at| r.whole(at, 1, u64::MAX));
    if kind == "table" {
        let row = reader.optional(&keys, "row", Reader::text);
        let columns = reader.required(&keys, "columns", |r, at| r.list(at, read_column))?;
        return Some(AggregateSpec::Table(TableSpec { from, out: out?, row, columns, sort, top }));
    }
    let rules = [("head", CommentsRule::Head), ("drop", CommentsRule::Drop)];
    Some(AggregateSpec::Concat(ConcatSpec {
        from,
        header_lines: reader
            .optional(&keys, "header_lines", |r, at| r.whole(at, 0, u64::from(u32::MAX)))
            .unwrap_or_default() as u32,
        comment: reader.optional(&keys, "comment", Reader::text),
        comments: reader.optional(&keys, "comments", |r, at| r.choice(at, &rules)),
        squeeze_blanks: reader.optional(&keys, "squeeze_blanks", Reader::boolean).unwrap_or_default(),
        sort,
        top,
        out: out?,
    }))
}

fn read_column(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ColumnSpec> {
    if let Value::Text(name) = &at.node.value {
        return Some(ColumnSpec::Known(name.clone()));
    }
    let keys = reader.table(at, &["name", "value", "regex"])?;
    let name = reader.required(&keys, "name", Reader::text);
    let value = reader.optional(&keys, "value", Reader::text);
    let regex = reader.optional(&keys, "regex", Reader::text);
    match (value, regex) {
        (Some(value), None) => Some(ColumnSpec::Value { name: name?, value }),
        (None, Some(regex)) => Some(ColumnSpec::Regex { name: name?, regex }),
        _ => reader.error(at, "exactly one of 'value' and 'regex' must be given"),
    }
}

fn read_secret(reader: &mut Reader<'_>, at: &At<'_>) -> Option<SecretSource> {
    if let Value::Text(_) = &at.node.value {
        let help = "name where it is: { env = \"VARIABLE\" } or { file = \"path\" }";
        return reader.error_with(at, "a secret's value must not be in the spec", help);
    }
    let keys = reader.table(at, &["env", "file"])?;
    match (keys.get("env"), keys.get("file")) {
        (Some(env), None) => reader.text(&env).map(SecretSource::Env),
        (None, Some(file)) => reader.text(&file).map(SecretSource::File),
        _ => reader.error(at, "exactly one of 'env' and 'file' must be given"),
    }
}
