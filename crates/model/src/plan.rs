//! The plan of a job: the rule from which its subjobs are made (§2.1 step 3) and joined again.
//!
//! A plan is one value however many subjobs it stands for: a template, and axes whose sizes multiply. Which
//! subjob is which is index arithmetic in `job-manager`; where a plan comes from is `protocol::spec`.

use serde::{Deserialize, Serialize};

use crate::display::DisplaySize;
use crate::ids::BlobHash;
use crate::limits::{Limits, Resources};
use crate::network::NetworkAccess;

/// Everything about a job but its progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    /// The manifest of the sandboxed application.
    pub application: BlobHash,
    /// `command[0]` is what the program sees as its own name; which file runs is the manifest's `program`.
    pub command: Vec<Template>,
    pub env: Vec<(String, Template)>,
    /// File of the working directory that is the program's standard input.
    pub stdin: Option<Template>,
    /// Files that every subjob gets.
    pub inputs: Vec<Input>,
    /// The first axis varies slowest; after the axes come the chunks of `split`, then `repeat`.
    pub axes: Vec<Axis>,
    pub split: Option<Split>,
    pub repeat: Option<Repeat>,
    pub outputs: Vec<Output>,
    pub aggregate: Vec<Aggregate>,
    pub resources: Resources,
    pub limits: Limits,
    #[serde(default)]
    pub network: NetworkAccess,
    /// The private display that each subjob gets, if it gets one.
    #[serde(default)]
    pub display: Option<DisplaySize>,
    /// Attempts that may fail before the subjob is failed (§4.2.3: three).
    pub attempts: u32,
}

/// A text with holes that are filled per subjob. What is equal for all subjobs is text already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Piece {
    Text(String),
    /// The subjob's index, zero-padded to `width` digits.
    Index {
        width: u8,
    },
    /// `Repeat::seed` plus the subjob's index.
    Seed,
    /// The value that the subjob has on an axis.
    Value {
        axis: u32,
        column: u32,
        part: ValuePart,
    },
}

/// Which part of an axis' value a placeholder asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ValuePart {
    Whole,
    /// The last component of a path.
    Name,
    /// The last component without its last extension.
    Stem,
}

impl ValuePart {
    /// The part of a value that is asked for.
    pub fn of(self, value: &str) -> &str {
        let name = || {
            let path = value.trim_end_matches('/');
            path.rsplit_once('/').map_or(path, |(_, name)| name)
        };
        match self {
            ValuePart::Whole => value,
            ValuePart::Name => name(),
            // A name that starts with its only dot has no extension.
            ValuePart::Stem => match name().rsplit_once('.') {
                Some((stem, _)) if !stem.is_empty() && name() != ".." => stem,
                _ => name(),
            },
        }
    }
}

/// A file that lies in a subjob's working directory before it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Path below the working directory.
    pub path: String,
    pub hash: BlobHash,
    pub size: u64,
}

/// One independent direction of a parameter sweep: columns of equal length that vary together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    pub columns: Vec<Column>,
}

impl Axis {
    pub fn rows(&self) -> u64 {
        self.columns.first().map_or(0, |column| column.values.len() as u64)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub values: Values,
    /// For a column of input files, the content of each: the value is then its path in the working directory.
    pub files: Option<Vec<Content>>,
}

/// A file's bytes by name and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub hash: BlobHash,
    pub size: u64,
}

/// Many short texts in two heap objects, so that a sweep of a million values costs its characters and no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    text: String,
    /// End of each value in `text`.
    ends: Vec<u32>,
}

/// All values of a column together are longer than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the values of one column are longer than 4 GiB together")]
pub struct ValuesTooLong;

impl Values {
    pub fn push(&mut self, value: &str) -> Result<(), ValuesTooLong> {
        let end = u32::try_from(self.text.len() + value.len()).map_err(|_| ValuesTooLong)?;
        self.text.push_str(value);
        self.ends.push(end);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, row: usize) -> Option<&str> {
        let end = *self.ends.get(row)? as usize;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(start..end)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|row| self.get(row))
    }
}

/// An input that is cut into runs of whole records; each subjob gets one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Path of the chunk below the working directory.
    pub path: String,
    pub chunks: Vec<Chunk>,
}

/// A run of records: a range of the whole input that has a name of its own, so it can be verified alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub hash: BlobHash,
    pub size: u64,
    pub records: u64,
}

/// The same command many times, each with a seed of its own (Monte Carlo).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    pub times: u64,
    pub seed: u64,
}

/// A file that a subjob must leave in its working directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub path: Template,
    /// Whether its absence is no failure.
    pub optional: bool,
}

/// How the subjobs' outputs become one result (§2.1: "a single logical output").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aggregate {
    Concat(Concat),
    Table(Table),
    /// Keeps a file of each subjob under a name of its own.
    Files {
        from: Source,
        to: Template,
    },
}

/// Which file of a subjob an aggregate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    Stdout,
    Stderr,
    /// Position in [`Plan::outputs`].
    Output(u32),
}

/// Lines of all subjobs, one after the other in the order of their index unless sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concat {
    pub from: Source,
    /// Path in the result.
    pub out: String,
    /// Lines at the start of each file that are kept once, from the first subjob.
    pub header_lines: u32,
    /// Lines that start with this are comments.
    pub comment: Option<String>,
    pub comments: Comments,
    /// Whether runs of blanks become one, as column widths differ from part to part.
    pub squeeze_blanks: bool,
    pub sort: Vec<SortKey>,
    /// Lines kept at most, after sorting; header and comments not counted.
    pub top: Option<u64>,
}

/// What becomes of comment lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comments {
    /// Those before the first other line of the first subjob are kept, at the head.
    Head,
    Drop,
}

/// One criterion of an order; ties go to the next, and at last to the order of the subjobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortKey {
    /// Field from 1 of a line (blank-separated) or of a table row; the whole line if absent.
    pub field: Option<u32>,
    pub numeric: bool,
    pub descending: bool,
}

/// One CSV row per subjob, or per match of `row` in the subjob's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub from: Source,
    pub out: String,
    /// Regular expression; each match is a row, and the columns look inside the match alone.
    pub row: Option<String>,
    pub columns: Vec<TableColumn>,
    pub sort: Vec<SortKey>,
    pub top: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableColumn {
    pub name: String,
    pub value: CellSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CellSource {
    /// A value the subjob was made with.
    Template(Template),
    /// The first capture group of the first match (the whole match if there is no group); empty without a match.
    Regex(String),
}

/// Most subjobs one job may have: indexes and counters stay far from overflow.
pub const MAX_SUBJOBS: u64 = 100_000_000;

impl Plan {
    /// Number of subjobs, or nothing when it exceeds [`MAX_SUBJOBS`].
    pub fn subjobs(&self) -> Option<u64> {
        let axes = self.axes.iter().try_fold(1u64, |product, axis| product.checked_mul(axis.rows()))?;
        let chunks = self.split.as_ref().map_or(1, |split| split.chunks.len() as u64);
        let times = self.repeat.map_or(1, |repeat| repeat.times);
        axes.checked_mul(chunks)?.checked_mul(times).filter(|total| *total <= MAX_SUBJOBS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_back_as_they_were_pushed() {
        let mut values = Values::default();
        for value in ["a", "", "long one", "é"] {
            values.push(value).expect("short");
        }
        assert_eq!(values.iter().collect::<Vec<_>>(), ["a", "", "long one", "é"]);
        assert_eq!(values.get(4), None);
    }

    #[test]
    fn parts_of_a_path() {
        let check = |value: &str, name: &str, stem: &str| {
            assert_eq!(ValuePart::Whole.of(value), value);
            assert_eq!(ValuePart::Name.of(value), name, "{value}");
            assert_eq!(ValuePart::Stem.of(value), stem, "{value}");
        };
        check("a/b/query.fa.gz", "query.fa.gz", "query.fa");
        check("query.fa", "query.fa", "query");
        check("query", "query", "query");
        check("a/.profile", ".profile", ".profile");
        check("a.b/c", "c", "c");
        check("a/dir/", "dir", "dir");
        check("..", "..", "..");
        check("é/ü.ä", "ü.ä", "ü");
        check("", "", "");
    }
}
