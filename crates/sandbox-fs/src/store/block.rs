//! One sealed block: how it is told apart from every other that was ever sealed, and where it lies.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::seal::Tag;

/// Bytes of a block, which is sealed as a whole: the page of the kernel's cache, so that a page that is written needs
/// no block read back.
pub const BLOCK: usize = 4096;

/// Where a block lies and what it is: enough to know, when it is read back, that it is the one that was written. Keep
/// it where nobody can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    pub(super) slot: Slot,
    pub(super) version: Version,
    pub(super) tag: Tag,
}

const _: () = assert!(size_of::<Option<BlockRef>>() == 32, "a file of 1 GiB has 8 MiB of these");

/// A place for one block in the data file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Slot(NonZeroU64);

impl Slot {
    /// The one that is number `number`, which is not 0.
    pub(super) fn new(number: u64) -> Slot {
        Slot(NonZeroU64::new(number).expect("slots are counted from 1"))
    }

    pub(super) fn number(self) -> u64 {
        self.0.get()
    }

    /// Bytes before it in the data file.
    pub(super) fn offset(self) -> u64 {
        (self.0.get() - 1).saturating_mul(BLOCK as u64)
    }
}

/// Number of a session of a store.
pub(super) type SessionNumber = u16;

/// The number of one sealing: never used twice in a store. The session's number above, a counter of the session below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version(u64);

/// Bits of a version that count within a session.
const COUNTER_BITS: u32 = 48;

/// How many sealings a session has.
pub(super) const SEALINGS: u64 = 1 << COUNTER_BITS;

impl Version {
    /// `counter` is less than [`SEALINGS`].
    pub(super) fn new(session: SessionNumber, counter: u64) -> Version {
        debug_assert!(counter < SEALINGS, "a session ends before its counter does");
        Version(u64::from(session) << COUNTER_BITS | counter)
    }

    pub(super) fn session(self) -> SessionNumber {
        (self.0 >> COUNTER_BITS) as SessionNumber
    }

    /// What the block is sealed with. Within the session's key it is unique.
    pub(super) fn nonce(self) -> u64 {
        self.0
    }
}
