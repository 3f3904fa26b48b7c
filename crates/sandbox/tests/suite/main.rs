//! Runs real programs, harmless and hostile, in real sandboxes. As root, a last test runs all others again as an
//! ordinary user.

mod control;
mod harness;
mod hostile;
mod leftovers;
mod limits;
mod program;
mod unprivileged;
