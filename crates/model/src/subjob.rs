//! An attempt of a subjob and what came of it.
//!
//! ```text
//! queued ──lease──► leased ──report ok──► succeeded
//!   ▲                 │
//!   └──strike < max───┤ report failed, lease expired or lost
//!                     └──strikes = max──► failed          any live ──cancel──► cancelled
//! ```
//! Queued is implicit: an index at or above the job's cursor, or below it with neither lease nor outcome.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::FailureReason;
use crate::ids::{BlobHash, ClientId, Fence, SubjobId};
use crate::units::{ByteSize, Timestamp};

/// One run of a subjob on one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub fence: Fence,
    pub subjob: SubjobId,
    /// From 1.
    pub number: u32,
    pub client: ClientId,
    pub since: Timestamp,
}

/// A file that came back from a subjob. `path` is relative to its working directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    pub path: String,
    pub hash: BlobHash,
    pub size: u64,
}

/// What one attempt consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub wall: Duration,
    /// Processor time of all its processes, user and system.
    pub cpu: Duration,
    pub peak_memory: ByteSize,
}

/// How an attempt ended, as the client reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum SubjobResult {
    Succeeded {
        /// Declared outputs, then `stdout` and `stderr`.
        outputs: Vec<OutputFile>,
        usage: Usage,
    },
    Failed {
        reason: FailureReason,
        /// The last bytes of stdout and stderr, for a person to read.
        outputs: Vec<OutputFile>,
        usage: Usage,
    },
}
