//! All that crosses a process or rests on disk: the manifest, the job spec, the user API and the client link.
//!
//! Types only, with their checks; who sends them and where they are kept is in `link` and `server`.
#![forbid(unsafe_code)]

pub mod api;
pub mod client_link;
pub mod manifest;
pub mod spec;
pub mod split;
pub mod token;
