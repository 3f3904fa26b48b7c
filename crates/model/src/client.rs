//! What is known of a client machine: its inventory (§2.1, PNM) and what it has free at a moment.

use serde::{Deserialize, Serialize};

use crate::limits::Resources;
use crate::network::Reach;
use crate::units::{ByteSize, Timestamp};

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
    /// What its owner permits subjobs; nothing if a client does not say.
    #[serde(default)]
    pub permits: Permits,
}

/// What a subjob may need of a client besides room, and what a client's owner permits subjobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Permits {
    /// Connections from the client's machine to the endpoints that the job names, as far as this.
    pub network: Reach,
    /// A private display, with an X server of the application's own.
    pub display: bool,
    /// Files that lie sealed on the client's disk, the subjob's and the application's.
    pub sealing: Sealing,
}

/// Which subjobs' files are sealed (§4.4). What a job needs is [`Sealing::OnRequest`] when it asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sealing {
    /// None: the client can't, or the job doesn't ask.
    #[default]
    Off,
    /// Those of jobs that ask.
    OnRequest,
    /// All, whatever the job says.
    Always,
}

impl Sealing {
    pub fn name(self) -> &'static str {
        match self {
            Sealing::Off => "no",
            Sealing::OnRequest => "on request",
            Sealing::Always => "always",
        }
    }
}

impl Permits {
    /// Whether all that is needed is permitted.
    pub fn cover(self, needs: Permits) -> bool {
        self.network >= needs.network
            && (self.display || !needs.display)
            && (self.sealing > Sealing::Off || needs.sealing == Sealing::Off)
    }
}

/// How often what lies on a client's disk was not what had been written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tampering {
    pub times: u64,
    pub last: Timestamp,
}

/// What a client has free for subjobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub cpus: u32,
    pub memory: ByteSize,
    pub disk: ByteSize,
    /// As in its inventory.
    #[serde(default)]
    pub permits: Permits,
}

impl Capacity {
    /// What is left after `resources` are taken, or nothing when they don't fit.
    pub fn take(self, resources: &Resources) -> Option<Capacity> {
        self.permits.cover(resources.needs).then_some(())?;
        Some(Capacity {
            cpus: self.cpus.checked_sub(resources.cpus)?,
            memory: ByteSize(self.memory.0.checked_sub(resources.memory.0)?),
            disk: ByteSize(self.disk.0.checked_sub(resources.disk.0)?),
            permits: self.permits,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subjob_goes_only_where_it_has_room_and_what_it_needs_is_permitted() {
        let free = |permits| Capacity { cpus: 2, memory: ByteSize::gib(4), disk: ByteSize::gib(4), permits };
        let nothing = Permits::default();
        let network = Permits { network: Reach::Elsewhere, ..nothing };
        let check = |permits, cpus, needs, expect: Option<u32>| {
            let left = free(permits).take(&Resources { cpus, needs, ..Resources::default() });
            assert_eq!(left.map(|left| left.cpus), expect);
        };
        check(nothing, 1, nothing, Some(1));
        check(nothing, 3, nothing, None);
        check(nothing, 1, network, None);
        check(network, 1, network, Some(1));
        check(network, 1, Permits { display: true, ..network }, None);
        let nearby = Permits { network: Reach::Nearby, ..nothing };
        check(network, 1, nearby, None);
        check(nearby, 1, network, Some(1));
        let sealing = |sealing| Permits { sealing, ..nothing };
        check(nothing, 1, sealing(Sealing::OnRequest), None);
        check(sealing(Sealing::OnRequest), 1, sealing(Sealing::OnRequest), Some(1));
        check(sealing(Sealing::Always), 1, sealing(Sealing::OnRequest), Some(1));
        check(sealing(Sealing::Always), 1, nothing, Some(1));
    }
}
