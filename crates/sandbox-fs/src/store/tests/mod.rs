//! A store against a model of it: on a disk that loses power, fails and fills up, and before somebody who changes what
//! is on it.

mod attacks;
mod blocks;
mod crashes;
mod directories;
mod failures;
mod format;
mod simulated;
mod world;

use std::os::fd::OwnedFd;
use std::path::Path;

use super::block::{SEALINGS, Slot, Version};
use super::checkpoint::Head;
use super::*;
use crate::seal::{SALT, TAG};

/// xorshift64*: small, and the same at every run.
#[derive(Clone)]
struct Numbers(u64);

impl Numbers {
    fn from(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `limit`, which is not 0.
    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    fn one_of<T: core::marker::Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

fn key(byte: u8) -> StoreKey {
    StoreKey::take(&mut [byte; 32]).unwrap()
}

fn directory(path: &Path) -> OwnedFd {
    std::fs::File::open(path).unwrap().into()
}

/// A block's contents, different for each `seed`.
fn filled(seed: u64) -> Vec<u8> {
    seed.to_le_bytes().repeat(BLOCK / 8)
}
