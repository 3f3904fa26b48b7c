//! The format of a blob that has a file of its own: frames of 1 MiB of content, each compressed by itself, so
//! that a read of any range decodes only the frames that it touches.
//!
//! ```text
//! "DCGBLOB1" · frame … · table · tail
//! table: per frame  stored length u32 (top bit: not compressed) · checksum of the content 8
//! tail:             blob's hash 32 · content length u64 · checksum of table and tail 8 · "DCGBLOB1"
//! ```
//! Integers are little-endian. The number of frames follows from the content length.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use model::BlobHash;

use super::compression::{Encoding, decode, encode};
use super::{CHECKSUM_LEN, MAX_BLOB, UNPOISONED, checksum};

/// Bytes of content in every frame but the last.
pub(super) const FRAME: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"DCGBLOB1";
const ENTRY_LEN: usize = 4 + CHECKSUM_LEN;
const TAIL_LEN: usize = 32 + 8 + CHECKSUM_LEN + MAGIC.len();
const NOT_COMPRESSED: u32 = 1 << 31;

/// Why a framed file can't be read.
#[derive(Debug)]
pub(super) enum FramesError {
    Io(io::Error),
    /// Its bytes are not what was written.
    Damaged,
}

impl From<io::Error> for FramesError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The file is shorter than it says itself.
            io::ErrorKind::UnexpectedEof => FramesError::Damaged,
            _ => FramesError::Io(error),
        }
    }
}

/// Writes a framed file from its start. It is whole once [`FramesWriter::finish`] returns.
#[derive(Debug)]
pub(super) struct FramesWriter {
    file: File,
    hasher: blake3::Hasher,
    /// Content that doesn't fill a frame yet.
    pending: Vec<u8>,
    /// The frame at hand as it will be stored; kept for its allocation.
    stored: Vec<u8>,
    table: Vec<u8>,
    position: u64,
    len: u64,
}

impl FramesWriter {
    pub fn new(file: File) -> io::Result<Self> {
        file.write_all_at(MAGIC, 0)?;
        Ok(FramesWriter {
            file,
            hasher: blake3::Hasher::new(),
            pending: Vec::with_capacity(FRAME),
            stored: Vec::new(),
            table: Vec::new(),
            position: MAGIC.len() as u64,
            len: 0,
        })
    }

    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let (fits, rest) = bytes.split_at(bytes.len().min(FRAME - self.pending.len()));
            self.pending.extend_from_slice(fits);
            bytes = rest;
            if self.pending.len() == FRAME {
                self.write_frame()?;
            }
        }
        Ok(())
    }

    fn write_frame(&mut self) -> io::Result<()> {
        self.stored.clear();
        let raw = match encode(&self.pending, &mut self.stored) {
            Encoding::Raw => NOT_COMPRESSED,
            Encoding::Zstd => 0,
        };
        self.file.write_all_at(&self.stored, self.position)?;
        self.position += self.stored.len() as u64;
        self.table.extend_from_slice(&(self.stored.len() as u32 | raw).to_le_bytes());
        self.table.extend_from_slice(&checksum(&self.pending));
        self.pending.clear();
        Ok(())
    }

    /// Bytes of content so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Hash of the content so far.
    pub fn hash(&self) -> BlobHash {
        BlobHash(*self.hasher.finalize().as_bytes())
    }

    /// Writes what is left, and the trailer.
    pub fn finish(mut self) -> io::Result<File> {
        if !self.pending.is_empty() {
            self.write_frame()?;
        }
        let hash = self.hash();
        let mut trailer = self.table;
        trailer.extend_from_slice(&hash.0);
        trailer.extend_from_slice(&self.len.to_le_bytes());
        let guard = checksum(&trailer);
        trailer.extend_from_slice(&guard);
        trailer.extend_from_slice(MAGIC);
        self.file.write_all_at(&trailer, self.position)?;
        Ok(self.file)
    }
}

/// A framed file whose trailer has been checked.
#[derive(Debug)]
pub(super) struct Frames {
    file: File,
    len: u64,
    table: Vec<u8>,
    /// The frame that was last read in part: whoever wants a part of it mostly wants the next one soon.
    last: Mutex<Option<(usize, Arc<[u8]>)>>,
}

impl Frames {
    /// Reads the trailer of `file`, which must be that of the blob `hash`.
    pub fn open(file: File, hash: &BlobHash) -> Result<Self, FramesError> {
        let file_len = file.metadata()?.len();
        let tail_start = file_len.checked_sub(TAIL_LEN as u64).ok_or(FramesError::Damaged)?;
        let mut tail = [0; TAIL_LEN];
        file.read_exact_at(&mut tail, tail_start)?;
        let (name, rest) = tail.split_first_chunk::<32>().expect("the tail is longer");
        let (len, rest) = rest.split_first_chunk::<8>().expect("the tail is longer");
        let (guard, magic) = rest.split_first_chunk::<CHECKSUM_LEN>().expect("the tail is longer");
        let len = u64::from_le_bytes(*len);
        if *name != hash.0 || magic != MAGIC || len > MAX_BLOB {
            return Err(FramesError::Damaged);
        }
        let table_len = len.div_ceil(FRAME as u64) * ENTRY_LEN as u64;
        let table_start = tail_start.checked_sub(table_len).ok_or(FramesError::Damaged)?;
        let mut trailer = vec![0; table_len as usize];
        file.read_exact_at(&mut trailer, table_start)?;
        trailer.extend_from_slice(&tail[..40]);
        if checksum(&trailer) != *guard {
            return Err(FramesError::Damaged);
        }
        trailer.truncate(table_len as usize);
        let frames = Frames { file, len, table: trailer, last: Mutex::default() };
        // The file's first bytes say nothing that the tail doesn't; a table that doesn't fill the room between
        // them was not written by us.
        let stored: u64 = frames.entries().map(|entry| u64::from(entry.stored_len)).sum();
        if MAGIC.len() as u64 + stored != table_start {
            return Err(FramesError::Damaged);
        }
        Ok(frames)
    }

    /// Bytes of content.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The content's bytes in `range`, which lies within the blob.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>, FramesError> {
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        let (mut position, mut content_start) = (MAGIC.len() as u64, 0);
        for (index, entry) in self.entries().enumerate() {
            let content_end = (content_start + FRAME as u64).min(self.len);
            if content_start >= range.end {
                break;
            }
            if range.start < content_end {
                let within = |at: u64| (at.clamp(content_start, content_end) - content_start) as usize;
                let (part, len) =
                    (within(range.start)..within(range.end), (content_end - content_start) as usize);
                if part == (0..len) {
                    bytes.extend_from_slice(&self.frame(&entry, position, len)?);
                } else {
                    bytes.extend_from_slice(&self.kept_frame(index, &entry, position, len)?[part]);
                }
            }
            position += u64::from(entry.stored_len);
            content_start = content_end;
        }
        Ok(bytes)
    }

    /// As [`Self::frame`], but kept for the next read.
    fn kept_frame(
        &self,
        index: usize,
        entry: &Entry,
        position: u64,
        len: usize,
    ) -> Result<Arc<[u8]>, FramesError> {
        match &*self.last.lock().expect(UNPOISONED) {
            Some((kept, content)) if *kept == index => return Ok(Arc::clone(content)),
            _ => {}
        }
        let content: Arc<[u8]> = self.frame(entry, position, len)?.into();
        *self.last.lock().expect(UNPOISONED) = Some((index, Arc::clone(&content)));
        Ok(content)
    }

    /// The content of the frame at `position`, which has `content_len` bytes.
    fn frame(&self, entry: &Entry, position: u64, content_len: usize) -> Result<Vec<u8>, FramesError> {
        if entry.stored_len as usize > content_len {
            return Err(FramesError::Damaged);
        }
        let mut stored = vec![0; entry.stored_len as usize];
        self.file.read_exact_at(&mut stored, position)?;
        decode(entry.encoding, &stored, content_len)
            .filter(|content| checksum(content) == entry.checksum)
            .ok_or(FramesError::Damaged)
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.table.chunks_exact(ENTRY_LEN).map(|entry| {
            let (stored, guard) = entry.split_first_chunk::<4>().expect("an entry is longer");
            let stored = u32::from_le_bytes(*stored);
            Entry {
                stored_len: stored & !NOT_COMPRESSED,
                encoding: if stored & NOT_COMPRESSED == 0 { Encoding::Zstd } else { Encoding::Raw },
                checksum: guard.try_into().expect("the checksum fills the entry"),
            }
        })
    }
}

/// What the table says about one frame.
struct Entry {
    stored_len: u32,
    encoding: Encoding,
    checksum: [u8; CHECKSUM_LEN],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::hash_of;
    use crate::files::samples::{Rng, golden, noise, text};

    fn written(content: &[u8]) -> File {
        let mut writer = FramesWriter::new(tempfile::tempfile().unwrap()).unwrap();
        let mut rest = content;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(300_007));
            writer.write(piece).unwrap();
            rest = after;
        }
        assert_eq!((writer.len(), writer.hash()), (content.len() as u64, hash_of(content)));
        writer.finish().unwrap()
    }

    fn bytes_of(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn file_of(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    /// Every range of a framed file equals the same range of the content.
    fn check(content: &[u8]) {
        let frames = Frames::open(written(content), &hash_of(content)).unwrap();
        let len = content.len() as u64;
        assert_eq!(frames.len(), len);
        assert_eq!(frames.read(0..len).unwrap(), content);
        let mut rng = Rng(len + 1);
        for _ in 0..200 {
            let start = rng.below(len + 1);
            let end = start + rng.below(len - start + 1).min(3 << 20);
            let read = frames.read(start..end).unwrap();
            assert!(read == content[start as usize..end as usize], "{start}..{end} of {len}");
        }
    }

    #[test]
    fn a_range_read_equals_the_content() {
        check(b"");
        check(b"x");
        for len in [FRAME - 1, FRAME, FRAME + 1, 5 * FRAME + 12_345] {
            check(&noise(7, len));
            check(&text(7, len));
        }
        check(&[text(1, FRAME), noise(2, FRAME), text(3, 99)].concat());
    }

    #[test]
    fn text_takes_less_room_and_noise_hardly_more() {
        let len = |content: &[u8]| written(content).metadata().unwrap().len();
        assert!(len(&text(1, 3 * FRAME)) < 2 * FRAME as u64);
        assert!(len(&noise(1, 3 * FRAME)) <= (3 * FRAME + MAGIC.len() + 3 * ENTRY_LEN + TAIL_LEN) as u64);
    }

    #[test]
    fn no_changed_byte_is_ever_read_as_content() {
        for content in [text(5, 3_000), noise(5, 300), Vec::new()] {
            let hash = hash_of(&content);
            let whole = bytes_of(&written(&content));
            for position in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[position] ^= 1 << (position % 8);
                let opened = Frames::open(file_of(&bytes), &hash);
                let trailer_len = TAIL_LEN + content.len().div_ceil(FRAME) * ENTRY_LEN;
                assert!(opened.is_err() || position < whole.len() - trailer_len, "byte {position}");
                let read = opened.and_then(|frames| frames.read(0..frames.len()));
                match read {
                    // The first eight bytes are for people's eyes, and zstd ignores a bit here and there.
                    Ok(found) => assert!(found == content, "byte {position}"),
                    Err(error) => {
                        assert!(matches!(error, FramesError::Damaged), "byte {position}: {error:?}");
                    }
                }
            }
            for len in 0..whole.len() {
                assert!(Frames::open(file_of(&whole[..len]), &hash).is_err(), "cut to {len}");
            }
        }
    }

    #[test]
    fn a_file_under_another_name_is_damaged() {
        let file = written(b"content");
        assert!(matches!(Frames::open(file, &hash_of(b"other")), Err(FramesError::Damaged)));
    }

    #[test]
    fn the_format_is_that_of_the_golden_files() {
        let content = noise(1, 100);
        let raw = golden("frames-raw.blob", &bytes_of(&written(&content)));
        assert!(raw == bytes_of(&written(&content)));
        // Another zstd may compress otherwise, so of compressed frames only the reading is fixed.
        let content = [text(2, 1 << 10).repeat(FRAME >> 10), noise(3, 50)].concat();
        let mixed = golden("frames-mixed.blob", &bytes_of(&written(&content)));
        let frames = Frames::open(file_of(&mixed), &hash_of(&content)).unwrap();
        assert!(frames.read(0..frames.len()).unwrap() == content);
    }
}
