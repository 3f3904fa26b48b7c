//! Rows of comma-separated values (RFC 4180, but with plain newlines).

use std::ops::Range;

/// A row while it is made: its CSV text, and where the cells' own text lies for those who sort by it.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// The CSV text, then (after [`Row::end`]) the bare text of the cells that had to be quoted.
    bytes: Vec<u8>,
    printed: usize,
    bare: Vec<u8>,
    cells: Vec<Cell>,
}

#[derive(Debug)]
enum Cell {
    Plain(Range<usize>),
    /// A range of the bare texts.
    Quoted(Range<usize>),
}

impl Row {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bare.clear();
        self.cells.clear();
    }

    pub(super) fn cell(&mut self, text: &[u8]) {
        if !self.cells.is_empty() {
            self.bytes.push(b',');
        }
        if text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
            self.bytes.push(b'"');
            for byte in text {
                if *byte == b'"' {
                    self.bytes.push(b'"');
                }
                self.bytes.push(*byte);
            }
            self.bytes.push(b'"');
            self.bare.extend_from_slice(text);
            self.cells.push(Cell::Quoted(self.bare.len() - text.len()..self.bare.len()));
        } else {
            self.bytes.extend_from_slice(text);
            self.cells.push(Cell::Plain(self.bytes.len() - text.len()..self.bytes.len()));
        }
    }

    pub(super) fn end(&mut self) {
        // A row of one empty cell would be an empty line, which readers skip.
        if self.bytes.is_empty() && !self.cells.is_empty() {
            self.bytes.extend_from_slice(b"\"\"");
        }
        self.bytes.push(b'\n');
        self.printed = self.bytes.len();
        self.bytes.extend_from_slice(&self.bare);
    }

    /// What goes into the file, newline included.
    pub(super) fn printed(&self) -> &[u8] {
        &self.bytes[..self.printed]
    }

    /// The file's part and all else that [`Row::range`] may point to.
    pub(super) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// Where in [`Row::all`] the bare text of the cell with this number from 1 lies; nothing if it is empty.
    pub(super) fn range(&self, number: u32) -> Option<Range<usize>> {
        let range = match self.cells.get((number as usize).checked_sub(1)?)? {
            Cell::Plain(range) => range.clone(),
            Cell::Quoted(range) => range.start + self.printed..range.end + self.printed,
        };
        (!range.is_empty()).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_when_they_must_be() {
        let check = |cells: &[&[u8]], expect: &[u8]| {
            let mut row = Row::default();
            row.cell(b"left over, of the row before");
            row.end();
            row.clear();
            cells.iter().for_each(|cell| row.cell(cell));
            row.end();
            assert_eq!(row.printed(), expect);
            for (number, cell) in (1..).zip(cells) {
                let found = row.range(number).map(|range| &row.all()[range]);
                assert_eq!(found, Some(*cell).filter(|cell| !cell.is_empty()));
            }
            assert_eq!(row.range(0), None);
            assert_eq!(row.range(cells.len() as u32 + 1), None);
        };
        check(&[b"a", b"b c", b""], b"a,b c,\n");
        check(
            &[b"a,b", b"say \"hi\"", b"two\nlines", b"cr\r"],
            b"\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",\"cr\r\"\n",
        );
        check(&[b""], b"\"\"\n");
        check(&[b"", b""], b",\n");
        check(&[b"\xff\0", b"'"], b"\xff\0,'\n");
        check(&[], b"\n");
    }
}
