//! Cuts an input file into runs of whole records (§2.1 step 3), each known by its place and its hash.
//!
//! Nothing is copied: a chunk is a range of the file. All chunks one after the other are the file, byte for byte.
//! Which rule a job uses is `spec`; who keeps the ranges is the server's file store.

use std::io::{self, BufRead, Seek};
use std::num::NonZeroU64;

use model::BlobHash;
use model::plan::Chunk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most chunks one file is cut into; each is a row of the plan that is kept while the job lives.
pub const MAX_CHUNKS: usize = 1_000_000;

/// A buffer for the reader that lets BLAKE3 hash many blocks side by side; with the 8 KiB of a plain
/// `BufReader` indexing takes longer.
pub const READ_BUFFER: usize = 256 << 10;

/// How a file is made of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SplitFormat {
    /// A record starts at each line that begins with `>`.
    Fasta,
}

/// Where one chunk ends and the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitRule {
    /// So many records in each chunk, fewer in the last.
    Records(NonZeroU64),
    /// So many chunks, equal in records to within one; as many as there are records if those are fewer.
    Parts(NonZeroU64),
    /// A chunk ends before the first record that starts at or after so many bytes of it.
    Bytes(NonZeroU64),
}

/// A file's chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitIndex {
    pub chunks: Vec<ChunkRange>,
    /// Records of the whole file.
    pub records: u64,
    /// Bytes of the whole file.
    pub size: u64,
}

/// A chunk and where it starts in the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRange {
    pub offset: u64,
    pub chunk: Chunk,
}

#[derive(Debug, Error)]
pub enum SplitError {
    #[error("reading the file failed")]
    Read(#[source] io::Error),
    #[error("the file has no records: no line begins with '>'")]
    NoRecords,
    #[error("line {line} is text before the first record: a FASTA file begins with '>'")]
    TextBeforeRecords { line: u64 },
    #[error("the rule makes more than {MAX_CHUNKS} chunks of the file: choose larger ones")]
    TooManyChunks,
}

/// Finds the chunks of a file of the given format. Reads from the start, whatever the reader's position.
///
/// # Errors
/// A file that can't be read, isn't of the format or gives more than [`MAX_CHUNKS`] chunks.
pub fn index(
    reader: impl BufRead + Seek,
    format: SplitFormat,
    rule: SplitRule,
) -> Result<SplitIndex, SplitError> {
    match format {
        SplitFormat::Fasta => index_fasta(reader, rule),
    }
}

/// Finds the chunks of a FASTA file in one pass (two for [`SplitRule::Parts`]) and constant memory but for the
/// result. Blank lines before the first record belong to the first chunk.
///
/// # Errors
/// As [`index`].
pub fn index_fasta(mut reader: impl BufRead + Seek, rule: SplitRule) -> Result<SplitIndex, SplitError> {
    reader.rewind().map_err(SplitError::Read)?;
    let cuts = match rule {
        SplitRule::Records(records) => Cuts::Records(records.get()),
        SplitRule::Bytes(bytes) => Cuts::Bytes(bytes.get()),
        SplitRule::Parts(parts) => {
            let total = count_records(&mut reader)?;
            reader.rewind().map_err(SplitError::Read)?;
            Cuts::Parts { parts: parts.get().min(total), total }
        }
    };
    let mut indexer = Indexer::new(cuts);
    for_each_buffer(&mut reader, |buffer, at_line_start| indexer.feed(buffer, at_line_start))?;
    indexer.finish()
}

fn count_records(reader: &mut impl BufRead) -> Result<u64, SplitError> {
    let mut records = 0;
    for_each_buffer(reader, |buffer, at_line_start| {
        records += record_starts(buffer, at_line_start).count() as u64;
        Ok(())
    })?;
    Ok(records)
}

/// Hands the reader's bytes over as they come, and whether the first of them starts a line.
fn for_each_buffer(
    reader: &mut impl BufRead,
    mut feed: impl FnMut(&[u8], bool) -> Result<(), SplitError>,
) -> Result<(), SplitError> {
    let mut at_line_start = true;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SplitError::Read(error)),
        };
        let Some(last) = buffer.last() else { return Ok(()) };
        feed(buffer, at_line_start)?;
        at_line_start = *last == b'\n';
        let length = buffer.len();
        reader.consume(length);
    }
}

/// Positions of the `>` that begin a line.
fn record_starts(buffer: &[u8], at_line_start: bool) -> impl Iterator<Item = usize> {
    memchr::memchr_iter(b'>', buffer).filter(move |at| match at.checked_sub(1) {
        Some(before) => buffer[before] == b'\n',
        None => at_line_start,
    })
}

/// [`SplitRule`] with what has to be known of the whole file.
enum Cuts {
    Records(u64),
    Bytes(u64),
    Parts { parts: u64, total: u64 },
}

/// The chunk being read and those before it.
struct Indexer {
    cuts: Cuts,
    done: Vec<ChunkRange>,
    hasher: blake3::Hasher,
    /// Start of the current chunk.
    offset: u64,
    /// Records of the current chunk so far.
    records: u64,
    /// Records of the whole file so far.
    records_total: u64,
    /// Bytes of the whole file before the buffer at hand.
    position: u64,
    /// Lines before the first record.
    lines: u64,
}

impl Indexer {
    fn new(cuts: Cuts) -> Self {
        Indexer {
            cuts,
            done: Vec::new(),
            hasher: blake3::Hasher::new(),
            offset: 0,
            records: 0,
            records_total: 0,
            position: 0,
            lines: 0,
        }
    }

    fn feed(&mut self, buffer: &[u8], at_line_start: bool) -> Result<(), SplitError> {
        let mut hashed = 0;
        for at in record_starts(buffer, at_line_start) {
            if self.records_total == 0 {
                self.check_blank(&buffer[..at])?;
            }
            if self.cuts_before(self.position + at as u64) {
                self.hasher.update(&buffer[hashed..at]);
                hashed = at;
                self.close(self.position + at as u64)?;
            }
            self.records += 1;
            self.records_total += 1;
        }
        if self.records_total == 0 {
            self.check_blank(buffer)?;
        }
        self.hasher.update(&buffer[hashed..]);
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn check_blank(&mut self, text: &[u8]) -> Result<(), SplitError> {
        let end = text.iter().position(|byte| !byte.is_ascii_whitespace());
        self.lines += memchr::memchr_iter(b'\n', &text[..end.unwrap_or(text.len())]).count() as u64;
        match end {
            Some(_) => Err(SplitError::TextBeforeRecords { line: self.lines + 1 }),
            None => Ok(()),
        }
    }

    /// Whether the record that starts at `at` is the first of a new chunk.
    fn cuts_before(&self, at: u64) -> bool {
        match self.cuts {
            Cuts::Records(records) => self.records == records,
            Cuts::Bytes(bytes) => self.records > 0 && at - self.offset >= bytes,
            // Chunk k of n starts at record floor(k * total / n); u128 as the product may pass u64.
            Cuts::Parts { parts, total } => {
                let next = self.done.len() as u128 + 1;
                self.records_total > 0
                    && u128::from(self.records_total) == next * u128::from(total) / u128::from(parts)
            }
        }
    }

    fn close(&mut self, end: u64) -> Result<(), SplitError> {
        if self.done.len() == MAX_CHUNKS {
            return Err(SplitError::TooManyChunks);
        }
        let hash = BlobHash(*self.hasher.finalize().as_bytes());
        let chunk = Chunk { hash, size: end - self.offset, records: self.records };
        self.done.push(ChunkRange { offset: self.offset, chunk });
        self.hasher.reset();
        self.offset = end;
        self.records = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<SplitIndex, SplitError> {
        if self.records_total == 0 {
            return Err(SplitError::NoRecords);
        }
        self.close(self.position)?;
        Ok(SplitIndex { chunks: self.done, records: self.records_total, size: self.position })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;

    fn some(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).expect("not zero")
    }

    /// The index is the same however the reader cuts its buffers; its chunks are `expect` and add up to the file.
    fn check(text: &str, rule: SplitRule, expect: &[&str]) {
        let index = index_fasta(Cursor::new(text), rule).expect("a good file");
        for capacity in 1..=text.len() + 1 {
            let reader = BufReader::with_capacity(capacity, Cursor::new(text));
            assert_eq!(index_fasta(reader, rule).expect("a good file"), index, "buffers of {capacity}");
        }
        let mut end = 0;
        let chunks: Vec<&str> = index
            .chunks
            .iter()
            .map(|range| {
                assert_eq!(range.offset, end);
                end += range.chunk.size;
                let bytes = &text[range.offset as usize..end as usize];
                assert_eq!(range.chunk.hash, BlobHash(*blake3::hash(bytes.as_bytes()).as_bytes()));
                bytes
            })
            .collect();
        assert_eq!(chunks, expect);
        assert_eq!(end, index.size);
        assert_eq!(index.chunks.iter().map(|range| range.chunk.records).sum::<u64>(), index.records);
    }

    #[test]
    fn chunks_of_so_many_records() {
        let file = ">a\nMK\n>b\nML\n>c\nMM\n";
        check(file, SplitRule::Records(some(1)), &[">a\nMK\n", ">b\nML\n", ">c\nMM\n"]);
        check(file, SplitRule::Records(some(2)), &[">a\nMK\n>b\nML\n", ">c\nMM\n"]);
        check(file, SplitRule::Records(some(9)), &[file]);
    }

    #[test]
    fn equal_parts() {
        let file = ">a\n>b\n>c\n>d\n>e\n";
        check(file, SplitRule::Parts(some(1)), &[file]);
        check(file, SplitRule::Parts(some(2)), &[">a\n>b\n", ">c\n>d\n>e\n"]);
        check(file, SplitRule::Parts(some(3)), &[">a\n", ">b\n>c\n", ">d\n>e\n"]);
        check(file, SplitRule::Parts(some(u64::MAX)), &[">a\n", ">b\n", ">c\n", ">d\n", ">e\n"]);
    }

    #[test]
    fn chunks_of_so_many_bytes() {
        let file = ">a\nMKMK\n>b\n>c\nM\n";
        check(file, SplitRule::Bytes(some(1)), &[">a\nMKMK\n", ">b\n", ">c\nM\n"]);
        check(file, SplitRule::Bytes(some(8)), &[">a\nMKMK\n", ">b\n>c\nM\n"]);
        check(file, SplitRule::Bytes(some(9)), &[">a\nMKMK\n>b\n", ">c\nM\n"]);
        check(file, SplitRule::Bytes(some(u64::MAX)), &[file]);
    }

    #[test]
    fn odd_but_good_files() {
        check("\n\r\n>a\nM\n>b", SplitRule::Records(some(1)), &["\n\r\n>a\nM\n", ">b"]);
        check(">a\r\nM>K\r\n\r\n>b\r\n", SplitRule::Records(some(1)), &[">a\r\nM>K\r\n\r\n", ">b\r\n"]);
        check(">>a > b\n>", SplitRule::Records(some(1)), &[">>a > b\n", ">"]);
    }

    #[test]
    fn files_that_are_no_fasta() {
        let check = |text: &str, expect: &str| {
            let error = index_fasta(Cursor::new(text), SplitRule::Records(some(1))).expect_err("a bad file");
            assert_eq!(error.to_string(), expect);
        };
        check("", "the file has no records: no line begins with '>'");
        check("\n\n", "the file has no records: no line begins with '>'");
        check("\n;x\n>a\n", "line 2 is text before the first record: a FASTA file begins with '>'");
        check(" >a\n", "line 1 is text before the first record: a FASTA file begins with '>'");
    }

    #[test]
    fn there_is_a_bound_on_chunks() {
        let file = ">\n".repeat(MAX_CHUNKS);
        let rule = SplitRule::Records(some(1));
        assert_eq!(index_fasta(Cursor::new(&file), rule).expect("just enough").chunks.len(), MAX_CHUNKS);
        let error = index_fasta(Cursor::new(file + ">"), rule).expect_err("one too many");
        assert!(matches!(error, SplitError::TooManyChunks));
    }
}
