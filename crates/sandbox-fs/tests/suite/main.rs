//! The file system as programs see it: mounted for real, and used by what every machine has.
#![allow(clippy::unwrap_used, reason = "these are tests, though only the functions with the attribute count")]

mod harness;
mod programs;
mod requests;
mod sealed;
mod waiting;
