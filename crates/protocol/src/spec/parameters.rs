//! Reads a parameter table: a CSV or TSV file whose rows are sets of values.

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use model::plan::{Column, Values};

use super::files::SpecFiles;
use super::path::file_name;

/// Largest parameter table, and most values that one name takes.
pub const MAX_TABLE_BYTES: usize = 256 << 20;
pub const MAX_VALUES: usize = 1_000_000;

/// Most columns of a parameter table.
pub const MAX_COLUMNS: usize = 4_096;

/// The columns of a table that a job needs.
pub(super) struct Wanted<'a> {
    /// Whether a text with placeholders asks for the column.
    pub is_used: &'a dyn Fn(&str) -> bool,
    /// Columns that hold paths of files.
    pub inputs: &'a [String],
}

/// What a parameter table says.
#[derive(Debug)]
pub(super) struct Parameters {
    pub header: Vec<String>,
    /// The wanted columns, in the order of the file.
    pub columns: Vec<Column>,
}

/// Reads the wanted columns of the table at `path`. Errors begin with the file and the line.
pub(super) fn read_parameters(
    path: &str,
    wanted: &Wanted<'_>,
    files: &mut dyn SpecFiles,
) -> Result<Parameters, String> {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut builder = ReaderBuilder::new();
    match extension {
        "csv" => builder.delimiter(b','),
        // A tab separates and nothing else means anything.
        "tsv" | "tab" => builder.delimiter(b'\t').quoting(false),
        _ => return Err(format!("'{path}' must end in .csv, .tsv or .tab")),
    };
    let bytes = files.read(path, MAX_TABLE_BYTES).map_err(|why| format!("'{path}' can't be read: {why}"))?;
    // Spreadsheets mark UTF-8 files by three bytes in front.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut reader = builder.from_reader(bytes);
    let header = reader.headers().map_err(|error| told(path, &error))?.clone();
    let mut table = Building::new(path, &header, wanted)?;
    let mut row = StringRecord::new();
    while reader.read_record(&mut row).map_err(|error| told(path, &error))? {
        let line = row.position().map_or(0, csv::Position::line);
        table.add(&row, line, files)?;
    }
    table.finish()
}

fn told(path: &str, error: &csv::Error) -> String {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{path}:{line}: expected {expected_len} fields as in the header, found {len}")
        }
        ErrorKind::Utf8 { .. } => format!("{path}:{line}: not UTF-8"),
        _ => format!("{path}:{line}: {error}"),
    }
}

/// The wanted columns so far.
struct Building<'a> {
    path: &'a str,
    header: Vec<String>,
    /// Position of each column in a row.
    fields: Vec<usize>,
    columns: Vec<Column>,
    rows: usize,
}

impl<'a> Building<'a> {
    fn new(path: &'a str, header: &StringRecord, wanted: &Wanted<'_>) -> Result<Self, String> {
        let names: Vec<String> = header.iter().map(str::to_owned).collect();
        if names.is_empty() {
            return Err(format!("'{path}' is empty: its first line must name the columns"));
        }
        if names.len() > MAX_COLUMNS {
            return Err(format!("{path}:1: more than {MAX_COLUMNS} columns"));
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::<Column>::new());
        for (field, name) in names.iter().enumerate() {
            let is_file = wanted.inputs.contains(name);
            if !is_file && !(wanted.is_used)(name) {
                continue;
            }
            if columns.iter().any(|column| column.name == *name) {
                return Err(format!("{path}:1: two columns are named '{name}'"));
            }
            fields.push(field);
            let files = is_file.then(Vec::new);
            columns.push(Column { name: name.clone(), values: Values::default(), files });
        }
        Ok(Building { path, header: names, fields, columns, rows: 0 })
    }

    fn add(&mut self, row: &StringRecord, line: u64, files: &mut dyn SpecFiles) -> Result<(), String> {
        let path = self.path;
        if self.rows == MAX_VALUES {
            return Err(format!("{path}:{line}: more than {MAX_VALUES} rows"));
        }
        self.rows += 1;
        for (column, field) in self.columns.iter_mut().zip(&self.fields) {
            let mut value =
                row.get(*field).expect("the reader refuses rows of another length than the header");
            if value.contains('\0') {
                return Err(format!("{path}:{line}: a NUL byte"));
            }
            if let Some(contents) = &mut column.files {
                let content = files
                    .content(value)
                    .map_err(|why| format!("{path}:{line}: '{value}' can't be read: {why}"))?;
                contents.push(content);
                value = file_name(value).ok_or_else(|| format!("{path}:{line}: '{value}' names no file"))?;
            }
            column.values.push(value).map_err(|error| format!("{path}:{line}: {error}"))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Parameters, String> {
        if self.rows == 0 {
            return Err(format!("'{}' has no rows below its header", self.path));
        }
        Ok(Parameters { header: self.header, columns: self.columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixtures::Files;

    /// The rows of the columns `a` and `f`, of which `f` holds files, or the error.
    fn check(path: &str, text: &[u8], expect: Result<&[&[&str]], &str>) {
        let mut files = Files::default().with(path, text).with("in/x.pdb", b"X").with("y.pdb", b"YY");
        let wanted = Wanted { is_used: &|name| name == "a", inputs: &["f".to_owned()] };
        let found = read_parameters(path, &wanted, &mut files).map(|parameters| {
            (0..parameters.columns[0].values.len())
                .map(|row| {
                    let cells = parameters.columns.iter().map(|column| column.values.get(row));
                    cells.map(|cell| cell.expect("a value per row").to_owned()).collect::<Vec<_>>()
                })
                .collect::<Vec<_>>()
        });
        let expect = expect
            .map_err(str::to_owned)
            .map(|rows| rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect());
        assert_eq!(found, expect);
    }

    #[test]
    fn tables_are_read_by_extension() {
        check(
            "t.csv",
            b"\xef\xbb\xbfa,b,f\r\n1,,in/x.pdb\r\n\"x, \"\"y\"\"\",2,y.pdb\r\n",
            Ok(&[&["1", "x.pdb"], &["x, \"y\"", "y.pdb"]]),
        );
        check("t.tsv", b"f\ta\ny.pdb\t\"q\n\nin/x.pdb\ta,b", Ok(&[&["y.pdb", "\"q"], &["x.pdb", "a,b"]]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        check("t.txt", b"", Err("'t.txt' must end in .csv, .tsv or .tab"));
        check("t.csv", b"", Err("'t.csv' is empty: its first line must name the columns"));
        check("t.csv", b"a,b\n", Err("'t.csv' has no rows below its header"));
        check("t.csv", b"a,b\n1,2\n3\n", Err("t.csv:3: expected 2 fields as in the header, found 1"));
        check("t.csv", b"a,a\n1,2\n", Err("t.csv:1: two columns are named 'a'"));
        check("t.csv", b"a,b\n1,\xff\n", Err("t.csv:2: not UTF-8"));
        check("t.csv", b"a,b\n1\0,2\n", Err("t.csv:2: a NUL byte"));
        check("t.csv", b"a,f\n1,z.pdb\n", Err("t.csv:2: 'z.pdb' can't be read: no such file"));
    }
}
