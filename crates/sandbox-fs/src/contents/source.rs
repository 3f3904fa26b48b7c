//! Where the contents of a file of a lower layer come from, until they are written over.

use std::fmt;

use rustix::io::Errno;

/// Contents that never change. Reading verifies: what comes back is what was put there, or an error.
pub trait Source: fmt::Debug + Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;

    /// Fills all of `buffer` from the byte `offset` on; the range lies within [`Source::size`].
    ///
    /// # Errors
    /// When the contents are not what they should be, or can't be read.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError>;

    /// What tells these contents from all others, so that a checkpoint can name them; such as their hash.
    fn identity(&self) -> [u8; 32];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("the contents were changed")]
    Tampered,
    #[error("the contents can't be read: {0}")]
    Io(Errno),
}
