//! Both ends of the wire need the same few things: keys, trust, HTTPS requests and blob transfers that resume.
//!
//! The command line talks to the user API with a token, the Desktop Controller to the client link with its own
//! key; both do it through [`http::Connection`]. What is said is in `protocol`.
#![forbid(unsafe_code)]

pub mod client;
pub mod error;
pub mod http;
pub mod keys;
pub mod trust;
pub mod user;

pub use client::ClientLink;
pub use error::LinkError;
pub use trust::Trust;
pub use user::UserLink;
