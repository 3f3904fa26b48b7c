//! From a spec and the files it speaks of to the plan of a job.
//!
//! Both the command line and the server resolve a spec: what the first accepts the second accepts too, and from
//! equal files both make the same plan.

use std::collections::{BTreeMap, BTreeSet};

use model::BlobHash;
use model::plan::{Content, Input, MAX_SUBJOBS, Piece, Plan, Repeat, Split, Template, ValuePart};

use super::aggregate::{aggregates, outputs};
use super::error::{KeyPath, SpecError, SpecErrors};
use super::files::SpecFiles;
use super::path::{check_path, file_name};
use super::placeholder::holes;
use super::scope::Scope;
use super::sweep::{Axes, axes};
use super::types::{AggregateSpec, ColumnSpec, InputFile, Spec};
use crate::split::SplitIndex;

/// A plan and what its files must be known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub plan: Plan,
    /// The whole input that is split, and where in it each chunk of the plan lies.
    pub split: Option<(Content, SplitIndex)>,
}

/// Makes the plan of a job.
///
/// # Errors
/// All that is wrong with the spec's meaning or its files, up to ten at once, told by key; a `Document` adds the
/// places.
pub fn resolve(
    spec: &Spec,
    files: &mut dyn SpecFiles,
    application: BlobHash,
) -> Result<Resolved, SpecErrors> {
    let mut errors = SpecErrors(Vec::new());
    check_names(spec, &mut errors);
    let (work, all) = used_holes(spec);
    let placed = inputs(spec, files, &mut errors);
    let split = split(spec, &work, &placed, files, &mut errors);
    let before = errors.0.len();
    let Axes { axes, names, names_known } = match &spec.sweep {
        Some(sweep) => axes(sweep, &work, &all, files, &mut errors),
        None => Axes { axes: Vec::new(), names: Vec::new(), names_known: true },
    };
    let scope = Scope {
        spec,
        inputs: placed
            .paths
            .iter()
            .filter(|(name, _)| !is_split(spec, name))
            .map(|(n, p)| (*n, p.clone()))
            .collect(),
        chunk: split_path(spec, &placed),
        records: split.as_ref().map_or(0, |(_, index)| index.records),
        axes,
        names,
        names_known,
        values_known: errors.0.len() == before,
    };
    check_swept_files(&scope, &placed, &mut errors);
    let at = |key| KeyPath::of(key);
    let command = spec.command.iter().enumerate();
    let command =
        command.map(|(n, word)| scope.template(word, &at("command").index(n), &mut errors)).collect();
    let env = spec.env.iter();
    let env = env
        .map(|(name, value)| (name.clone(), scope.template(value, &at("env").key(name), &mut errors)))
        .collect();
    let stdin = spec.stdin.as_ref().and_then(|text| stdin(text, &scope, &mut errors));
    let mut plan = Plan {
        name: name(spec),
        application,
        command,
        env,
        stdin,
        inputs: placed.whole,
        outputs: outputs(&scope, &mut errors),
        axes: scope.axes.clone(),
        split: split.as_ref().zip(scope.chunk.clone()).map(|((_, index), path)| Split {
            path,
            chunks: index.chunks.iter().map(|range| range.chunk).collect(),
        }),
        repeat: spec.repeat.map(|repeat| Repeat { times: repeat.times, seed: repeat.seed }),
        aggregate: Vec::new(),
        resources: spec.resources,
        limits: spec.limits,
        attempts: spec.attempts,
    };
    check_number(&plan, &mut errors);
    plan.aggregate = aggregates(&scope, &plan, &mut errors);
    errors.none()?;
    Ok(Resolved { plan, split })
}

fn name(spec: &Spec) -> String {
    let program = || spec.program().and_then(file_name);
    spec.name.as_deref().or_else(program).unwrap_or("job").to_owned()
}

/// Most characters of a job's name.
const MAX_NAME_CHARS: usize = 200;

fn check_names(spec: &Spec, errors: &mut SpecErrors) {
    let is_name = |name: &str| {
        !name.trim().is_empty() && name.chars().count() <= MAX_NAME_CHARS && !name.contains(char::is_control)
    };
    if spec.name.as_deref().is_some_and(|name| !is_name(name)) {
        let message = format!("the name must have 1 to {MAX_NAME_CHARS} characters and no line break");
        errors.push(SpecError::new(&KeyPath::of("name"), message));
    }
    if spec.program().is_none() {
        let message = "the program to wrap is not known: the command begins with a placeholder";
        let error = SpecError::new(&KeyPath::of("command").index(0), message);
        errors.push(error.help("add app.program = \"NAME\""));
    }
    if spec.program().is_some_and(str::is_empty) {
        errors.push(SpecError::new(&KeyPath::of("command").index(0), "the program's name is empty"));
    }
    let words = spec.command.iter().enumerate().map(|(n, word)| (KeyPath::of("command").index(n), word));
    let values = spec.env.iter().map(|(name, value)| (KeyPath::of("env").key(name), value));
    for (path, _) in words.chain(values).filter(|(_, text)| text.contains('\0')) {
        errors.push(SpecError::new(&path, "a NUL byte can't be passed to a program"));
    }
    let variables = spec.env.keys().map(|name| ("env", name));
    for (table, name) in variables.chain(spec.secrets.keys().map(|name| ("secrets", name))) {
        let path = KeyPath::of(table).key(name);
        if name.is_empty() || name.contains(['=', '\0']) {
            errors.push(SpecError::new(&path, format!("'{name}' can't name an environment variable")));
        } else if table == "secrets" && spec.env.contains_key(name) {
            errors.push(SpecError::new(&path, format!("'{name}' is in env and in secrets")));
        }
    }
}

/// The placeholders of what a subjob does (command, environment, input), and those of the whole spec. A column of
/// a result that is a sweep value's name counts as its placeholder.
fn used_holes(spec: &Spec) -> (BTreeSet<String>, BTreeSet<String>) {
    let work = spec.command.iter().chain(spec.env.values()).chain(&spec.stdin);
    let work: BTreeSet<String> = work.flat_map(|text| holes(text)).map(str::to_owned).collect();
    let mut all = work.clone();
    let mut add = |text: &str| all.extend(holes(text).map(str::to_owned));
    spec.outputs.iter().for_each(|output| add(&output.path));
    for aggregate in &spec.aggregate {
        match aggregate {
            AggregateSpec::Concat(_) => {}
            AggregateSpec::Files(files) => files.to.iter().for_each(|to| add(to)),
            AggregateSpec::Table(table) => {
                for column in &table.columns {
                    match column {
                        ColumnSpec::Known(name) => add(&format!("{{sweep.{name}}}")),
                        ColumnSpec::Value { value, .. } => add(value),
                        ColumnSpec::Regex { .. } => {}
                    }
                }
            }
        }
    }
    (work, all)
}

/// The inputs with their places in the working directory.
struct Placed<'a> {
    /// Path of each input by its name.
    paths: BTreeMap<&'a str, String>,
    /// Those that every subjob gets whole.
    whole: Vec<Input>,
}

fn is_split(spec: &Spec, input: &str) -> bool {
    spec.split.as_ref().is_some_and(|split| split.input == input)
}

fn inputs<'a>(spec: &'a Spec, files: &mut dyn SpecFiles, errors: &mut SpecErrors) -> Placed<'a> {
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

fn split_path(spec: &Spec, placed: &Placed<'_>) -> Option<String> {
    let split = spec.split.as_ref()?;
    // The placeholder is good even if its input is not, and no further error.
    Some(placed.paths.get(split.input.as_str()).cloned().unwrap_or_else(|| split.input.clone()))
}

fn split(
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
fn check_swept_files(scope: &Scope<'_>, placed: &Placed<'_>, errors: &mut SpecErrors) {
    let columns = scope.axes.iter().enumerate().flat_map(|(number, axis)| {
        axis.columns.iter().filter(|column| column.files.is_some()).map(move |column| (number, column))
    });
    let mut seen: Vec<(usize, &model::plan::Column)> = Vec::new();
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
        for (name, path) in &placed.paths {
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
fn stdin(text: &str, scope: &Scope<'_>, errors: &mut SpecErrors) -> Option<Template> {
    let key = KeyPath::of("stdin");
    let before = errors.0.len();
    let template = scope.template(text, &key, errors);
    if errors.0.len() > before {
        return None;
    }
    let is_file = match template.0.as_slice() {
        [Piece::Text(path)] => {
            scope.inputs.values().any(|input| input == path) || scope.chunk.as_ref() == Some(path)
        }
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

fn check_number(plan: &Plan, errors: &mut SpecErrors) {
    if plan.subjobs().is_some() {
        return;
    }
    let mut factors: Vec<u64> = plan.axes.iter().map(model::plan::Axis::rows).collect();
    factors.extend(plan.split.as_ref().map(|split| split.chunks.len() as u64));
    factors.extend(plan.repeat.map(|repeat| repeat.times));
    let product = factors.iter().try_fold(1u128, |product, factor| product.checked_mul(u128::from(*factor)));
    let product = product.map_or_else(|| "more than 2^128".to_owned(), |product| product.to_string());
    let factors: Vec<String> = factors.iter().map(u64::to_string).collect();
    let message = format!("{} = {product} subjobs are too many: at most {MAX_SUBJOBS}", factors.join(" × "));
    let key = if plan.axes.is_empty() { "repeat" } else { "sweep" };
    errors.push(SpecError::new(&KeyPath::of(key), message));
}
