//! The grid end to end: real processes, real programs, real results.
#![forbid(unsafe_code)]

mod basics;
