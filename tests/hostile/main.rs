//! Attacks that really run, on a grid of real processes: what crosses a border of trust is tried by somebody who
//! means harm. Each has a harmless twin that must pass, so that a barrier that stops everybody is noticed too.
#![forbid(unsafe_code)]

mod clients;
mod fake_server;
mod leases;
mod network;
mod programs;
mod proxy;
mod raw;
mod rogue;
mod users;
