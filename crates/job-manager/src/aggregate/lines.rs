//! Lines and their fields, as bytes.

use std::ops::Range;

use memchr::memchr;

/// The lines of a text without their newlines. A last line needs no newline; after a last newline comes no line.
pub(super) struct Lines<'text> {
    rest: &'text [u8],
}

impl<'text> Lines<'text> {
    pub(super) fn of(text: &'text [u8]) -> Self {
        Lines { rest: text }
    }

    /// What the iteration has not come to yet.
    pub(super) fn rest(&self) -> &'text [u8] {
        self.rest
    }
}

impl<'text> Iterator for Lines<'text> {
    type Item = &'text [u8];

    fn next(&mut self) -> Option<&'text [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = match memchr(b'\n', self.rest) {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        Some(line)
    }
}

/// The line without the carriage return that a CRLF text leaves at its end.
pub(super) fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Where the field with this number from 1 lies. Runs of blanks separate fields, and blanks before the first
/// count for nothing.
pub(super) fn field(line: &[u8], number: u32) -> Option<Range<usize>> {
    let mut end = 0;
    let mut found = 0..0;
    for _ in 0..number {
        let start = end + line[end..].iter().position(|byte| !is_blank(*byte))?;
        end =
            line[start..].iter().position(|byte| is_blank(*byte)).map_or(line.len(), |length| start + length);
        found = start..end;
    }
    Some(found)
}

/// Puts the line into `squeezed` with one space for each run of blanks and none at its end.
pub(super) fn squeeze(line: &[u8], squeezed: &mut Vec<u8>) {
    squeezed.clear();
    let mut blanks = false;
    for byte in without_return(line) {
        if is_blank(*byte) {
            blanks = true;
            continue;
        }
        if blanks {
            squeezed.push(b' ');
            blanks = false;
        }
        squeezed.push(*byte);
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_newlines_only() {
        let check = |text: &[u8], expect: &[&[u8]]| assert_eq!(Lines::of(text).collect::<Vec<_>>(), expect);
        check(b"", &[]);
        check(b"\n", &[b""]);
        check(b"a", &[b"a"]);
        check(b"a\n", &[b"a"]);
        check(b"a\n\nb", &[b"a", b"", b"b"]);
        check(b"a\r\nb\0\n\xff", &[b"a\r", b"b\0", b"\xff"]);
    }

    #[test]
    fn fields_lie_between_runs_of_blanks() {
        let check = |line: &[u8], number: u32, expect: Option<&[u8]>| {
            assert_eq!(field(line, number).map(|range| &line[range]), expect, "{line:?} {number}");
        };
        check(b"a b", 1, Some(b"a"));
        check(b" \t a  \t b ", 1, Some(b"a"));
        check(b" \t a  \t b ", 2, Some(b"b"));
        check(b" \t a  \t b ", 3, None);
        check(b"", 1, None);
        check(b"   ", 1, None);
        check(b"a\0b \xff", 2, Some(b"\xff"));
    }

    #[test]
    fn squeezing_leaves_one_space() {
        let check = |line: &[u8], expect: &[u8]| {
            let mut squeezed = b"left over".to_vec();
            squeeze(line, &mut squeezed);
            assert_eq!(squeezed, expect, "{line:?}");
        };
        check(b"", b"");
        check(b"  \t ", b"");
        check(b"  a \t b  ", b" a b");
        check(b"a b\t\r", b"a b");
        check(b"a\r b", b"a\r b");
        check(b"\xff  \0", b"\xff \0");
    }
}
