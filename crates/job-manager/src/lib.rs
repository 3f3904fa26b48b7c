//! Job Manager (§2.1): one logical job in, many subjobs out, one result back.
//!
//! Pure: `decompose` makes a subjob out of a plan and an index, `jobs` keeps count and notices malformed jobs,
//! `aggregate` joins outputs. Where outputs come from and where the result goes is the server's business.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod decompose;
#[cfg(test)]
mod fixtures;
pub mod jobs;
