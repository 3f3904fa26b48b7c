//! Keys and ciphers: how one block is sealed, and under which key. Where sealed blocks lie is [`crate::store`]'s.
//!
//! ```text
//! store key ── HKDF, salt of the session ─► session key ──┬─ "file", number ─► key of a file's blocks
//!                                                         ├─ "blob", hash, size ─► key of contents written once
//!                                                         └─ "state" ────────► key of the session's checkpoints
//! ```
//! A library expands keys into memory that we don't choose: [`crate::server`] locks all of its process.
//!
//! docs/decisions/0016 says why, and what it bounds.

mod key;
mod suite;

pub use key::StoreKey;
pub(crate) use key::{SALT, SessionKey, random_salt};
pub use suite::Suite;
pub(crate) use suite::{Broken, SealKey, TAG, Tag};
