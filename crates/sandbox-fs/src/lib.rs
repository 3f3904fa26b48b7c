//! The subjob's file system (§4.3.3.1, §4.4).
//!
//! ```text
//! kernel ── fuse ─► operations ── files ─► store ── blocks, sealed ─► one data file
//! ```
//! Names, attributes and where each block lies are in memory; what is on the disk is blocks that are sealed one by
//! one, all of a subjob in one file. What the disk gives back counts only if it is the block that was written last.

#![deny(unsafe_code)]

mod blob;
mod contents;
mod files;
pub mod fuse;
mod layer;
mod limits;
pub mod operations;
pub mod seal;
pub mod server;
pub mod store;
mod sys;
mod tree;
mod trouble;
mod turn;

pub use blob::{Blob, BlobError, BlobWriter, blob_length, blob_name};
pub use contents::{Source, SourceError};
pub use files::{Files, FilesOptions, OpenError};
pub use layer::{Entry, EntryKind, LayerError, PlainSource, plain_layer};
pub use limits::{Quota, Rate, Usage};
pub use tree::StateError;
pub use trouble::Trouble;
