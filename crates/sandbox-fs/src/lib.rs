//! The subjob's file system (§4.3.3.1, §4.4).
//!
//! ```text
//! kernel ── fuse ─► operations ── files ─► store ── blocks, sealed ─► one data file
//! ```
//! Names, attributes and where each block lies are in memory; what is on the disk is blocks that are sealed one by
//! one, all of a subjob in one file. What the disk gives back counts only if it is the block that was written last.

#![deny(unsafe_code)]

pub mod operations;
pub mod seal;
pub mod store;
mod sys;
