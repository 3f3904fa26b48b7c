//! How `resources` and `limits` are written in a spec: amounts as text with a unit.

use std::time::Duration;

use model::{ByteSize, Limits, Resources};
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
}

impl From<Resources> for ResourcesKeys {
    fn from(Resources { cpus, memory, disk }: Resources) -> Self {
        ResourcesKeys { cpus, memory: size_text(memory), disk: size_text(disk) }
    }
}

impl Default for ResourcesKeys {
    fn default() -> Self {
        Resources::default().into()
    }
}

impl From<Limits> for LimitsKeys {
    fn from(Limits { runtime_min, runtime_max, processes, output, .. }: Limits) -> Self {
        let [runtime_min, runtime_max] = [runtime_min, runtime_max].map(duration_text);
        LimitsKeys { runtime_min, runtime_max, processes, output: size_text(output) }
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
