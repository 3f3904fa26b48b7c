//! The kernel's side of the file system: a mount of the type `fuse`, served by threads of this process.
//!
//! ```text
//! mount ── the options of mount(2)
//! session ── reads ─► request ─► dispatch ─► Operations
//!    ▲                              │
//!    └── writes ◄── reply ◄─────────┘          delay: what the throttle holds back
//! ```
//! `abi` has the kernel's numbers. `request`, `dispatch` and `reply` are functions of bytes and know no device.

mod abi;
mod delay;
mod dispatch;
mod mount;
mod reply;
mod request;
mod session;
#[cfg(test)]
mod tests;

pub use abi::Opcode;
pub use mount::{MountOptions, Tuning, mount, open_device, tune, unmount};
pub use session::{Session, SessionError, SessionOptions, Writes, Xattrs};
