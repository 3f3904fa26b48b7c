//! Lines of all subjobs in one file: header and comments once, then the rest in order or sorted.

use std::io::Write;

use model::plan::{self, Comments};

use super::kept::Kept;
use super::lines::{self, Lines};
use super::{AggregateError, Stop};

/// Every line it writes ends in a newline, so that texts whose last line lacks one don't run into each other.
#[derive(Debug)]
pub(super) struct Concat<'plan> {
    rule: &'plan plan::Concat,
    /// Empty if the rule has no comments: an empty prefix marks nothing.
    comment: &'plan [u8],
    /// Whether a text that isn't empty has been added: the first such gives header and comments.
    started: bool,
    /// Only for a sorted result.
    kept: Option<Kept>,
    /// Lines that may still be written to a result that isn't sorted.
    left: u64,
    squeezed: Vec<u8>,
}

impl<'plan> Concat<'plan> {
    pub(super) fn new(rule: &'plan plan::Concat) -> Result<Self, AggregateError> {
        if rule.sort.iter().any(|key| key.field == Some(0)) {
            return Err(AggregateError::FieldZero { out: rule.out.clone() });
        }
        Ok(Concat {
            rule,
            comment: rule.comment.as_deref().unwrap_or_default().as_bytes(),
            started: false,
            kept: (!rule.sort.is_empty()).then(|| Kept::new(&rule.sort, rule.top)),
            left: rule.top.unwrap_or(u64::MAX),
            squeezed: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, text: &[u8], out: &mut dyn Write) -> Result<(), Stop> {
        let first = !self.started && !text.is_empty();
        self.started |= first;
        let mut lines = Lines::of(text);
        for line in lines.by_ref().take(self.rule.header_lines as usize) {
            if first {
                self.write_header(line, out)?;
            }
        }
        if self.passes_all() {
            return write_whole(lines.rest(), out);
        }
        let mut at_head = first && self.rule.comments == Comments::Head;
        for line in lines {
            if self.is_comment(line) {
                if at_head {
                    write_line(line, out)?;
                }
                continue;
            }
            at_head = false;
            if self.kept.is_none() && self.left == 0 {
                return Ok(());
            }
            self.take(line, out)?;
        }
        Ok(())
    }

    pub(super) fn finish(self, out: &mut dyn Write) -> Result<(), Stop> {
        match self.kept {
            Some(kept) => kept.for_each(|line| write_line(line, out)),
            None => Ok(()),
        }
    }

    /// Whether no line needs a look.
    fn passes_all(&self) -> bool {
        self.comment.is_empty() && !self.rule.squeeze_blanks && self.kept.is_none() && self.rule.top.is_none()
    }

    fn is_comment(&self, line: &[u8]) -> bool {
        !self.comment.is_empty() && line.starts_with(self.comment)
    }

    fn write_header(&mut self, line: &[u8], out: &mut dyn Write) -> Result<(), Stop> {
        if self.rule.squeeze_blanks && !self.is_comment(line) {
            lines::squeeze(line, &mut self.squeezed);
            return write_line(&self.squeezed, out);
        }
        write_line(line, out)
    }

    /// Keeps or writes a line that is neither header nor comment.
    fn take(&mut self, line: &[u8], out: &mut dyn Write) -> Result<(), Stop> {
        let line = if self.rule.squeeze_blanks {
            lines::squeeze(line, &mut self.squeezed);
            &self.squeezed
        } else {
            line
        };
        let Some(kept) = &mut self.kept else {
            self.left -= 1;
            return write_line(line, out);
        };
        let text = lines::without_return(line);
        kept.push(line, line.len(), |key| match key.field {
            Some(number) => lines::field(text, number),
            None => Some(0..text.len()),
        })
    }
}

fn write_line(line: &[u8], out: &mut dyn Write) -> Result<(), Stop> {
    out.write_all(line)?;
    out.write_all(b"\n")?;
    Ok(())
}

fn write_whole(text: &[u8], out: &mut dyn Write) -> Result<(), Stop> {
    out.write_all(text)?;
    if text.last().is_some_and(|byte| *byte != b'\n') {
        out.write_all(b"\n")?;
    }
    Ok(())
}
