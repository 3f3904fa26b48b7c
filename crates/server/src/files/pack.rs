//! The format of a pack, in which small blobs lie one after another, and how one is read back after a crash.
//!
//! ```text
//! "DCGPACK1" · record …
//! record: "DCGR" · encoding u8 (0 raw, 1 zstd) · 0 0 0 · content length u32 · stored length u32 · hash 32
//!         · checksum of all this 8 · stored bytes
//! ```
//! Integers are little-endian. A record describes itself: the pack needs no other file to be read, and after a
//! damaged record the next one is found by its first bytes. Whatever bytes a blob holds, it can't pass for a
//! record of another blob there, because what is found so must have its hash.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use model::BlobHash;

use super::compression::{Encoding, decode, encode};
use super::{CHECKSUM_LEN, PACK_MAX, checksum, hash_of};

pub(super) const MAGIC: &[u8; 8] = b"DCGPACK1";
const RECORD_MAGIC: &[u8; 4] = b"DCGR";
const GUARDED_LEN: usize = 4 + 4 + 4 + 4 + 32;
/// Bytes of a record before its stored bytes.
pub(super) const HEADER_LEN: usize = GUARDED_LEN + CHECKSUM_LEN;

/// What a scan reads at once.
const WINDOW: usize = 1 << 20;

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub hash: BlobHash,
    pub encoding: Encoding,
    pub content_len: u32,
    pub stored_len: u32,
}

impl Record {
    /// Bytes of the whole record.
    pub fn len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.stored_len)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (guarded, guard) = bytes.get(..HEADER_LEN)?.split_at(GUARDED_LEN);
        if guarded[..4] != *RECORD_MAGIC || checksum(guarded) != *guard {
            return None;
        }
        let number = |at: usize| u32::from_le_bytes(guarded[at..at + 4].try_into().expect("four bytes"));
        let encoding = match guarded[4] {
            0 => Encoding::Raw,
            1 => Encoding::Zstd,
            _ => return None,
        };
        let hash = BlobHash(guarded[16..].try_into().expect("the hash fills the rest"));
        let record = Record { hash, encoding, content_len: number(8), stored_len: number(12) };
        let fits = record.stored_len <= record.content_len && record.content_len as usize <= PACK_MAX;
        fits.then_some(record)
    }
}

/// The record that stores `content`, which has the hash `hash`.
pub(super) fn encode_record(hash: &BlobHash, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + content.len());
    bytes.resize(HEADER_LEN, 0);
    let encoding = encode(content, &mut bytes);
    let stored_len = (bytes.len() - HEADER_LEN) as u32;
    bytes[..4].copy_from_slice(RECORD_MAGIC);
    bytes[4] = match encoding {
        Encoding::Raw => 0,
        Encoding::Zstd => 1,
    };
    bytes[8..12].copy_from_slice(&(content.len() as u32).to_le_bytes());
    bytes[12..16].copy_from_slice(&stored_len.to_le_bytes());
    bytes[16..GUARDED_LEN].copy_from_slice(&hash.0);
    let guard = checksum(&bytes[..GUARDED_LEN]);
    bytes[GUARDED_LEN..HEADER_LEN].copy_from_slice(&guard);
    bytes
}

/// The content of the record in `bytes` if it is that of `hash` and undamaged.
pub(super) fn decode_record(bytes: &[u8], hash: &BlobHash) -> Option<Vec<u8>> {
    let record = Record::parse(bytes)?;
    let stored = bytes.get(HEADER_LEN..record.len() as usize)?;
    let content = decode(record.encoding, stored, record.content_len as usize)?;
    (record.hash == *hash && hash_of(&content) == *hash).then_some(content)
}

/// How closely a scan looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// At the heads of records; for a pack that was synced, whose contents are checked when they are read.
    Heads,
    /// At their contents too; for a pack that the last crash may have torn.
    Contents,
}

/// What a scan found besides the records.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the last good record ends.
    pub end: u64,
    /// Stretches before `end` that hold no good record.
    pub gaps: Vec<Range<u64>>,
}

/// Calls `found` with the position and the head of every good record of `file`, in order.
pub(super) fn scan(file: &File, mut look: Look, mut found: impl FnMut(u64, Record)) -> io::Result<Scan> {
    let mut window = Window { file, len: file.metadata()?.len(), start: 0, bytes: Vec::new() };
    let mut end = MAGIC.len() as u64;
    let mut gaps = Vec::new();
    let mut position = end;
    if window.get(0, MAGIC.len())? != Some(MAGIC.as_slice()) {
        gaps.push(0..end);
    }
    while position < window.len {
        let head = window.get(position, HEADER_LEN)?.and_then(Record::parse);
        let whole = match head {
            Some(record) => window.get(position, record.len() as usize)?.map(|bytes| (record, bytes)),
            None => None,
        };
        let Some((record, bytes)) = whole else {
            // From here on the places of records are guessed, so their contents have to speak for them.
            look = Look::Contents;
            position = window.find(RECORD_MAGIC, position + 1)?;
            continue;
        };
        if look == Look::Heads || decode_record(bytes, &record.hash).is_some() {
            if end < position {
                gaps.push(end..position);
            }
            found(position, record);
            end = position + record.len();
        }
        position += record.len();
    }
    Ok(Scan { end, gaps })
}

/// The part of a file that was read last.
struct Window<'a> {
    file: &'a File,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The `len` bytes at `position`, or `None` if the file ends before.
    fn get(&mut self, position: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if position.saturating_add(len as u64) > self.len {
            return Ok(None);
        }
        if position < self.start || position + len as u64 > self.start + self.bytes.len() as u64 {
            let room = self.len - position;
            self.bytes.resize(room.min(len.max(WINDOW) as u64) as usize, 0);
            self.start = position;
            self.file.read_exact_at(&mut self.bytes, position)?;
        }
        let from = (position - self.start) as usize;
        Ok(Some(&self.bytes[from..from + len]))
    }

    /// Where `pattern` is next, from `position` on; the file's end if nowhere.
    fn find(&mut self, pattern: &[u8], mut position: u64) -> io::Result<u64> {
        while position < self.len {
            let len = (self.len - position).min(WINDOW as u64) as usize;
            let bytes = self.get(position, len)?.unwrap_or_default();
            if let Some(at) = bytes.windows(pattern.len()).position(|found| found == pattern) {
                return Ok(position + at as u64);
            }
            if len < WINDOW {
                break;
            }
            position += (len - pattern.len() + 1) as u64;
        }
        Ok(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::samples::{golden, noise, text};

    fn pack_of(contents: &[Vec<u8>]) -> Vec<u8> {
        let records = contents.iter().flat_map(|content| encode_record(&hash_of(content), content));
        MAGIC.iter().copied().chain(records).collect()
    }

    fn scanned(bytes: &[u8], look: Look) -> (Vec<BlobHash>, Scan) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let mut hashes = Vec::new();
        let scan = scan(&file, look, |position, record| {
            let bytes = &bytes[position as usize..];
            assert!(look == Look::Heads || decode_record(bytes, &record.hash).is_some());
            hashes.push(record.hash);
        });
        (hashes, scan.unwrap())
    }

    fn hashes(contents: &[Vec<u8>]) -> Vec<BlobHash> {
        contents.iter().map(|content| hash_of(content)).collect()
    }

    #[test]
    fn a_scan_finds_what_was_written() {
        let contents = [Vec::new(), vec![b'x'], noise(1, PACK_MAX), text(2, PACK_MAX), text(3, 500)];
        for count in 0..=contents.len() {
            let bytes = pack_of(&contents[..count]);
            for look in [Look::Heads, Look::Contents] {
                let expect = Scan { end: bytes.len() as u64, gaps: Vec::new() };
                assert_eq!(scanned(&bytes, look), (hashes(&contents[..count]), expect));
            }
        }
    }

    #[test]
    fn a_scan_crosses_its_window() {
        let contents: Vec<_> = (0..60).map(|n| noise(n, 50_000 + n as usize)).collect();
        let mut bytes = pack_of(&contents);
        assert!(bytes.len() > 2 * WINDOW);
        assert_eq!(scanned(&bytes, Look::Contents).0, hashes(&contents));
        // The head of the first record is gone, and 3 MiB of nothing lie before the next.
        bytes.splice(8..8 + 64, vec![0; 3 * WINDOW]);
        let (found, scan) = scanned(&bytes, Look::Contents);
        assert_eq!(found, hashes(&contents[1..]));
        assert_eq!(scan.gaps.len(), 1);
    }

    #[test]
    fn a_damaged_record_costs_no_other() {
        let contents = [text(1, 200), noise(2, 90), text(3, 300)];
        let whole = pack_of(&contents);
        for position in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[position] ^= 0x40;
            let (found, scan) = scanned(&bytes, Look::Contents);
            // zstd ignores a bit here and there, and then nothing is lost.
            let lost = contents.len() - found.len();
            assert!(lost <= usize::from(position >= MAGIC.len()), "byte {position}");
            let noticed = !scan.gaps.is_empty() || scan.end < bytes.len() as u64;
            assert_eq!(noticed, lost > 0 || position < MAGIC.len(), "byte {position}");
        }
    }

    #[test]
    fn a_record_inside_a_blob_can_only_tell_the_truth() {
        let victim = hash_of(b"victim");
        let mut forged = encode_record(&victim, b"another");
        forged.extend(encode_record(&hash_of(b"honest"), b"honest"));
        // Keeps the blob from being compressed, so that the records in it can be found.
        forged.extend(noise(9, 2000));
        let mut bytes = pack_of(&[forged, b"last".to_vec()]);
        bytes[MAGIC.len()] = b'x';
        let (found, _) = scanned(&bytes, Look::Heads);
        assert_eq!(found, [hash_of(b"honest"), hash_of(b"last")]);
    }

    #[test]
    fn the_format_is_that_of_the_golden_files() {
        let contents = [noise(1, 100), Vec::new(), vec![b'x'], noise(2, 77)];
        assert!(golden("pack-raw.pack", &pack_of(&contents)) == pack_of(&contents));
        // Another zstd may compress otherwise, so of compressed records only the reading is fixed.
        let contents = [text(1, 2_000), noise(2, 77), text(3, 900)];
        let mixed = golden("pack-mixed.pack", &pack_of(&contents));
        let expect = Scan { end: mixed.len() as u64, gaps: Vec::new() };
        assert_eq!(scanned(&mixed, Look::Contents), (hashes(&contents), expect));
    }
}
