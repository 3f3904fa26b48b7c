//! The Sandbox Execution Layer (§4.3) and the VM Portal (§4.2.1): runs one program of a subjob so that it can
//! touch, see, outlive or disturb nothing of the desktop, and says how it ended.
//!
//! ```text
//! client ── start() ──► init (our own binary, re-executed; single-threaded)
//!    │                    │ namespaces
//!    │ lifeline           ▼
//!    └─ and reports ──► VM Portal (pid 1 inside) ── builds the root, reaps, forwards ──► program
//! ```
//! [`start`] and the thread that watches live in the client's process; everything under `init` runs in the
//! re-executed one. The client's end of the channel is the lifeline: when it closes, for whatever reason, the VM
//! Portal exits and the kernel kills all that it ever started. Each step that fails keeps the program from
//! running and is reported with its name and path.
//!
//! Synchronous; no runtime. What files a subjob sees is the caller's business, and so is what a failure means.
#![deny(unsafe_code)]

mod control_group;
mod crash;
mod disk;
mod display;
mod error;
mod exit;
mod filter;
mod heartbeat;
mod identity;
mod init;
mod layout;
mod message;
mod network;
mod probe;
mod running;
mod served;
mod spec;
mod start;
mod stat;
mod sys;
#[cfg(test)]
mod testing;
mod watch;

pub use control_group::remove_leftovers;
pub use error::SandboxError;
pub use exit::{Cause, ClosedDialog, Ended, Exit, LimitHit, MAX_DIALOGS, MAX_PICTURE, NetworkUse, Unreached};
pub use filter::{FilterRule, filter_rules};
pub use identity::service_id;
pub use init::{SeenPlace, init_main, seen_places};
pub use network::Nearby;
pub use probe::{Enforcer, Finding, probe, sealed_files};
pub use running::{Control, ControlError, Running};
pub use served::{FileServer, FileState, FileTrouble, Served, confine_file_server};
pub use spec::{Bounds, Code, Display, Output, Spec, Stdin};
pub use start::{INIT_ARGUMENT, Launcher, start};
