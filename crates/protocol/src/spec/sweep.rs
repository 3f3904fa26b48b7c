//! The axes of a parameter sweep.

use std::collections::BTreeSet;

use model::plan::{Axis, Column, Values};

use super::error::{KeyPath, SpecError, SpecErrors};
use super::files::SpecFiles;
use super::parameters::{MAX_VALUES, Wanted, read_parameters};
use super::path::file_name;
use super::range::range_values;
use super::scope::asks_for;
use super::types::{Sweep, SweepMode, SweepValues, TableFile};

/// What a sweep gives.
pub(super) struct Axes {
    pub axes: Vec<Axis>,
    /// Names of all values, also of a table's columns that nothing asks for and no axis therefore has.
    pub names: Vec<String>,
    /// Whether `names` has all: not after an error in the table file.
    pub names_known: bool,
}

/// Reads the values of a sweep.
///
/// `work` has the placeholders of what a subjob does (its command, environment and input), `all` also those of its
/// outputs and results.
pub(super) fn axes(
    sweep: &Sweep,
    work: &BTreeSet<String>,
    all: &BTreeSet<String>,
    files: &mut dyn SpecFiles,
    errors: &mut SpecErrors,
) -> Axes {
    let at = KeyPath::of("sweep");
    // An axis, the key it is told at and what it is called in a message.
    let mut parts: Vec<(Axis, KeyPath, String)> = Vec::new();
    let mut names_known = true;
    let mut names: Vec<String> = sweep.values.iter().map(|(name, _)| name.clone()).collect();
    if let Some(table) = &sweep.table {
        let path = at.key("table");
        match table_axis(table, sweep, work, all, files, &mut names) {
            Ok(axis) => parts.push((axis, path, format!("'{}'", table.file))),
            Err(error) => {
                names_known = false;
                errors.push(error);
            }
        }
    }
    for (name, values) in &sweep.values {
        let path = at.key("values").key(name);
        let column = match column(name, values, &path, files) {
            Ok(column) => column,
            Err(error) => {
                errors.push(error);
                // Its placeholders are good even so, and no further error.
                Column { name: name.clone(), values: Values::default(), files: None }
            }
        };
        if column.files.is_none() && !work.iter().any(|hole| asks_for(hole, name)) {
            let message = format!("'{name}' is used nowhere: all its subjobs would do the same");
            errors.push(SpecError::new(&path, message).help(format!("add {{sweep.{name}}} to the command")));
        }
        parts.push((Axis { columns: vec![column] }, path, format!("'{name}'")));
    }
    if sweep.mode == SweepMode::Zip {
        return Axes { axes: zipped(parts, errors), names, names_known };
    }
    Axes { axes: parts.into_iter().map(|(axis, _, _)| axis).collect(), names, names_known }
}

/// All columns side by side in one axis.
fn zipped(parts: Vec<(Axis, KeyPath, String)>, errors: &mut SpecErrors) -> Vec<Axis> {
    let mut columns = Vec::new();
    let mut first: Option<(u64, String)> = None;
    for (axis, path, name) in parts {
        // Without values there has been an error already.
        let rows = axis.rows();
        match &first {
            _ if rows == 0 => {}
            None => first = Some((rows, name)),
            Some((expected, other)) if *expected != rows => {
                let values = if rows == 1 { "value" } else { "values" };
                let message = format!("{name} has {rows} {values}, but {other} has {expected}");
                errors.push(SpecError::new(&path, message).help("a zip needs equally many of each"));
            }
            Some(_) => {}
        }
        columns.extend(axis.columns);
    }
    vec![Axis { columns }]
}

fn table_axis(
    table: &TableFile,
    sweep: &Sweep,
    work: &BTreeSet<String>,
    all: &BTreeSet<String>,
    files: &mut dyn SpecFiles,
    names: &mut Vec<String>,
) -> Result<Axis, SpecError> {
    let path = KeyPath::of("sweep").key("table");
    let error = |message: String| SpecError::new(&path.key("file"), message);
    let is_used = |name: &str| all.iter().any(|hole| asks_for(hole, name));
    let wanted = Wanted { is_used: &is_used, inputs: &table.inputs };
    let parameters = read_parameters(&table.file, &wanted, files).map_err(error)?;
    let header = || parameters.header.iter().map(String::as_str);
    names.extend_from_slice(&parameters.header);
    for name in &table.inputs {
        if !header().any(|column| column == name) {
            let message = format!("'{}' has no column '{name}'", table.file);
            return Err(SpecError::new(&path.key("inputs"), message).suggest(name, header()));
        }
    }
    for column in &parameters.columns {
        if sweep.values.iter().any(|(name, _)| *name == column.name) {
            let message =
                format!("'{}' is a column of '{}' and a name in sweep.values", column.name, table.file);
            return Err(error(message).help("rename one of them"));
        }
    }
    let matters =
        |column: &Column| column.files.is_some() || work.iter().any(|hole| asks_for(hole, &column.name));
    // A placeholder with a slip of the finger is reported where it is.
    let is_known = |hole: &String| names.iter().any(|name| asks_for(hole, name));
    let has_unknown = work.iter().any(|hole| hole.starts_with("sweep.") && !is_known(hole));
    if !has_unknown && !parameters.columns.iter().any(matters) {
        let message = format!("no column of '{}' is used: all its subjobs would do the same", table.file);
        let example = header().next().unwrap_or("NAME");
        return Err(error(message).help(format!("add {{sweep.{example}}} to the command")));
    }
    Ok(Axis { columns: parameters.columns })
}

fn column(
    name: &str,
    spec: &SweepValues,
    path: &KeyPath,
    files: &mut dyn SpecFiles,
) -> Result<Column, SpecError> {
    if name.is_empty() || name.contains(['{', '}']) {
        return Err(SpecError::new(path, "a name must not be empty or have braces in it"));
    }
    match spec {
        SweepValues::List(list) => plain_column(name, list, path),
        SweepValues::Range { range } => {
            let path = path.key("range");
            let list = range_values(range).map_err(|message| SpecError::new(&path, message))?;
            plain_column(name, &list, &path)
        }
        SweepValues::Glob { glob } => file_column(name, glob, &path.key("glob"), files),
    }
}

fn plain_column(name: &str, list: &[String], path: &KeyPath) -> Result<Column, SpecError> {
    if list.is_empty() {
        return Err(SpecError::new(path, format!("'{name}' has no values")));
    }
    if list.len() > MAX_VALUES {
        let message = format!("'{name}' has {} values, more than {MAX_VALUES}", list.len());
        return Err(SpecError::new(path, message));
    }
    let mut values = Values::default();
    for (index, value) in list.iter().enumerate() {
        if value.contains('\0') {
            return Err(SpecError::new(&path.index(index), "a value must not have a NUL byte in it"));
        }
        values.push(value).map_err(|error| SpecError::new(path, error.to_string()))?;
    }
    Ok(Column { name: name.to_owned(), values, files: None })
}

fn file_column(
    name: &str,
    glob: &str,
    path: &KeyPath,
    files: &mut dyn SpecFiles,
) -> Result<Column, SpecError> {
    let error = |message: String| SpecError::new(path, message);
    let mut paths = files.glob(glob).map_err(|why| error(format!("'{glob}' can't be matched: {why}")))?;
    if paths.is_empty() {
        return Err(error(format!("no file matches '{glob}'"))
            .help("the pattern is relative to the directory of the spec; '*' does not match '/'"));
    }
    if paths.len() > MAX_VALUES {
        return Err(error(format!("'{glob}' matches {} files, more than {MAX_VALUES}", paths.len())));
    }
    // The plan must not depend on the order in which a directory is read.
    paths.sort_unstable();
    paths.dedup();
    let (mut values, mut contents) = (Values::default(), Vec::with_capacity(paths.len()));
    for path in &paths {
        let name = file_name(path).ok_or_else(|| error(format!("'{path}' names no file")))?;
        values.push(name).map_err(|why| error(why.to_string()))?;
        contents.push(files.content(path).map_err(|why| error(format!("'{path}' can't be read: {why}")))?);
    }
    Ok(Column { name: name.to_owned(), values, files: Some(contents) })
}
