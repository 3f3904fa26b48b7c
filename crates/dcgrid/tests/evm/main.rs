//! `dcgrid evm` as people use it: real programs, real pipes, real signals; and what is left afterwards.
#![forbid(unsafe_code)]

mod bench;
mod cache;
mod endings;
mod explain;
mod files;
mod programs;
mod sealed;
mod streams;
mod unprivileged;
