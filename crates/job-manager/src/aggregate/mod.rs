//! One logical result out of the outputs of many subjobs (§2.1 step 9).
//!
//! An [`Aggregator`] is fed the texts of the succeeded subjobs in the order of their index and writes one file.
//! Without a sort that file streams through in constant memory; with one, the lines are kept until the end, up
//! to [`MAX_KEPT`]. Lines are bytes and stay what they were, whatever their encoding. Reading the subjobs' files
//! and storing the result is the server's part.

mod concat;
mod csv;
mod kept;
mod lines;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use model::ByteSize;
use model::plan::{Aggregate, Plan};
use thiserror::Error;

use crate::decompose;
use concat::Concat;
use table::Table;

/// Most memory that lines waiting to be sorted may take, bookkeeping included. Positions in it are 32 bits wide.
pub const MAX_KEPT: ByteSize = ByteSize(u32::MAX as u64);

/// Why an aggregate can't be started or carried on; `out` is its path in the result.
#[derive(Debug, Error)]
pub enum AggregateError {
    #[error("the job has no aggregate {which}")]
    NoAggregate { which: usize },
    #[error("aggregate {which} keeps a file of each subjob and joins nothing")]
    KeepsFiles { which: usize },
    #[error("{out}: the fields to sort by count from 1")]
    FieldZero { out: String },
    #[error("{out}: no column {field} to sort by, the table has {columns}")]
    NoColumn { out: String, field: u32, columns: usize },
    #[error("{out}: the regular expression of the rows is not usable")]
    RowPattern { out: String, source: regex::Error },
    #[error("{out}: the regular expression of column '{column}' is not usable")]
    ColumnPattern { out: String, column: String, source: regex::Error },
    #[error("{out}: the plan has no subjob {index} that fits its templates")]
    NoSubjob { out: String, index: u64 },
    #[error("{out}: subjob {index} was added after subjob {last}")]
    OutOfOrder { out: String, index: u64, last: u64 },
    #[error(
        "{out}: the lines to sort need more than {limit}; keep fewer with 'top', or drop 'sort' and sort the result"
    )]
    TooLarge { out: String, limit: ByteSize },
    #[error("{out}: the result could not be written")]
    Write { out: String, source: io::Error },
}

/// One aggregate of a plan at work. Making one is also the check that the aggregate is sound.
#[derive(Debug)]
pub struct Aggregator<'plan> {
    out: &'plan str,
    last: Option<u64>,
    rule: Rule<'plan>,
}

#[derive(Debug)]
enum Rule<'plan> {
    Concat(Concat<'plan>),
    Table(Table<'plan>),
}

impl<'plan> Aggregator<'plan> {
    /// The aggregate at position `which` of [`Plan::aggregate`]; one that keeps files is an error, see [`target`].
    pub fn new(plan: &'plan Plan, which: usize) -> Result<Self, AggregateError> {
        let (out, rule) = match plan.aggregate.get(which) {
            Some(Aggregate::Concat(rule)) => (&rule.out, Rule::Concat(Concat::new(rule)?)),
            Some(Aggregate::Table(rule)) => (&rule.out, Rule::Table(Table::new(plan, rule)?)),
            Some(Aggregate::Files { .. }) => return Err(AggregateError::KeepsFiles { which }),
            None => return Err(AggregateError::NoAggregate { which }),
        };
        Ok(Aggregator { out, last: None, rule })
    }

    /// Takes the text of one succeeded subjob. Indexes must grow from call to call. `out` gets many small writes,
    /// so it should be buffered.
    pub fn add(&mut self, index: u64, bytes: &[u8], out: &mut dyn Write) -> Result<(), AggregateError> {
        if let Some(last) = self.last.filter(|last| *last >= index) {
            return Err(AggregateError::OutOfOrder { out: self.out.to_owned(), index, last });
        }
        self.last = Some(index);
        match &mut self.rule {
            Rule::Concat(concat) => concat.add(bytes, out),
            Rule::Table(table) => table.add(index, bytes, out),
        }
        .map_err(|stop| stop.at(self.out))
    }

    /// Writes what waited for the last subjob.
    pub fn finish(self, out: &mut dyn Write) -> Result<(), AggregateError> {
        match self.rule {
            Rule::Concat(concat) => concat.finish(out),
            Rule::Table(table) => table.finish(out),
        }
        .map_err(|stop| stop.at(self.out))
    }
}

/// Where in the result an aggregate that keeps files puts the one of the subjob at `index`; nothing if there is
/// no such subjob or the aggregate is of another kind.
pub fn target(plan: &Plan, which: usize, index: u64) -> Option<String> {
    match plan.aggregate.get(which)? {
        Aggregate::Files { to, .. } => decompose::render(to, plan, index),
        Aggregate::Concat(_) | Aggregate::Table(_) => None,
    }
}

/// Why a rule stopped; the aggregator adds which result it was about.
#[derive(Debug)]
enum Stop {
    NoSubjob { index: u64 },
    TooLarge,
    Write(io::Error),
}

impl From<io::Error> for Stop {
    fn from(source: io::Error) -> Self {
        Stop::Write(source)
    }
}

impl Stop {
    fn at(self, out: &str) -> AggregateError {
        let out = out.to_owned();
        match self {
            Stop::NoSubjob { index } => AggregateError::NoSubjob { out, index },
            Stop::TooLarge => AggregateError::TooLarge { out, limit: MAX_KEPT },
            Stop::Write(source) => AggregateError::Write { out, source },
        }
    }
}
