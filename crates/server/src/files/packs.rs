//! The packs of a store: where each small blob lies, and the one pack that grows.
//!
//! Appending to one file makes a small blob cost a write, and any number of them one fsync.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use model::BlobHash;

use super::damage::{Damage, DamageKind};
use super::disk::{Disk, cut_back, list};
use super::pack::{HEADER_LEN, Look, MAGIC, Scan, decode_record, encode_record, scan};
use super::{FilesError, UNPOISONED};

const SUFFIX: &str = ".pack";

#[derive(Debug)]
pub(super) struct Packs {
    disk: Arc<Disk>,
    directory: PathBuf,
    /// No pack grows beyond this.
    roll: u64,
    /// Taken before `places` where both are.
    growing: Mutex<Growing>,
    places: RwLock<HashMap<BlobHash, Place>>,
}

/// Where a blob's record lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    pack: u32,
    stored_len: u32,
    content_len: u32,
    position: u64,
}

/// The pack that records are appended to. All others are complete and synced.
#[derive(Debug)]
struct Growing {
    number: u32,
    file: Arc<File>,
    len: u64,
    unsynced: bool,
}

impl Packs {
    /// Reads all packs; cuts off what a crash left unfinished at the end of the last.
    pub fn open(disk: Arc<Disk>, roll: u64, damage: &mut Vec<Damage>) -> Result<Self, FilesError> {
        let directory = disk.subdirectory("packs")?;
        let mut numbers: Vec<u32> = list(&directory)?.iter().filter_map(|path| number_of(path)).collect();
        numbers.sort_unstable();
        let mut places = HashMap::new();
        let mut growing = None;
        for number in &numbers {
            let look = if Some(number) == numbers.last() { Look::Contents } else { Look::Heads };
            let path = path_of(&directory, *number);
            let file = disk.open_file(&path)?;
            let found = scan(&file, look, |position, record| {
                let (stored_len, content_len) = (record.stored_len, record.content_len);
                places.insert(record.hash, Place { pack: *number, stored_len, content_len, position });
            });
            let found = found.map_err(|e| disk.failed("read", &path, e))?;
            let decayed = |range| Damage { path: path.clone(), range, kind: DamageKind::Decay };
            match look {
                Look::Contents => growing = resume(&disk, &directory, *number, file, &found, damage)?,
                Look::Heads => {
                    let len = file.metadata().map_err(|e| disk.failed("measure", &path, e))?.len();
                    damage.extend((found.end < len).then(|| decayed(found.end..len)));
                }
            }
            damage.extend(found.gaps.into_iter().map(decayed));
        }
        let growing = match growing {
            Some(growing) => growing,
            None => begin(&disk, &directory, numbers.last().map_or(1, |last| last + 1))?,
        };
        disk.sync_directory(&directory)?;
        Ok(Packs { disk, directory, roll, growing: Mutex::new(growing), places: RwLock::new(places) })
    }

    /// Bytes of content of a blob that lies in a pack.
    pub fn size(&self, hash: &BlobHash) -> Option<u64> {
        self.place(hash).map(|place| u64::from(place.content_len))
    }

    /// The content of a blob that lies in a pack.
    pub fn read(&self, hash: &BlobHash) -> Result<Option<Vec<u8>>, FilesError> {
        let Some(place) = self.place(hash) else { return Ok(None) };
        let path = path_of(&self.directory, place.pack);
        let mut bytes = vec![0; HEADER_LEN + place.stored_len as usize];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, place.position));
        match read {
            Ok(()) => match decode_record(&bytes, hash) {
                Some(content) => Ok(Some(content)),
                None => Err(FilesError::Corrupt { hash: *hash, path }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(FilesError::Corrupt { hash: *hash, path })
            }
            Err(error) => Err(self.disk.failed("read", &path, error)),
        }
    }

    /// Stores `content` if no pack holds it yet.
    pub fn put(&self, hash: &BlobHash, content: &[u8]) -> Result<(), FilesError> {
        let record = encode_record(hash, content);
        let mut growing = self.growing.lock().expect(UNPOISONED);
        if self.place(hash).is_some() {
            return Ok(());
        }
        if growing.len > MAGIC.len() as u64 && growing.len + record.len() as u64 > self.roll {
            self.sync_growing(&mut growing)?;
            *growing = begin(&self.disk, &self.directory, growing.number + 1)?;
            self.disk.sync_directory(&self.directory)?;
        }
        growing.file.write_all_at(&record, growing.len).map_err(|e| {
            cut_back(&growing.file, growing.len);
            self.disk.failed("write", &path_of(&self.directory, growing.number), e)
        })?;
        let place = Place {
            pack: growing.number,
            stored_len: (record.len() - HEADER_LEN) as u32,
            content_len: content.len() as u32,
            position: growing.len,
        };
        growing.len += record.len() as u64;
        growing.unsynced = true;
        self.places.write().expect(UNPOISONED).insert(*hash, place);
        Ok(())
    }

    /// Drops a blob that turned out to be damaged, so that it can be put again.
    pub fn forget(&self, hash: &BlobHash) {
        self.places.write().expect(UNPOISONED).remove(hash);
    }

    /// Brings all records to the disk. Two calls must not overlap: the second would take the first's unfinished
    /// work for done.
    pub fn sync(&self) -> Result<(), FilesError> {
        let (file, number) = {
            let mut growing = self.growing.lock().expect(UNPOISONED);
            if !std::mem::take(&mut growing.unsynced) {
                return Ok(());
            }
            (Arc::clone(&growing.file), growing.number)
        };
        // Without the lock, so that the next batch grows while this one goes to the disk.
        self.disk.sync_file(&file, &path_of(&self.directory, number))
    }

    fn sync_growing(&self, growing: &mut Growing) -> Result<(), FilesError> {
        self.disk.sync_file(&growing.file, &path_of(&self.directory, growing.number))?;
        growing.unsynced = false;
        Ok(())
    }

    fn place(&self, hash: &BlobHash) -> Option<Place> {
        self.places.read().expect(UNPOISONED).get(hash).copied()
    }
}

/// Goes on with the last pack, unless it has gaps: a damaged file is left alone.
fn resume(
    disk: &Disk,
    directory: &Path,
    number: u32,
    file: File,
    found: &Scan,
    damage: &mut Vec<Damage>,
) -> Result<Option<Growing>, FilesError> {
    let path = path_of(directory, number);
    let len = file.metadata().map_err(|e| disk.failed("measure", &path, e))?.len();
    if len < MAGIC.len() as u64 {
        // The crash came while the pack was being begun.
        return begin(disk, directory, number).map(Some);
    }
    if found.end < len {
        file.set_len(found.end).map_err(|e| disk.failed("cut off the end of", &path, e))?;
        damage.push(Damage { path: path.clone(), range: found.end..len, kind: DamageKind::TornTail });
    }
    // What a killed server had written but not synced is readable now, and is taken for stored.
    disk.sync_file(&file, &path)?;
    let whole = found.gaps.is_empty();
    Ok(whole.then(|| Growing { number, file: Arc::new(file), len: found.end, unsynced: false }))
}

/// Makes an empty pack, over whatever a failed attempt at that left.
fn begin(disk: &Disk, directory: &Path, number: u32) -> Result<Growing, FilesError> {
    let path = path_of(directory, number);
    let file = disk.open_file(&path)?;
    let written = file.set_len(0).and_then(|()| file.write_all_at(MAGIC, 0));
    written.map_err(|e| disk.failed("write", &path, e))?;
    Ok(Growing { number, file: Arc::new(file), len: MAGIC.len() as u64, unsynced: true })
}

fn path_of(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:04}{SUFFIX}"))
}

fn number_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}
