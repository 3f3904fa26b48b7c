//! The grid end to end: real processes, real programs, real results.
#![forbid(unsafe_code)]

mod bad_input;
mod bare_client;
mod basics;
mod clean;
mod crashes;
mod examples;
mod limits;
mod machine;
mod portal;
mod sealed;
mod snapshot;
mod tampering;
