//! The files of a subjob: what each is, and where it lies in the working directory.

use std::collections::{BTreeMap, BTreeSet};

use model::plan::{Column, Content, Input, Piece, Template, ValuePart};

use super::error::{KeyPath, SpecError, SpecErrors};
use super::files::SpecFiles;
use super::path::{check_path, file_name};
use super::scope::Scope;
use super::types::{InputFile, Spec};
use crate::split::SplitIndex;

/// The inputs with their places in the working directory.
pub(super) struct Placed<'a> {
    /// Path of each input by its name.
    pub paths: BTreeMap<&'a str, String>,
    /// Those that every subjob gets whole.
    pub whole: Vec<Input>,
}

fn is_split(spec: &Spec, input: &str) -> bool {
    spec.split.as_ref().is_some_and(|split| split.input == input)
}

pub(super) fn inputs<'a>(spec: &'a Spec, files: &mut dyn SpecFiles, errors: &mut SpecErrors) -> Placed<'a> {
    let mut placed = Placed { paths: BTreeMap::new(), whole: Vec::new() };
    for (name, input) in &spec.inputs {
        let key = KeyPath::of("inputs").key(name);
        let path = match input {
            InputFile::Path(path) => match file_name(path) {
                Some(name) => name.to_owned(),
                None => {
                    errors.push(SpecError::new(&key, format!("'{path}' names no file")));
                    continue;
                }
            },
            InputFile::Named { name, .. } => {
                if let Err(problem) = check_path(name) {
                    let message = format!("the path '{name}' {problem}");
                    let error = SpecError::new(&key.key("as"), message);
                    errors.push(error.help("write a path below the working directory"));
                    continue;
                }
                name.clone()
            }
        };
        if name.is_empty() || name.contains(['{', '}']) {
            errors.push(SpecError::new(&key, "a name must not be empty or have braces in it"));
        }
        if let Some((other, _)) = placed.paths.iter().find(|(_, other)| collide(other, &path)) {
            let message = format!("inputs '{other}' and '{name}' would both be at '{path}'");
            let help = format!("give one another name: inputs.{name} = {{ path = \"…\", as = \"…\" }}");
            errors.push(SpecError::new(&key, message).help(help));
        }
        // What is split is read by `split`.
        if !is_split(spec, name) {
            match files.content(input.path()) {
                Ok(Content { hash, size }) => placed.whole.push(Input { path: path.clone(), hash, size }),
                Err(why) => errors.push(unreadable(input.path(), &why, &key)),
            }
        }
        placed.paths.insert(name, path);
    }
    placed
}

fn unreadable(path: &str, why: &str, key: &KeyPath) -> SpecError {
    SpecError::new(key, format!("'{path}' can't be read: {why}"))
}

/// Whether two files can't both be: they are one, or one would have to be a directory.
fn collide(a: &str, b: &str) -> bool {
    let is_above =
        |above: &str, below: &str| below.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
    a == b || is_above(a, b) || is_above(b, a)
}

pub(super) fn split_path(spec: &Spec, placed: &Placed<'_>) -> Option<String> {
    let split = spec.split.as_ref()?;
    // The placeholder is good even if its input is not, and no further error.
    Some(placed.paths.get(split.input.as_str()).cloned().unwrap_or_else(|| split.input.clone()))
}

pub(super) fn split(
    spec: &Spec,
    work: &BTreeSet<String>,
    placed: &Placed<'_>,
    files: &mut dyn SpecFiles,
    errors: &mut SpecErrors,
) -> Option<(Content, SplitIndex)> {
    let split = spec.split.as_ref()?;
    let key = KeyPath::of("split");
    let Some(input) = spec.inputs.get(&split.input) else {
        let error = SpecError::new(&key.key("input"), format!("no input is named '{}'", split.input))
            .help(format!("add it: inputs.{} = \"path\"", split.input));
        errors.push(error.suggest(&split.input, spec.inputs.keys().map(String::as_str)));
        return None;
    };
    let path = placed.paths.get(split.input.as_str())?;
    // A program may be told the chunk's fixed name without the placeholder.
    let mut texts = spec.command.iter().chain(spec.env.values()).chain(&spec.stdin);
    if !work.contains("chunk") && !texts.any(|text| text.contains(path)) {
        let message = "the chunk is used nowhere: all subjobs would do the same";
        errors.push(SpecError::new(&key, message).help("add {chunk} to the command"));
    }
    let read = files
        .content(input.path())
        .and_then(|content| Ok((content, files.split(input.path(), split.format, split.rule)?)));
    read.map_err(|why| {
        let message = format!("'{}' can't be split: {why}", input.path());
        errors.push(SpecError::new(&key.key("input"), message));
    })
    .ok()
}

/// Checks that no two files of one subjob have one place.
pub(super) fn check_swept_files(scope: &Scope<'_>, errors: &mut SpecErrors) {
    let columns = scope.axes.iter().enumerate().flat_map(|(number, axis)| {
        axis.columns.iter().filter(|column| column.files.is_some()).map(move |column| (number, column))
    });
    let mut seen: Vec<(usize, &Column)> = Vec::new();
    for (axis, column) in columns {
        let in_table =
            !scope.spec.sweep.iter().any(|sweep| sweep.values.iter().any(|(n, _)| *n == column.name));
        let sweep = KeyPath::of("sweep");
        let key =
            if in_table { sweep.key("table").key("inputs") } else { sweep.key("values").key(&column.name) };
        let mut tell = |path: &str, other: &str| {
            let message = format!("'{}' and {other} would both have a file at '{path}'", column.name);
            errors.push(SpecError::new(&key, message));
        };
        for (name, path) in &scope.inputs {
            if column.values.iter().any(|value| collide(value, path)) {
                tell(path, &format!("input '{name}'"));
            }
        }
        for (other_axis, other) in &seen {
            let others: BTreeSet<&str> = other.values.iter().collect();
            let clash = if *other_axis == axis {
                column.values.iter().zip(other.values.iter()).find(|(a, b)| a == b).map(|(a, _)| a)
            } else {
                column.values.iter().find(|value| others.contains(value))
            };
            if let Some(path) = clash {
                tell(path, &format!("'{}'", other.name));
            }
        }
        seen.push((axis, column));
    }
}

/// The program's standard input: a file that lies in the working directory.
pub(super) fn stdin(text: &str, scope: &Scope<'_>, errors: &mut SpecErrors) -> Option<Template> {
    let key = KeyPath::of("stdin");
    let before = errors.0.len();
    let template = scope.template(text, &key, errors);
    if errors.0.len() > before {
        return None;
    }
    let is_file = match template.0.as_slice() {
        [Piece::Text(path)] => scope.inputs.values().any(|input| input == path),
        [Piece::Value { axis, column, part: ValuePart::Whole }] => {
            let columns = scope.axes.get(*axis as usize).map(|axis| &axis.columns);
            columns.and_then(|columns| columns.get(*column as usize)).is_some_and(|column| {
                // A column that could not be read has told so.
                column.files.is_some() || column.values.is_empty()
            })
        }
        _ => false,
    };
    if !is_file && scope.names_known {
        let error = SpecError::new(&key, format!("'{text}' is not a file of the working directory"));
        errors.push(error.help("write {in.NAME}, {chunk} or a swept file's {sweep.NAME}"));
    }
    Some(template)
}
