//! A subjob's file system as a process of its own.
//!
//! A [`FileServer`] is started before the sandbox, and takes the device when the sandbox has mounted it. It outlives the
//! mount, so that outputs can be taken when nothing of the subjob runs any more.

mod client;
mod message;
mod process;
mod source;

pub use client::{FileServer, ServedFile, ServerError, ServerOptions};
pub use message::{Found, Layer, LayerEntry, LayerKind, Listed, Report};
pub use process::server_main;

/// The argument after which a program that embeds this crate must call [`server_main`], before it starts any thread.
pub const SERVER_ARGUMENT: &str = "sandbox-fs-server";
