//! Desktop Controller (§4.2): one per machine, it fetches subjobs, runs each in a sandbox, and reports.
//!
//! [`Controller::run`] is its whole life: poll, start attempts, report, until told to stop. Sensing whether the
//! owner is there, and the policy that follows from it, act through [`sandbox::Control`] on what runs here.
#![forbid(unsafe_code)]

mod application;
mod attempt;
mod backoff;
mod cache;
mod clear;
mod collect;
mod controller;
mod delivery;
mod error;
mod identity;
mod inventory;
mod lease;
mod lease_keys;
mod output;
mod place;
pub mod sealed;
mod secrecy;
mod stamp;
pub mod tree;
mod verdict;
mod work;

pub use clear::remove_tree;
pub use controller::{Config, Controller};
pub use error::ControllerError;
pub use identity::{Membership, membership};
