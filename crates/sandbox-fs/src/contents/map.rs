//! Where the blocks of one file lie. Files of a few blocks take a few words, large sparse files only what they hold.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::store::BlockRef;

/// Blocks in one piece of the map: those of 1 MiB of the file, the largest request.
const PIECE: u64 = 256;

/// Block number → place in the store; a block without a place is a hole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockMap {
    /// The first piece, which is all that most files have. Pieces end with their last block.
    first: Vec<Option<BlockRef>>,
    /// The others, by their number.
    rest: BTreeMap<u64, Vec<Option<BlockRef>>>,
    /// Blocks that have a place.
    len: u64,
}

impl BlockMap {
    /// The places of consecutive blocks from `block` on: as many as fit `places` and as one piece holds; returns how
    /// many. At least one, if `places` is not empty.
    pub(crate) fn run(&self, block: u64, places: &mut [Option<BlockRef>]) -> usize {
        let (number, at) = split(block);
        let count = places.len().min((PIECE - at as u64) as usize);
        let places = &mut places[..count];
        places.fill(None);
        if let Some(known) = self.piece(number).and_then(|piece| piece.get(at..)) {
            let known = &known[..known.len().min(count)];
            places[..known.len()].copy_from_slice(known);
        }
        count
    }

    pub(crate) fn get(&self, block: u64) -> Option<BlockRef> {
        let (number, at) = split(block);
        self.piece(number).and_then(|piece| piece.get(at).copied().flatten())
    }

    /// Notes the places of consecutive blocks.
    pub(crate) fn set(&mut self, block: u64, places: &[Option<BlockRef>]) {
        let (mut block, mut places) = (block, places);
        while !places.is_empty() {
            let (number, at) = split(block);
            let count = places.len().min((PIECE - at as u64) as usize);
            let (now, later) = places.split_at(count);
            let piece = match number {
                0 => &mut self.first,
                _ => self.rest.entry(number).or_default(),
            };
            if piece.len() < at + count {
                piece.resize(at + count, None);
            }
            let known = |places: &[Option<BlockRef>]| places.iter().flatten().count() as u64;
            let piece = &mut piece[at..at + count];
            self.len = self.len - known(piece) + known(now);
            piece.copy_from_slice(now);
            (block, places) = (block + count as u64, later);
        }
    }

    /// Takes out all places in a range of blocks; says how many there were and hands them to `freed`.
    pub(crate) fn clear(&mut self, range: Range<u64>, mut freed: impl FnMut(BlockRef)) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let mut count = 0;
        let mut take = |number: u64, piece: &mut Vec<Option<BlockRef>>| {
            let base = number * PIECE;
            let from = range.start.saturating_sub(base).min(piece.len() as u64) as usize;
            let to = range.end.saturating_sub(base).min(piece.len() as u64) as usize;
            for place in piece[from..to.max(from)].iter_mut().filter_map(Option::take) {
                count += 1;
                freed(place);
            }
            let kept = piece.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            piece.truncate(kept);
            piece.shrink_to(kept);
        };
        if range.start < PIECE {
            take(0, &mut self.first);
        }
        let pieces = (range.start / PIECE).max(1)..=(range.end - 1) / PIECE;
        if !pieces.is_empty() {
            for (number, piece) in self.rest.range_mut(pieces.clone()) {
                take(*number, piece);
            }
            let emptied: Vec<u64> = self
                .rest
                .range(pieces)
                .filter(|(_, piece)| piece.is_empty())
                .map(|(number, _)| *number)
                .collect();
            for number in emptied {
                self.rest.remove(&number);
            }
        }
        self.len -= count;
        count
    }

    /// Blocks that have a place.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// All places, in no order that matters.
    pub(crate) fn places(&self) -> impl Iterator<Item = BlockRef> + '_ {
        self.first.iter().chain(self.rest.values().flatten()).copied().flatten()
    }

    fn piece(&self, number: u64) -> Option<&Vec<Option<BlockRef>>> {
        if number == 0 { Some(&self.first) } else { self.rest.get(&number) }
    }
}

/// Piece, and place in it.
fn split(block: u64) -> (u64, usize) {
    (block / PIECE, (block % PIECE) as usize)
}
