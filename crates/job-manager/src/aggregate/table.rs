//! A CSV table with a row per subjob, or per match of a regular expression in its text.
//!
//! Patterns see bytes: `.` is any byte but a line's end, `\d` and `\w` are ASCII, and `(?u:…)` asks for Unicode.
//! `^` and `$` match at each line, whether lines end in LF or CRLF. The engine takes time linear in the text
//! whatever the pattern, and [`PATTERN_SIZE`] bounds what a pattern may compile to.

use std::io::Write;

use model::plan::{self, CellSource, Plan, Template};
use regex::bytes::{Regex, RegexBuilder};

use super::csv::Row;
use super::kept::Kept;
use super::{AggregateError, Stop};
use crate::decompose;

/// Bytes that one compiled pattern may take.
const PATTERN_SIZE: usize = 1 << 20;
/// Bytes that a search may take to cache what it learns; it is slower with less, not wrong.
const SEARCH_CACHE: usize = 2 << 20;

#[derive(Debug)]
pub(super) struct Table<'plan> {
    plan: &'plan Plan,
    rule: &'plan plan::Table,
    rows: Option<Regex>,
    columns: Vec<Column<'plan>>,
    header_written: bool,
    /// Only for a sorted table.
    kept: Option<Kept>,
    /// Rows that may still be written to a table that isn't sorted.
    left: u64,
    row: Row,
}

#[derive(Debug)]
enum Column<'plan> {
    Template(&'plan Template),
    /// `group` is 0 for the whole match.
    Pattern {
        regex: Regex,
        group: usize,
    },
}

/// A column while one subjob's text is read.
enum Cell<'table> {
    Fixed(String),
    Pattern { regex: &'table Regex, group: usize },
}

impl<'plan> Table<'plan> {
    pub(super) fn new(plan: &'plan Plan, rule: &'plan plan::Table) -> Result<Self, AggregateError> {
        let out = || rule.out.clone();
        for field in rule.sort.iter().filter_map(|key| key.field) {
            if field == 0 {
                return Err(AggregateError::FieldZero { out: out() });
            }
            if field as usize > rule.columns.len() {
                return Err(AggregateError::NoColumn { out: out(), field, columns: rule.columns.len() });
            }
        }
        let rows = rule.row.as_deref().map(compile).transpose();
        let rows = rows.map_err(|source| AggregateError::RowPattern { out: out(), source })?;
        let columns = rule.columns.iter().map(|column| match &column.value {
            CellSource::Template(template) => Ok(Column::Template(template)),
            CellSource::Regex(pattern) => match compile(pattern) {
                Ok(regex) => Ok(Column::Pattern { group: usize::from(regex.captures_len() > 1), regex }),
                Err(source) => {
                    Err(AggregateError::ColumnPattern { out: out(), column: column.name.clone(), source })
                }
            },
        });
        Ok(Table {
            plan,
            rule,
            rows,
            columns: columns.collect::<Result<_, _>>()?,
            header_written: false,
            kept: (!rule.sort.is_empty()).then(|| Kept::new(&rule.sort, rule.top)),
            left: rule.top.unwrap_or(u64::MAX),
            row: Row::default(),
        })
    }

    pub(super) fn add(&mut self, index: u64, text: &[u8], out: &mut dyn Write) -> Result<(), Stop> {
        self.write_header(out)?;
        if self.kept.is_none() && self.left == 0 {
            return Ok(());
        }
        let Table { plan, columns, rows, kept, left, row, .. } = self;
        let mut cells = Vec::with_capacity(columns.len());
        for column in columns {
            cells.push(match column {
                Column::Template(template) => {
                    Cell::Fixed(decompose::render(template, plan, index).ok_or(Stop::NoSubjob { index })?)
                }
                Column::Pattern { regex, group } => Cell::Pattern { regex, group: *group },
            });
        }
        let mut take = |text: &[u8]| {
            fill(row, &cells, text);
            if let Some(kept) = kept {
                return kept.push(row.all(), row.printed().len(), |key| match key.field {
                    Some(number) => row.range(number),
                    // Without its newline.
                    None => Some(0..row.printed().len() - 1),
                });
            }
            if *left > 0 {
                *left -= 1;
                out.write_all(row.printed())?;
            }
            Ok(())
        };
        match rows {
            // A pattern that may match nothing, as `\d*`, matches nothing between all letters: those are no rows.
            Some(regex) => {
                regex.find_iter(text).filter(|row| !row.is_empty()).try_for_each(|row| take(row.as_bytes()))
            }
            None => take(text),
        }
    }

    pub(super) fn finish(mut self, out: &mut dyn Write) -> Result<(), Stop> {
        self.write_header(out)?;
        match self.kept {
            Some(kept) => kept.for_each(|row| Ok(out.write_all(row)?)),
            None => Ok(()),
        }
    }

    /// The names of the columns, also over a table without rows.
    fn write_header(&mut self, out: &mut dyn Write) -> Result<(), Stop> {
        if !self.header_written {
            self.row.clear();
            self.rule.columns.iter().for_each(|column| self.row.cell(column.name.as_bytes()));
            self.row.end();
            out.write_all(self.row.printed())?;
            self.header_written = true;
        }
        Ok(())
    }
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .multi_line(true)
        .crlf(true)
        .size_limit(PATTERN_SIZE)
        .dfa_size_limit(SEARCH_CACHE)
        .build()
}

fn fill(row: &mut Row, cells: &[Cell], text: &[u8]) {
    row.clear();
    for cell in cells {
        row.cell(match cell {
            Cell::Fixed(value) => value.as_bytes(),
            Cell::Pattern { regex, group: 0 } => regex.find(text).map_or(&[], |found| found.as_bytes()),
            Cell::Pattern { regex, group } => regex
                .captures(text)
                .and_then(|groups| groups.get(*group))
                .map_or(&[], |group| group.as_bytes()),
        });
    }
    row.end();
}
