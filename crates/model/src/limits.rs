//! What a subjob asks of a client, and the bounds it runs under.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::Permits;
use crate::units::ByteSize;

/// What a client must have free for a subjob to be placed on it (§2.1 step 5). Also the key of an equivalence
/// class: subjobs with equal resources are one line in the scheduler, however many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Processors the subjob may keep busy.
    pub cpus: u32,
    /// Memory of all its processes together; also its limit.
    pub memory: ByteSize,
    /// Space for its working directory; also its limit.
    pub disk: ByteSize,
    /// What the client's owner must permit.
    #[serde(default)]
    pub needs: Permits,
}

impl Default for Resources {
    fn default() -> Self {
        Resources { cpus: 1, memory: ByteSize::gib(1), disk: ByteSize::gib(2), needs: Permits::default() }
    }
}

/// Bounds on one attempt of a subjob; crossing one ends the attempt with a reason that names it (§4.2.2, §4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A success faster than this is suspect (§4.2.3, malformed subjob).
    pub runtime_min: Duration,
    /// Wall time after which the attempt is ended.
    pub runtime_max: Duration,
    /// Processes and threads alive at one time.
    pub processes: u32,
    /// Bytes of declared outputs, stdout and stderr that are sent back, together.
    pub output: ByteSize,
    /// Processor time of all its processes together; no bound but wall time if absent.
    #[serde(default)]
    pub cpu_max: Option<Duration>,
    /// Bytes per second that it may read from files, and as many that it may write; over it the subjob is slowed,
    /// never ended.
    #[serde(default)]
    pub io_rate: Option<ByteSize>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            runtime_min: Duration::ZERO,
            runtime_max: Duration::from_secs(24 * 3_600),
            processes: 256,
            output: ByteSize::gib(1),
            cpu_max: None,
            io_rate: None,
        }
    }
}
