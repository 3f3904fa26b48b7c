//! The grid end to end: real processes, real programs, real results.
#![forbid(unsafe_code)]

mod bad_input;
mod basics;
mod clean;
mod crashes;
mod machine;
