//! The file store in a directory, which belongs to one process at a time.
//!
//! ```text
//! packs/NNNN.pack       blobs up to PACK_MAX, one after another     (packs.rs, format in pack.rs)
//! blobs/ab/cd/<hash>    larger ones                                 (singles.rs, format in frames.rs)
//! slices                blobs that are ranges of others             (slices.rs)
//! uploads/<hash>.part   what came so far of unfinished uploads      (uploads.rs)
//! tmp/ · lock · version
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{BlobHash, ByteSize};

use super::damage::Damage;
use super::disk::Disk;
use super::frames::FRAME;
use super::packs::Packs;
use super::singles::{Draft, Singles};
use super::slices::Slices;
use super::uploads::{Claim, Piece, Uploads, fit_piece};
use super::writer::DirectoryWriter;
use super::{BlobWriter, Files, FilesError, PACK_MAX, Slice, UNPOISONED, Upload, hash_of, range_within};

/// How a [`DirectoryFiles`] keeps house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// New data is refused while the file system has less free space than this.
    pub floor: ByteSize,
    /// A pack is closed and the next one begun before it grows beyond this.
    pub pack_roll: ByteSize,
    /// An upload that nobody went on with for this long is removed when the store is opened.
    pub upload_lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            floor: ByteSize::mib(256),
            pack_roll: ByteSize::mib(256),
            upload_lifetime: Duration::from_secs(24 * 3600),
        }
    }
}

/// A file store in a directory.
#[derive(Debug)]
pub struct DirectoryFiles {
    pub(super) disk: Arc<Disk>,
    packs: Packs,
    pub(super) singles: Singles,
    slices: Slices,
    uploads: Uploads,
    /// Blobs that a read found damaged and that haven't been stored anew.
    corrupt: Mutex<HashMap<BlobHash, PathBuf>>,
    /// Syncs take turns, so that the second doesn't return before what the first began is done.
    syncing: Mutex<()>,
    damage: Vec<Damage>,
}

impl DirectoryFiles {
    /// Opens the store in the directory `path`, making it if there is none, and mends what a crash left.
    ///
    /// # Errors
    /// Another process has it open, its formats are of another version, or the disk is full or fails.
    pub fn open(path: impl AsRef<Path>, config: Config) -> Result<Self, FilesError> {
        let disk = Arc::new(Disk::open(path.as_ref(), config.floor)?);
        let mut damage = Vec::new();
        let files = DirectoryFiles {
            packs: Packs::open(Arc::clone(&disk), config.pack_roll.0, &mut damage)?,
            singles: Singles::open(Arc::clone(&disk))?,
            slices: Slices::open(Arc::clone(&disk), &mut damage)?,
            uploads: Uploads::open(Arc::clone(&disk), config.upload_lifetime)?,
            corrupt: Mutex::default(),
            syncing: Mutex::default(),
            disk,
            damage,
        };
        // The names of all that was just made.
        files.disk.sync_directory(files.disk.root())?;
        Ok(files)
    }

    /// What was wrong with the files when the store was opened.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Size of a blob that can be relied on: it is there, not known to be damaged, and the next sync covers it.
    fn sound_size(&self, hash: &BlobHash) -> Result<Option<u64>, FilesError> {
        self.check_sound(hash, hash)?;
        if let Some(size) = self.own_size(hash)? {
            return Ok(Some(size));
        }
        let Some(slice) = self.slices.get(hash) else { return Ok(None) };
        self.check_sound(&slice.parent, hash)?;
        Ok(Some(slice.len))
    }

    /// Refuses `hash` if the blob `owner`, which holds its bytes, is known to be damaged.
    fn check_sound(&self, owner: &BlobHash, hash: &BlobHash) -> Result<(), FilesError> {
        match self.corrupt.lock().expect(UNPOISONED).get(owner) {
            Some(path) => Err(FilesError::Corrupt { hash: *hash, path: path.clone() }),
            None => Ok(()),
        }
    }

    /// [`Self::sound_size`] for a writer, to whom a damaged blob is as good as none.
    pub(super) fn present_size(&self, hash: &BlobHash) -> Result<Option<u64>, FilesError> {
        match self.sound_size(hash) {
            Err(FilesError::Corrupt { .. }) => Ok(None),
            found => found,
        }
    }

    /// Size of a blob that isn't a slice.
    fn own_size(&self, hash: &BlobHash) -> Result<Option<u64>, FilesError> {
        if let Some(size) = self.packs.size(hash) {
            return Ok(Some(size));
        }
        let Some(blob) = self.singles.blob(hash)? else { return Ok(None) };
        self.singles.rely_on(hash);
        Ok(Some(blob.size()))
    }

    /// Reads a blob that isn't a slice: the part of it that `select` picks when told its size.
    fn read_own(
        &self,
        hash: &BlobHash,
        select: impl FnOnce(u64) -> Result<Range<u64>, FilesError>,
    ) -> Result<Option<Vec<u8>>, FilesError> {
        let note = |error: &FilesError| self.note(error);
        if let Some(content) = self.packs.read(hash).inspect_err(note)? {
            let range = select(content.len() as u64)?;
            return Ok(Some(content[range.start as usize..range.end as usize].to_vec()));
        }
        let Some(blob) = self.singles.blob(hash).inspect_err(note)? else { return Ok(None) };
        blob.read(&self.disk, hash, select(blob.size())?).inspect_err(note).map(Some)
    }

    fn read_slice(&self, slice: &Slice, offset: u64, len: usize) -> Result<Vec<u8>, FilesError> {
        let corrupt = || self.slices.corrupt(&slice.hash);
        let range = range_within(slice.len, offset, len)?;
        let within_parent = |size: u64| {
            let end = slice.offset.checked_add(range.end).filter(|end| *end <= size);
            end.map(|end| slice.offset + range.start..end).ok_or_else(corrupt)
        };
        let bytes = match self.read_own(&slice.parent, within_parent) {
            // Whoever asked knows the slice, not its parent.
            Err(FilesError::Corrupt { path, .. }) => {
                return Err(FilesError::Corrupt { hash: slice.hash, path });
            }
            read => read?.ok_or_else(corrupt)?,
        };
        if range == (0..slice.len) && hash_of(&bytes) != slice.hash {
            return Err(corrupt()).inspect_err(|error| self.note(error));
        }
        Ok(bytes)
    }

    /// Remembers the blob that `error` says is damaged, if that is what it says.
    fn note(&self, error: &FilesError) {
        if let FilesError::Corrupt { hash, path } = error {
            self.corrupt.lock().expect(UNPOISONED).insert(*hash, path.clone());
            self.packs.forget(hash);
        }
    }

    fn put_small(&self, hash: &BlobHash, content: &[u8]) -> Result<(), FilesError> {
        self.packs.put(hash, content)?;
        self.mended(hash);
        Ok(())
    }

    /// Makes a finished draft visible.
    pub(super) fn adopt(&self, draft: Draft) -> Result<(), FilesError> {
        let (hash, _) = draft.name();
        self.singles.adopt(draft)?;
        self.mended(&hash);
        Ok(())
    }

    fn mended(&self, hash: &BlobHash) {
        self.corrupt.lock().expect(UNPOISONED).remove(hash);
    }

    /// Stores an upload whose last piece is `last`, if it has its hash.
    fn complete(
        &self,
        claim: &Claim<'_>,
        hash: &BlobHash,
        total: u64,
        last: &[u8],
    ) -> Result<(), FilesError> {
        let found = if total <= PACK_MAX as u64 {
            let mut content = Vec::with_capacity(total as usize);
            claim.for_each_piece(PACK_MAX, |piece| {
                content.extend_from_slice(piece);
                Ok(())
            })?;
            content.extend_from_slice(last);
            let found = hash_of(&content);
            if found == *hash {
                self.put_small(hash, &content)?;
            }
            found
        } else {
            let mut draft = self.singles.draft()?;
            claim.for_each_piece(FRAME, |piece| draft.write(piece))?;
            draft.write(last)?;
            let (found, _) = draft.name();
            if found == *hash {
                self.adopt(draft)?;
            }
            found
        };
        claim.discard()?;
        if found != *hash {
            return Err(FilesError::HashMismatch { expected: *hash, found });
        }
        Ok(())
    }

    /// What a slice of `parent` is a range of in the end: a range of a blob of its own.
    fn root_of(&self, parent: &BlobHash) -> Result<Slice, FilesError> {
        let whole = |len| Slice { hash: *parent, parent: *parent, offset: 0, len };
        match self.own_size(parent)? {
            Some(size) => Ok(whole(size)),
            None => self.slices.get(parent).ok_or(FilesError::Missing { hash: *parent }),
        }
    }
}

/// The slice as a range of that of which its parent, `root`, is one.
fn rooted(slice: &Slice, root: &Slice) -> Result<Slice, FilesError> {
    let Slice { hash, parent, offset, len } = *slice;
    let end = offset.saturating_add(len);
    if end > root.len {
        return Err(FilesError::SliceRange { hash, parent, end, size: root.len });
    }
    Ok(Slice { hash, parent: root.parent, offset: root.offset + offset, len })
}

impl Files for DirectoryFiles {
    fn size(&self, hash: &BlobHash) -> Result<Option<u64>, FilesError> {
        self.sound_size(hash)
    }

    fn read(&self, hash: &BlobHash, offset: u64, len: usize) -> Result<Vec<u8>, FilesError> {
        if let Some(bytes) = self.read_own(hash, |size| range_within(size, offset, len))? {
            return Ok(bytes);
        }
        match self.slices.get(hash) {
            Some(slice) => self.read_slice(&slice, offset, len),
            // Unless it was here and turned out to be damaged.
            None => self.sound_size(hash).and(Err(FilesError::Missing { hash: *hash })),
        }
    }

    fn put(&self, bytes: &[u8]) -> Result<BlobHash, FilesError> {
        let hash = hash_of(bytes);
        if self.present_size(&hash)?.is_some() {
            return Ok(hash);
        }
        self.disk.admit()?;
        if bytes.len() <= PACK_MAX {
            self.put_small(&hash, bytes)?;
        } else {
            let mut draft = self.singles.draft()?;
            draft.write(bytes)?;
            self.adopt(draft)?;
        }
        Ok(hash)
    }

    fn uploaded(&self, hash: &BlobHash) -> Result<u64, FilesError> {
        match self.present_size(hash)? {
            Some(size) => Ok(size),
            None => self.uploads.claim(hash).len(),
        }
    }

    fn append(&self, hash: &BlobHash, total: u64, offset: u64, bytes: &[u8]) -> Result<Upload, FilesError> {
        let claim = self.uploads.claim(hash);
        if self.present_size(hash)?.is_some() {
            claim.discard()?;
            return Ok(Upload::Complete);
        }
        self.disk.admit()?;
        let mut have = claim.len()?;
        if have > 0 && have >= total {
            // A blob has one size, so whoever began this upload was wrong about it, or is now.
            claim.discard()?;
            have = 0;
        }
        match fit_piece(hash, total, have, offset, bytes.len())? {
            Piece::Middle { next } => {
                claim.extend(have, bytes)?;
                Ok(Upload::Partial { next })
            }
            Piece::Last => {
                self.complete(&claim, hash, total, bytes)?;
                Ok(Upload::Complete)
            }
        }
    }

    fn put_slices(&self, slices: &[Slice]) -> Result<(), FilesError> {
        let mut new = Vec::with_capacity(slices.len());
        // The pieces of an input have one parent, and asking for it reads a file.
        let mut roots = HashMap::new();
        for slice in slices {
            if self.present_size(&slice.hash)?.is_some() {
                continue;
            }
            let root = match roots.entry(slice.parent) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.root_of(&slice.parent)?),
            };
            new.push(rooted(slice, root)?);
        }
        if new.is_empty() {
            return Ok(());
        }
        self.disk.admit()?;
        self.slices.put(&new)?;
        for slice in &new {
            self.mended(&slice.hash);
        }
        Ok(())
    }

    fn create(&self) -> Result<Box<dyn BlobWriter + '_>, FilesError> {
        self.disk.admit()?;
        Ok(Box::new(DirectoryWriter::new(self)))
    }

    fn sync(&self) -> Result<(), FilesError> {
        let _turn = self.syncing.lock().expect(UNPOISONED);
        self.disk.check_unbroken()?;
        self.packs.sync()?;
        self.slices.sync()?;
        self.singles.sync()
    }
}
