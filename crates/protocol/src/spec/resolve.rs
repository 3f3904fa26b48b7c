//! From a spec and the files it speaks of to the plan of a job.
//!
//! Both the command line and the server resolve a spec: what the first accepts the second accepts too, and from
//! equal files both make the same plan.

use std::collections::BTreeSet;

use model::network::MAX_ENDPOINTS;
use model::plan::{Axis, Content, Input, MAX_SUBJOBS, Plan, Repeat, Split};
use model::{BlobHash, ByteSize, Permits, Resources, Sealing};

use super::aggregate::{aggregates, outputs};
use super::error::{KeyPath, SpecError, SpecErrors};
use super::files::SpecFiles;
use super::path::file_name;
use super::placeholder::holes;
use super::placement::{check_swept_files, inputs, split, split_path, stdin};
use super::scope::Scope;
use super::sweep::{Axes, axes};
use super::types::{AggregateSpec, ColumnSpec, Spec};
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
    check_sizes(spec)?;
    check_names(spec, &mut errors);
    let (work, all) = used_holes(spec);
    let placed = inputs(spec, files, &mut errors);
    let split = split(spec, &work, &placed, files, &mut errors);
    let before = errors.0.len();
    let Axes { axes, names, names_known } = match &spec.sweep {
        Some(sweep) => axes(sweep, &work, &all, files, &mut errors),
        None => Axes { axes: Vec::new(), names: Vec::new(), names_known: true },
    };
    let values_known = errors.0.len() == before;
    let chunk = split_path(spec, &placed);
    let chunks = split.as_ref().zip(chunk.clone()).map(|((_, index), path)| Split {
        path,
        chunks: index.chunks.iter().map(|range| range.chunk).collect(),
    });
    let plan = outline(spec, application, placed.whole, axes, chunks);
    check_number(&plan, &mut errors);
    check_disk(&plan, &mut errors);
    let scope = Scope {
        spec,
        inputs: placed.paths,
        chunk,
        records: split.as_ref().map_or(0, |(_, index)| index.records),
        axes: &plan.axes,
        names,
        names_known,
        values_known,
    };
    check_swept_files(&scope, &mut errors);
    let words = spec.command.iter().enumerate();
    let command =
        words.map(|(n, word)| scope.template(word, &KeyPath::of("command").index(n), &mut errors)).collect();
    let variables = spec.env.iter();
    let env = variables
        .map(|(name, value)| {
            (name.clone(), scope.template(value, &KeyPath::of("env").key(name), &mut errors))
        })
        .collect();
    let stdin = spec.stdin.as_ref().and_then(|text| stdin(text, &scope, &mut errors));
    let outputs = outputs(&scope, &mut errors);
    let aggregate = aggregates(&scope, &plan, &outputs, &mut errors);
    errors.none()?;
    Ok(Resolved { plan: Plan { command, env, stdin, outputs, aggregate, ..plan }, split })
}

/// The plan without what is made of templates, so that these can be judged by it.
fn outline(
    spec: &Spec,
    application: BlobHash,
    inputs: Vec<Input>,
    axes: Vec<Axis>,
    split: Option<Split>,
) -> Plan {
    let sealing = if spec.sealed { Sealing::OnRequest } else { Sealing::Off };
    let needs = Permits { network: spec.network.reach(), display: spec.app.gui.is_some(), sealing };
    Plan {
        name: name(spec),
        application,
        command: Vec::new(),
        env: Vec::new(),
        stdin: None,
        inputs,
        axes,
        split,
        repeat: spec.repeat.map(|repeat| Repeat { times: repeat.times, seed: repeat.seed }),
        outputs: Vec::new(),
        aggregate: Vec::new(),
        resources: Resources { needs, ..spec.resources },
        limits: spec.limits,
        network: spec.network.clone(),
        display: spec.app.gui,
        attempts: spec.attempts,
    }
}

fn name(spec: &Spec) -> String {
    let program = || spec.program().and_then(file_name);
    spec.name.as_deref().or_else(program).unwrap_or("job").to_owned()
}

/// Most entries of `inputs`, of `outputs` and `aggregate`, and of `sweep.values`: what is compared pair by pair
/// must not keep a server busy.
pub const MAX_INPUTS: usize = 1_024;
pub const MAX_OUTPUTS: usize = 256;
pub const MAX_SWEEP_NAMES: usize = 64;

fn check_sizes(spec: &Spec) -> Result<(), SpecErrors> {
    let values = spec.sweep.as_ref().map_or(0, |sweep| sweep.values.len());
    let sizes = [
        (KeyPath::of("inputs"), spec.inputs.len(), MAX_INPUTS),
        (KeyPath::of("outputs"), spec.outputs.len(), MAX_OUTPUTS),
        (KeyPath::of("aggregate"), spec.aggregate.len(), MAX_OUTPUTS),
        (KeyPath::of("sweep").key("values"), values, MAX_SWEEP_NAMES),
        (KeyPath::of("network").key("allow"), spec.network.allow.len(), MAX_ENDPOINTS),
    ];
    let mut errors = SpecErrors(Vec::new());
    for (path, size, most) in sizes {
        if size > most {
            errors
                .push(SpecError::new(&path, format!("{size} entries are more than the {most} there may be")));
        }
    }
    errors.none()
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

/// Inputs count against a subjob's disk: what can't even be laid out is refused before anybody fetches it.
fn check_disk(plan: &Plan, errors: &mut SpecErrors) {
    let shared: u64 = plan.inputs.iter().map(|input| input.size).sum();
    let columns = plan.axes.iter().flat_map(|axis| &axis.columns).filter_map(|column| column.files.as_ref());
    let swept: u64 = columns.map(|files| files.iter().map(|content| content.size).max().unwrap_or(0)).sum();
    let chunks = plan.split.as_ref().map(|split| split.chunks.iter().map(|chunk| chunk.size).max());
    let largest = ByteSize(shared + swept + chunks.flatten().unwrap_or(0));
    let disk = plan.resources.disk;
    if largest > disk {
        let message = format!("the inputs of a subjob take up to {largest}, more than its disk of {disk}");
        let path = KeyPath::of("resources").key("disk");
        errors.push(SpecError::new(&path, message).help("raise resources.disk, or split the input further"));
    }
}

fn check_number(plan: &Plan, errors: &mut SpecErrors) {
    if plan.subjobs().is_some() {
        return;
    }
    let mut factors: Vec<u64> = plan.axes.iter().map(Axis::rows).collect();
    factors.extend(plan.split.as_ref().map(|split| split.chunks.len() as u64));
    factors.extend(plan.repeat.map(|repeat| repeat.times));
    let product = factors.iter().try_fold(1u128, |product, factor| product.checked_mul(u128::from(*factor)));
    let product = product.map_or_else(|| "more than 2^128".to_owned(), |product| product.to_string());
    let factors: Vec<String> = factors.iter().map(u64::to_string).collect();
    let message = format!("{} = {product} subjobs are too many: at most {MAX_SUBJOBS}", factors.join(" × "));
    let key = if plan.axes.is_empty() { "repeat" } else { "sweep" };
    errors.push(SpecError::new(&KeyPath::of(key), message));
}
