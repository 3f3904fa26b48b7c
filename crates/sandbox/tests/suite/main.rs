//! Runs real programs, harmless and hostile, in real sandboxes. As root, a last test runs all others again as an
//! ordinary user.
//!
//! Subjobs run only when the machine has nothing else to do, so how long one takes says little here; what is timed
//! is what the sandbox does to them.
#![allow(clippy::unwrap_used, reason = "these are tests, though only the functions with the attribute count")]

mod cases;
mod control;
mod harness;
mod hostile;
mod leftovers;
mod limits;
mod limits_heartbeat;
mod limits_pause;
mod limits_use;
mod network;
mod program;
mod root;
mod unprivileged;
