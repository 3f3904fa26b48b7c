//! The vocabulary of the grid as plain values: ids, units, jobs and their plans, limits, failures, clients.
//!
//! Nothing here reads a clock, a file or a socket; serde is derived on values because they rest on disk and
//! cross the wire inside the types of `protocol`. The words are those of docs/vocabulary.md.
#![forbid(unsafe_code)]

pub mod client;
pub mod display;
pub mod failure;
pub mod ids;
pub mod job;
pub mod limits;
pub mod network;
pub mod plan;
pub mod subjob;
pub mod trouble;
pub mod units;

pub use client::{Capacity, Inventory, Permits, Sealing, Tampering};
pub use display::DisplaySize;
pub use failure::{FailureClass, FailureReason};
pub use ids::{BlobHash, ClientId, Fence, JobId, SubjobId, UserName};
pub use job::{Counts, JobState};
pub use limits::{Limits, Resources};
pub use network::{Endpoint, NetworkAccess};
pub use subjob::{Attempt, OutputFile, SubjobResult, Usage};
pub use trouble::{Crash, Dialog, MAX_FRAMES};
pub use units::{ByteSize, Timestamp};
