//! What is still seen of a lower layer's file below a file's own blocks.

use std::ops::Range;
use std::sync::Arc;

use super::{BLOCK_BYTES, Ranges, Source, SourceError};

/// What is still seen of a lower layer's file.
#[derive(Clone)]
pub(crate) struct Lower {
    pub(crate) source: Arc<dyn Source>,
    /// Bytes behind this one are gone, whatever comes later.
    pub(crate) visible: u64,
    /// Blocks before that which were written over or made holes.
    pub(crate) hidden: Ranges,
}

impl Lower {
    /// Whether a block without a place of its own is seen in the lower layer.
    pub(super) fn has(&self, block: u64) -> bool {
        block * BLOCK_BYTES < self.visible && !self.hidden.contains(block)
    }

    pub(super) fn hide(&mut self, blocks: Range<u64>) {
        let end = blocks.end.min(self.visible.div_ceil(BLOCK_BYTES));
        if blocks.start < end {
            self.hidden.insert(blocks.start..end);
        }
    }

    pub(super) fn cut(&mut self, size: u64) {
        self.visible = self.visible.min(size);
        self.hidden.remove(self.visible.div_ceil(BLOCK_BYTES)..u64::MAX);
    }

    /// Blocks that are still seen in the layer.
    pub(super) fn blocks(&self) -> u64 {
        self.visible.div_ceil(BLOCK_BYTES).saturating_sub(self.hidden.len())
    }

    /// Fills whole blocks, with zeros behind the end.
    pub(super) fn read(&self, block: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let offset = block * BLOCK_BYTES;
        let length = out.len().min((self.visible - offset) as usize);
        let (bytes, rest) = out.split_at_mut(length);
        rest.fill(0);
        self.source.read(offset, bytes)
    }
}
