//! What the aggregates of a spec mean: where they read from, how they sort, where they write.

use std::collections::BTreeSet;

use model::plan::{
    Aggregate, CellSource, Comments, Concat, Output, Piece, Plan, SortKey, Source, Table, TableColumn,
    Template,
};
use regex::RegexBuilder;

use super::error::{KeyPath, SpecError, SpecErrors};
use super::path::check_path;
use super::placeholder::holes;
use super::rendering::{Equal, check_distinct, check_paths, likeness, rendering_limit};
use super::scope::Scope;
use super::types::{AggregateSpec, ColumnSpec, CommentsRule, ConcatSpec, FilesSpec, OutputSpec, TableSpec};

/// Bound on a compiled regular expression, so that a spec can't fill the server's memory.
pub const MAX_REGEX_BYTES: usize = 1 << 20;

/// Reads a job's aggregates; `plan` has all that tells how many subjobs there are.
pub(super) fn aggregates(
    scope: &Scope<'_>,
    plan: &Plan,
    outputs: &[Output],
    errors: &mut SpecErrors,
) -> Vec<Aggregate> {
    let at = KeyPath::of("aggregate");
    if scope.spec.aggregate.is_empty() {
        return kept(outputs);
    }
    let mut aggregates = Vec::new();
    for (number, spec) in scope.spec.aggregate.iter().enumerate() {
        let path = at.index(number);
        let mut reading = Reading { scope, plan, outputs, path: &path, errors };
        aggregates.push(match spec {
            AggregateSpec::Concat(spec) => reading.concat(spec),
            AggregateSpec::Table(spec) => reading.table(spec),
            AggregateSpec::Files(spec) => reading.files(spec),
        });
    }
    check_targets(&aggregates, &at, errors);
    aggregates
}

/// Without an aggregate all that was declared is kept, and standard output if nothing was.
fn kept(outputs: &[Output]) -> Vec<Aggregate> {
    let below_index = |path: &Template| {
        let mut pieces = vec![Piece::Index { width: 0 }];
        match path.0.split_first() {
            Some((Piece::Text(text), rest)) => {
                pieces.push(Piece::Text(format!("/{text}")));
                pieces.extend_from_slice(rest);
            }
            _ => {
                pieces.push(Piece::Text("/".to_owned()));
                pieces.extend_from_slice(&path.0);
            }
        }
        Template(pieces)
    };
    if outputs.is_empty() {
        let stdout = Template(vec![Piece::Text("stdout".to_owned())]);
        return vec![Aggregate::Files { from: Source::Stdout, to: below_index(&stdout) }];
    }
    let outputs = outputs.iter().enumerate();
    outputs
        .map(|(number, output)| Aggregate::Files {
            from: Source::Output(number as u32),
            to: below_index(&output.path),
        })
        .collect()
}

/// One aggregate at its place in the spec.
struct Reading<'a> {
    scope: &'a Scope<'a>,
    plan: &'a Plan,
    outputs: &'a [Output],
    path: &'a KeyPath,
    errors: &'a mut SpecErrors,
}

impl Reading<'_> {
    fn error(&mut self, key: &str, message: impl Into<String>, help: &str) {
        self.errors.push(SpecError::new(&self.path.key(key), message).help(help));
    }

    fn from(&mut self, from: Option<&str>) -> Source {
        let outputs = &self.scope.spec.outputs;
        let position = |name: &str| outputs.iter().position(|output| plain(&output.path) == plain(name));
        match from {
            Some("stdout") => Source::Stdout,
            Some("stderr") => Source::Stderr,
            Some(name) => match position(name) {
                Some(position) => Source::Output(position as u32),
                None => {
                    let known = outputs.iter().map(|output| output.path.as_str()).chain(["stdout", "stderr"]);
                    let error = SpecError::new(&self.path.key("from"), format!("'{name}' is not an output"))
                        .help(format!("add it: outputs = [\"{name}\"]"));
                    self.errors.push(error.suggest(name, known));
                    Source::Stdout
                }
            },
            None if outputs.is_empty() => Source::Stdout,
            None if outputs.len() == 1 => Source::Output(0),
            None => {
                let message = "key 'from' is missing: there are several outputs";
                self.errors.push(SpecError::new(self.path, message).help("write the path of one of them"));
                Source::Stdout
            }
        }
    }

    fn out(&mut self, out: &str) -> String {
        if let Some(hole) = holes(out).next() {
            let message = format!("'{{{hole}}}' can't be here: this is one file for all subjobs");
            self.error("out", message, "to keep a file of each subjob, write how = \"files\"");
        } else if let Err(problem) = check_path(out) {
            let help = "write a path below the job's result, such as hits.tbl";
            self.error("out", format!("the path '{out}' {problem}"), help);
        }
        out.to_owned()
    }

    fn concat(&mut self, spec: &ConcatSpec) -> Aggregate {
        let from = self.from(spec.from.as_deref());
        if spec.comments.is_some() && spec.comment.is_none() {
            self.error("comments", "nothing says which lines are comments", "add comment = \"#\"");
        }
        if spec.comment.as_deref() == Some("") {
            self.error(
                "comment",
                "every line starts with an empty text",
                "write comment = \"#\", or leave it out",
            );
        }
        let sort = self.sort(&spec.sort, |name| match name.strip_prefix("field:") {
            Some(field) => field.parse().ok().filter(|field| *field > 0).map(Some),
            None => (name == "line").then_some(None),
        });
        Aggregate::Concat(Concat {
            from,
            out: self.out(&spec.out),
            header_lines: spec.header_lines,
            comment: spec.comment.clone(),
            comments: match spec.comments {
                Some(CommentsRule::Drop) => Comments::Drop,
                Some(CommentsRule::Head) | None => Comments::Head,
            },
            squeeze_blanks: spec.squeeze_blanks,
            sort,
            top: spec.top,
        })
    }

    fn sort(&mut self, keys: &[String], field: impl Fn(&str) -> Option<Option<u32>>) -> Vec<SortKey> {
        let mut sort = Vec::with_capacity(keys.len());
        for (number, key) in keys.iter().enumerate() {
            let (mut name, mut numeric, mut descending) = (key.as_str(), false, false);
            while let Some((rest, modifier)) = name.rsplit_once(':') {
                match modifier {
                    "numeric" => numeric = true,
                    "descending" => descending = true,
                    _ => break,
                }
                name = rest;
            }
            match field(name) {
                Some(field) => sort.push(SortKey { field, numeric, descending }),
                None => {
                    let path = self.path.key("sort").index(number);
                    self.errors.push(self.bad_sort_key(name, &path));
                }
            }
        }
        sort
    }

    fn bad_sort_key(&self, name: &str, path: &KeyPath) -> SpecError {
        let error = SpecError::new(path, format!("'{name}' is nothing to sort by"));
        let number = match path.0.get(1) {
            Some(super::error::Key::Index(number)) => *number,
            _ => 0,
        };
        match self.scope.spec.aggregate.get(number) {
            Some(AggregateSpec::Table(table)) => error
                .help("write the name of a column, then :numeric and :descending if wanted")
                .suggest(name, table.columns.iter().map(column_name)),
            _ => error.help("write line or field:N (from 1), then :numeric and :descending if wanted"),
        }
    }

    fn table(&mut self, spec: &TableSpec) -> Aggregate {
        let from = self.from(spec.from.as_deref());
        if spec.columns.is_empty() {
            self.error("columns", "the table has no columns", "name a sweep value, or write { name, regex }");
        }
        if let Some(row) = &spec.row {
            self.regex(row, &self.path.key("row"));
        }
        let mut names = BTreeSet::new();
        let mut columns = Vec::with_capacity(spec.columns.len());
        for (number, column) in spec.columns.iter().enumerate() {
            let path = self.path.key("columns").index(number);
            let name = column_name(column);
            if !names.insert(name) {
                self.errors.push(SpecError::new(&path, format!("two columns are named '{name}'")));
            }
            columns.push(TableColumn { name: name.to_owned(), value: self.cell(column, &path) });
        }
        let position = |name: &str| spec.columns.iter().position(|column| column_name(column) == name);
        let sort = self.sort(&spec.sort, |name| position(name).map(|column| Some(column as u32 + 1)));
        Aggregate::Table(Table {
            from,
            out: self.out(&spec.out),
            row: spec.row.clone(),
            columns,
            sort,
            top: spec.top,
        })
    }

    fn cell(&mut self, column: &ColumnSpec, path: &KeyPath) -> CellSource {
        match column {
            ColumnSpec::Known(name) => CellSource::Template(self.known(name, path)),
            ColumnSpec::Value { value, .. } => {
                CellSource::Template(self.scope.template(value, &path.key("value"), self.errors))
            }
            ColumnSpec::Regex { regex, .. } => {
                self.regex(regex, &path.key("regex"));
                CellSource::Regex(regex.clone())
            }
        }
    }

    /// The column that is only a name: a sweep value goes before `index` and `seed`.
    fn known(&mut self, name: &str, path: &KeyPath) -> Template {
        if let Some(piece) = self.scope.column(name) {
            return Template(vec![piece]);
        }
        if matches!(name, "index" | "seed") {
            return self.scope.template(&format!("{{{name}}}"), path, self.errors);
        }
        if self.scope.names_known {
            let names = self.scope.names.iter().map(String::as_str);
            let error = SpecError::new(path, format!("'{name}' is not a sweep value, index or seed"))
                .help(format!("write where it comes from: {{ name = \"{name}\", regex = '…' }}"));
            self.errors.push(error.suggest(name, names.chain(["index", "seed"])));
        }
        Template::default()
    }

    fn regex(&mut self, regex: &str, path: &KeyPath) {
        if let Err(error) = RegexBuilder::new(regex).size_limit(MAX_REGEX_BYTES).build() {
            // The parser's message draws the expression over several lines; its last line says what is wrong.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            self.errors.push(SpecError::new(path, format!("the regular expression can't be used: {why}")));
        }
    }

    fn files(&mut self, spec: &FilesSpec) -> Aggregate {
        let from = self.from(spec.from.as_deref());
        let Some(to) = &spec.to else {
            let kept = kept(self.outputs).into_iter().find_map(|aggregate| match aggregate {
                Aggregate::Files { from: of, to } if of == from => Some(to),
                _ => None,
            });
            let name = if from == Source::Stderr { "stderr" } else { "stdout" };
            let stream = || Template(vec![Piece::Index { width: 0 }, Piece::Text(format!("/{name}"))]);
            return Aggregate::Files { from, to: kept.unwrap_or_else(stream) };
        };
        let path = self.path.key("to");
        let before = self.errors.0.len();
        let to = self.scope.template(to, &path, self.errors);
        if self.errors.0.len() == before && self.scope.values_known && self.plan.subjobs().is_some() {
            self.check_target(&to, &path);
        }
        Aggregate::Files { from, to }
    }

    fn check_target(&mut self, to: &Template, path: &KeyPath) {
        let limit = rendering_limit(self.scope.spec.aggregate.len());
        if let Err(message) = check_paths(to, self.scope.axes, limit) {
            self.errors.push(SpecError::new(path, message));
            return;
        }
        match check_distinct(to, self.plan, limit) {
            Ok(()) => {}
            Err(Equal::Text(text)) => {
                let message = format!("two subjobs would both be kept as '{text}'");
                self.errors.push(SpecError::new(path, message).help("begin it with {index}/"));
            }
            Err(Equal::Unknown) => {
                let message = "nothing shows that each subjob is kept under another name";
                self.errors.push(SpecError::new(path, message).help("begin it with {index}/"));
            }
        }
    }
}

/// `{out}/` and `./` in front mean the working directory, where outputs are anyway.
pub(super) fn plain(path: &str) -> &str {
    path.strip_prefix("{out}/").or_else(|| path.strip_prefix("./")).unwrap_or(path)
}

/// The outputs' templates, checked for every subjob.
pub(super) fn outputs(scope: &Scope<'_>, errors: &mut SpecErrors) -> Vec<Output> {
    let at = KeyPath::of("outputs");
    let mut outputs: Vec<Output> = Vec::new();
    let limit = rendering_limit(scope.spec.outputs.len());
    for (number, OutputSpec { path, optional }) in scope.spec.outputs.iter().enumerate() {
        let key = at.index(number);
        let before = errors.0.len();
        let template = scope.template(plain(path), &key, errors);
        if errors.0.len() == before && scope.values_known {
            if let Err(message) = check_paths(&template, scope.axes, limit) {
                errors.push(SpecError::new(&key, message));
            } else if outputs.iter().any(|output| output.path == template) {
                errors.push(SpecError::new(&key, format!("output '{path}' is there twice")));
            }
        }
        outputs.push(Output { path: template, optional: *optional });
    }
    outputs
}

fn column_name(column: &ColumnSpec) -> &str {
    match column {
        ColumnSpec::Known(name) | ColumnSpec::Value { name, .. } | ColumnSpec::Regex { name, .. } => name,
    }
}

/// Checks that no two aggregates write one file, and none a file where another needs a directory.
fn check_targets(aggregates: &[Aggregate], at: &KeyPath, errors: &mut SpecErrors) {
    let target = |aggregate: &Aggregate| match aggregate {
        Aggregate::Concat(concat) => ("out", Template(vec![Piece::Text(concat.out.clone())])),
        Aggregate::Table(table) => ("out", Template(vec![Piece::Text(table.out.clone())])),
        Aggregate::Files { to, .. } => ("to", to.clone()),
    };
    let takes = |template: &Template, text: &str| {
        likeness(template, text).whole
            || likeness(template, &format!("{text}/")).start
            || parents(text).any(|parent| likeness(template, parent).whole)
    };
    let collide = |a: &Template, b: &Template| match (a.0.as_slice(), b.0.as_slice()) {
        (_, [Piece::Text(text)]) => takes(a, text),
        ([Piece::Text(text)], _) => takes(b, text),
        _ => a == b,
    };
    for (number, aggregate) in aggregates.iter().enumerate() {
        let (key, to) = target(aggregate);
        if aggregates[..number].iter().any(|other| collide(&target(other).1, &to)) {
            let message = "another aggregate writes to this place of the result too";
            errors.push(SpecError::new(&at.index(number).key(key), message));
        }
    }
}

/// The directories above a path.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}
