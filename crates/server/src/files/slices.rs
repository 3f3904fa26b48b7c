//! The blobs that are ranges of others, kept in one log: the pieces of a split input cost 88 bytes each.
//!
//! ```text
//! "DCGSLIC1" · record …
//! record: hash 32 · parent 32 · offset u64 · length u64 · checksum of all this 8
//! ```
//! Integers are little-endian.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use model::BlobHash;

use super::damage::{Damage, DamageKind};
use super::disk::{Disk, cut_back};
use super::{CHECKSUM_LEN, FilesError, Slice, UNPOISONED, checksum};

const MAGIC: &[u8; 8] = b"DCGSLIC1";
const GUARDED_LEN: usize = 32 + 32 + 8 + 8;
const RECORD_LEN: usize = GUARDED_LEN + CHECKSUM_LEN;

#[derive(Debug)]
pub(super) struct Slices {
    disk: Arc<Disk>,
    path: PathBuf,
    /// Taken before `slices` where both are.
    log: Mutex<Log>,
    slices: RwLock<HashMap<BlobHash, Slice>>,
}

#[derive(Debug)]
struct Log {
    file: Arc<File>,
    len: u64,
    unsynced: bool,
}

impl Slices {
    /// Reads the log; cuts off what a crash left unfinished at its end.
    pub fn open(disk: Arc<Disk>, damage: &mut Vec<Damage>) -> Result<Self, FilesError> {
        let path = disk.root().join("slices");
        let file = disk.open_file(&path)?;
        let mut slices = HashMap::new();
        let found = load(&file, &mut slices).map_err(|e| disk.failed("read", &path, e))?;
        if found.end < found.len {
            file.set_len(found.end).map_err(|e| disk.failed("cut off the end of", &path, e))?;
            let range = found.end..found.len;
            damage.push(Damage { path: path.clone(), range, kind: DamageKind::TornTail });
        }
        if found.end == 0 {
            file.write_all_at(MAGIC, 0).map_err(|e| disk.failed("write", &path, e))?;
        }
        let decayed = |range| Damage { path: path.clone(), range, kind: DamageKind::Decay };
        damage.extend(found.gaps.into_iter().map(decayed));
        disk.sync_file(&file, &path)?;
        let log = Log { file: Arc::new(file), len: found.end.max(MAGIC.len() as u64), unsynced: false };
        Ok(Slices { disk, path, log: Mutex::new(log), slices: RwLock::new(slices) })
    }

    pub fn get(&self, hash: &BlobHash) -> Option<Slice> {
        self.slices.read().expect(UNPOISONED).get(hash).copied()
    }

    /// Adds slices whose hashes are new.
    pub fn put(&self, new: &[Slice]) -> Result<(), FilesError> {
        let records: Vec<u8> = new.iter().flat_map(encode).collect();
        let mut log = self.log.lock().expect(UNPOISONED);
        log.file.write_all_at(&records, log.len).map_err(|e| {
            cut_back(&log.file, log.len);
            self.disk.failed("write", &self.path, e)
        })?;
        log.len += records.len() as u64;
        log.unsynced = true;
        self.slices.write().expect(UNPOISONED).extend(new.iter().map(|slice| (slice.hash, *slice)));
        Ok(())
    }

    /// Brings all slices to the disk. Two calls must not overlap.
    pub fn sync(&self) -> Result<(), FilesError> {
        let file = {
            let mut log = self.log.lock().expect(UNPOISONED);
            if !std::mem::take(&mut log.unsynced) {
                return Ok(());
            }
            Arc::clone(&log.file)
        };
        self.disk.sync_file(&file, &self.path)
    }

    /// The error for a slice whose bytes aren't what its maker said.
    pub fn corrupt(&self, hash: &BlobHash) -> FilesError {
        FilesError::Corrupt { hash: *hash, path: self.path.clone() }
    }
}

/// What a log holds besides its slices.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Where the last good record ends; 0 for a file that was never begun.
    end: u64,
    len: u64,
    gaps: Vec<Range<u64>>,
}

fn load(file: &File, slices: &mut HashMap<BlobHash, Slice>) -> io::Result<Found> {
    let len = file.metadata()?.len();
    let mut found = Found { end: 0, len, gaps: Vec::new() };
    let mut reader = BufReader::with_capacity(1 << 20, file);
    if len < MAGIC.len() as u64 {
        return Ok(found);
    }
    let mut magic = *MAGIC;
    reader.read_exact(&mut magic)?;
    found.end = MAGIC.len() as u64;
    if magic != *MAGIC {
        // The records guard themselves; a damaged first line takes none of them along.
        found.gaps.push(0..found.end);
    }
    let mut record = [0; RECORD_LEN];
    let mut position = found.end;
    while position + RECORD_LEN as u64 <= len {
        reader.read_exact(&mut record)?;
        if let Some(slice) = decode(&record) {
            if found.end < position {
                found.gaps.push(found.end..position);
            }
            slices.insert(slice.hash, slice);
            found.end = position + RECORD_LEN as u64;
        }
        position += RECORD_LEN as u64;
    }
    Ok(found)
}

fn encode(slice: &Slice) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    record[..32].copy_from_slice(&slice.hash.0);
    record[32..64].copy_from_slice(&slice.parent.0);
    record[64..72].copy_from_slice(&slice.offset.to_le_bytes());
    record[72..GUARDED_LEN].copy_from_slice(&slice.len.to_le_bytes());
    let guard = checksum(&record[..GUARDED_LEN]);
    record[GUARDED_LEN..].copy_from_slice(&guard);
    record
}

fn decode(record: &[u8; RECORD_LEN]) -> Option<Slice> {
    let (guarded, guard) = record.split_at(GUARDED_LEN);
    if checksum(guarded) != *guard {
        return None;
    }
    let hash = |at: usize| BlobHash(guarded[at..at + 32].try_into().expect("32 bytes"));
    let number = |at: usize| u64::from_le_bytes(guarded[at..at + 8].try_into().expect("8 bytes"));
    Some(Slice { hash: hash(0), parent: hash(32), offset: number(64), len: number(72) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::samples::golden;

    fn slice(n: u8) -> Slice {
        Slice { hash: BlobHash([n; 32]), parent: BlobHash([200; 32]), offset: u64::from(n) * 1000, len: 1000 }
    }

    fn log_of(count: u8) -> Vec<u8> {
        MAGIC.iter().copied().chain((1..=count).flat_map(|n| encode(&slice(n)))).collect()
    }

    fn loaded(bytes: &[u8]) -> (HashMap<BlobHash, Slice>, Found) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let mut slices = HashMap::new();
        let found = load(&file, &mut slices).unwrap();
        (slices, found)
    }

    #[test]
    fn a_log_cut_anywhere_keeps_its_whole_records() {
        let whole = log_of(4);
        for len in 0..=whole.len() {
            let (slices, found) = loaded(&whole[..len]);
            let records = len.saturating_sub(MAGIC.len()) / RECORD_LEN;
            assert_eq!(slices.len(), records, "cut to {len}");
            let end = if len < MAGIC.len() { 0 } else { MAGIC.len() + records * RECORD_LEN };
            assert_eq!(found, Found { end: end as u64, len: len as u64, gaps: Vec::new() }, "cut to {len}");
        }
    }

    #[test]
    fn a_changed_byte_costs_one_record_at_most() {
        let whole = log_of(3);
        for position in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[position] ^= 1 << (position % 8);
            let (slices, found) = loaded(&bytes);
            assert!(slices.values().all(|found| *found == slice(found.hash.0[0])), "byte {position}");
            assert_eq!(slices.len(), if position < MAGIC.len() { 3 } else { 2 }, "byte {position}");
            assert!(!found.gaps.is_empty() || found.end < found.len, "byte {position}");
        }
    }

    #[test]
    fn the_format_is_that_of_the_golden_file() {
        assert!(golden("slices.log", &log_of(3)) == log_of(3));
    }
}
