//! What is known of a client machine: its inventory (§2.1, PNM) and what it has free at a moment.

use serde::{Deserialize, Serialize};

use crate::limits::Resources;
use crate::units::ByteSize;

/// What a client tells of itself when it registers and whenever it changes. Hints for people and for matching:
/// none of it is trusted, none of it identifies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    pub host_name: String,
    /// Processor model as in /proc/cpuinfo.
    pub cpu_model: String,
    pub cpus: u32,
    pub memory: ByteSize,
    /// Size of the file system that holds the client's state directory.
    pub disk: ByteSize,
    pub kernel: String,
    /// Version of the client program.
    pub version: String,
}

/// What a client has free for subjobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub cpus: u32,
    pub memory: ByteSize,
    pub disk: ByteSize,
}

impl Capacity {
    /// What is left after `resources` are taken, or nothing when they don't fit.
    pub fn take(self, resources: &Resources) -> Option<Capacity> {
        Some(Capacity {
            cpus: self.cpus.checked_sub(resources.cpus)?,
            memory: ByteSize(self.memory.0.checked_sub(resources.memory.0)?),
            disk: ByteSize(self.disk.0.checked_sub(resources.disk.0)?),
        })
    }
}
