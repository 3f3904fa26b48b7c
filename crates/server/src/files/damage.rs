//! What a store found wrong with its files when it was opened.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// A stretch of a pack or of the slices log that holds nothing readable. The store goes on without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// In bytes from the file's start.
    pub range: Range<u64>,
    pub kind: DamageKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The end of a file, as a crash leaves it in the middle of a write: nothing that was synced. It was cut off.
    TornTail,
    /// Bytes that were written whole and have changed since. They were skipped and left as they are.
    Decay,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, Range { start, end }) = (self.path.display(), &self.range);
        match self.kind {
            DamageKind::TornTail => write!(f, "{path}: cut off an unfinished write, bytes {start} to {end}"),
            DamageKind::Decay => write!(f, "{path}: bytes {start} to {end} are damaged and were skipped"),
        }
    }
}
