//! The hostile suite: everything that we know a hostile program would try, as data. Each case runs in a real
//! sandbox beside a harmless twin that must succeed, so that nothing passes because nothing works.
//!
//! An [`Attempt`] is one or more acts that are over at once; all attempts of a topic share one sandbox. A
//! [`Siege`] goes on until something stops it and has a sandbox of its own; an [`Injection`](libraries::Injection) runs a
//! dynamic program. What is tested in other places is
//! named by [`ELSEWHERE`]. `table` writes them all into `docs/hostile-cases.md`; numbers up to 50 are those of the
//! list that the suite began with.

mod attempt;
mod code;
mod elsewhere;
mod files;
mod host;
mod kernel;
mod libraries;
mod network;
mod processes;
mod resources;
mod siege;
mod table;

use attempt::{Attempt, Expect, attempt};
use elsewhere::ELSEWHERE;
use host::Host;
use siege::{Met, Siege, Stop, siege};

/// All attempts by topic.
const TOPICS: &[(&str, &[Attempt])] = &[
    ("files", files::ATTEMPTS),
    ("code", code::ATTEMPTS),
    ("processes", processes::ATTEMPTS),
    ("network", network::ATTEMPTS),
    ("kernel", kernel::ATTEMPTS),
];

#[test]
fn files() {
    attempt::check(files::ATTEMPTS);
}

#[test]
fn code() {
    attempt::check(code::ATTEMPTS);
}

#[test]
fn processes() {
    attempt::check(processes::ATTEMPTS);
}

#[test]
fn network() {
    attempt::check(network::ATTEMPTS);
}

#[test]
fn kernel() {
    attempt::check(kernel::ATTEMPTS);
}

#[test]
fn resources() {
    siege::check(resources::SIEGES);
}
