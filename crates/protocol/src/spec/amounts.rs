//! How `resources`, `limits` and `network` are written in a spec: amounts as text with a unit.

use std::time::Duration;

use model::{ByteSize, Limits, NetworkAccess, Resources};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

/// The keys of `resources`.
#[derive(Serialize, JsonSchema)]
#[serde(rename = "Resources")]
#[schemars(deny_unknown_fields, default)]
pub(super) struct ResourcesKeys {
    /// Processors that the subjob may keep busy.
    #[schemars(range(min = 1, max = 4096))]
    cpus: u32,
    /// Memory of all its processes together, such as `2GiB`.
    memory: String,
    /// Space for its working directory, such as `4GiB`.
    disk: String,
}

/// The keys of `limits`.
#[derive(Serialize, JsonSchema)]
#[serde(rename = "Limits")]
#[schemars(deny_unknown_fields, default)]
pub(super) struct LimitsKeys {
    /// A success faster than this is suspect, such as `20s`.
    runtime_min: String,
    /// Wall time after which an attempt is ended, such as `4h`.
    runtime_max: String,
    /// Processes and threads alive at one time.
    #[schemars(range(min = 1))]
    processes: u32,
    /// Bytes of all outputs together, such as `100MiB`.
    output: String,
    /// Processor time of all its processes together, such as `8h`; no bound if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_max: Option<String>,
    /// Bytes per second that it may read from files, and as many that it may write, such as `20MB`; over it the
    /// subjob is slowed. No bound if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    io_rate: Option<String>,
}

/// The keys of `network`.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename = "Network")]
#[schemars(deny_unknown_fields, default)]
pub(super) struct NetworkKeys {
    /// TCP endpoints that the subjobs may connect to, such as `10.2.0.5:5432` or `db.example:5432`.
    allow: Vec<String>,
    /// Bytes per second over all connections of a subjob, each way, such as `1MB`; no bound if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
}

impl From<Resources> for ResourcesKeys {
    fn from(Resources { cpus, memory, disk, needs: _ }: Resources) -> Self {
        ResourcesKeys { cpus, memory: size_text(memory), disk: size_text(disk) }
    }
}

impl Default for ResourcesKeys {
    fn default() -> Self {
        Resources::default().into()
    }
}

impl From<Limits> for LimitsKeys {
    fn from(limits: Limits) -> Self {
        let Limits { runtime_min, runtime_max, processes, output, cpu_max, io_rate } = limits;
        LimitsKeys {
            runtime_min: duration_text(runtime_min),
            runtime_max: duration_text(runtime_max),
            processes,
            output: size_text(output),
            cpu_max: cpu_max.map(duration_text),
            io_rate: io_rate.map(size_text),
        }
    }
}

impl Default for LimitsKeys {
    fn default() -> Self {
        Limits::default().into()
    }
}

/// The size in the largest unit that leaves no fraction.
pub(super) fn size_text(ByteSize(bytes): ByteSize) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
    in_units(bytes, &units)
}

/// The duration in the largest unit that leaves no fraction.
fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    in_units(millis, &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)])
}

fn in_units(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().find(|(_, unit)| amount > 0 && amount.is_multiple_of(*unit));
    let (name, unit) = fits.or(units.last()).expect("there are units");
    format!("{}{name}", amount / unit)
}

pub(super) fn serialize_resources<S: Serializer>(
    resources: &Resources,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    ResourcesKeys::from(*resources).serialize(serializer)
}

pub(super) fn serialize_limits<S: Serializer>(limits: &Limits, serializer: S) -> Result<S::Ok, S::Error> {
    LimitsKeys::from(*limits).serialize(serializer)
}

pub(super) fn serialize_network<S: Serializer>(
    network: &NetworkAccess,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let allow = network.allow.iter().map(ToString::to_string).collect();
    NetworkKeys { allow, rate: network.rate.map(size_text) }.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use model::units::parse_duration;

    use super::*;

    #[test]
    fn amounts_read_back_as_they_are_written() {
        for (bytes, expect) in [
            (0, "0B"),
            (1, "1B"),
            (3 << 29, "1536MiB"),
            (4_000_000_000, "3906250KiB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(size_text(ByteSize(bytes)), expect);
            assert_eq!(expect.parse(), Ok(ByteSize(bytes)));
        }
        for (millis, expect) in [(0, "0ms"), (1_500, "1500ms"), (90_000, "90s"), (86_400_000, "24h")] {
            assert_eq!(duration_text(Duration::from_millis(millis)), expect);
            assert_eq!(parse_duration(expect), Ok(Duration::from_millis(millis)));
        }
    }
}
