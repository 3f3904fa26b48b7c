//! The system calls and the memory that have no safe wrapper, behind small safe types. All `unsafe` of this crate is
//! here.
#![allow(unsafe_code)]

mod device;
mod memory;

pub(crate) use device::clone_fuse_device;
pub(crate) use memory::{Locked, Wiped};
