//! Reads what a subjob may use: `resources`, `limits` and `network`, with their sizes, times and rates.

use std::num::NonZeroU64;
use std::time::Duration;

use model::network::Place;
use model::units::parse_duration;
use model::{ByteSize, Endpoint, Limits, NetworkAccess, Permits, Resources};

use super::reader::{At, Reader};

pub(super) fn read_resources(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Resources> {
    let keys = reader.table(at, &["cpus", "memory", "disk"])?;
    let default = Resources::default();
    let size = |r: &mut Reader<'_>, at: &At<'_>| read_amount(r, at).map(|size| ByteSize(size.get()));
    Some(Resources {
        cpus: reader
            .optional(&keys, "cpus", |r, at| r.whole(at, 1, 4096))
            .map_or(default.cpus, |cpus| cpus as u32),
        memory: reader.optional(&keys, "memory", size).unwrap_or(default.memory),
        disk: reader.optional(&keys, "disk", size).unwrap_or(default.disk),
        // Follows from what else is in the spec.
        needs: Permits::default(),
    })
}

pub(super) fn read_limits(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Limits> {
    let keys =
        reader.table(at, &["runtime_min", "runtime_max", "processes", "output", "cpu_max", "io_rate"])?;
    let default = Limits::default();
    let limits = Limits {
        runtime_min: reader.optional(&keys, "runtime_min", read_duration).unwrap_or(default.runtime_min),
        runtime_max: reader.optional(&keys, "runtime_max", read_duration).unwrap_or(default.runtime_max),
        processes: reader
            .optional(&keys, "processes", |r, at| r.whole(at, 1, 1 << 20))
            .map_or(default.processes, |processes| processes as u32),
        output: reader.optional(&keys, "output", read_size).unwrap_or(default.output),
        cpu_max: reader.optional(&keys, "cpu_max", read_some_time),
        io_rate: reader.optional(&keys, "io_rate", read_rate),
    };
    if limits.runtime_max <= limits.runtime_min {
        let blamed = keys.get("runtime_max").or_else(|| keys.get("runtime_min"))?;
        return reader.error(&blamed, "runtime_max must be longer than runtime_min");
    }
    Some(limits)
}

fn read_size(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ByteSize> {
    let text = reader.scalar(at)?;
    match text.parse() {
        Ok(size) => Some(size),
        Err(error) => reader.error(at, error.to_string()),
    }
}

fn read_duration(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Duration> {
    let text = reader.scalar(at)?;
    match parse_duration(&text) {
        Ok(duration) => Some(duration),
        Err(error) => reader.error(at, error.to_string()),
    }
}

/// A duration that must not be zero.
fn read_some_time(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Duration> {
    let duration = read_duration(reader, at)?;
    if duration.is_zero() {
        return reader.error(at, "the time must not be zero");
    }
    Some(duration)
}

/// Bytes per second: `20MB`, or `20MB/s` as people also write it.
fn read_rate(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ByteSize> {
    let text = reader.scalar(at)?;
    match text.strip_suffix("/s").unwrap_or(&text).parse() {
        Ok(ByteSize(0)) => reader.error(at, "the rate must not be zero"),
        Ok(rate) => Some(rate),
        Err(error) => reader.error(at, error.to_string()),
    }
}

pub(super) fn read_network(reader: &mut Reader<'_>, at: &At<'_>) -> Option<NetworkAccess> {
    let keys = reader.table(at, &["allow", "rate"])?;
    let allow = reader.optional(&keys, "allow", |r, at| r.list(at, read_endpoint)).unwrap_or_default();
    let rate = reader.optional(&keys, "rate", read_rate);
    if let Some(rate) = keys.get("rate").filter(|_| keys.get("allow").is_none()) {
        let help = "add network.allow = [\"HOST:PORT\"], or leave out the rate";
        return reader.error_with(&rate, "there is a rate, but nothing that may be connected to", help);
    }
    Some(NetworkAccess { allow, rate })
}

fn read_endpoint(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Endpoint> {
    let endpoint: Endpoint = match reader.text(at)?.parse() {
        Ok(endpoint) => endpoint,
        Err(error) => return reader.error(at, error.to_string()),
    };
    match endpoint.host.place() {
        Place::Nowhere(why) => {
            let message = format!("a subjob can't be allowed {endpoint}: {why}");
            reader.error_with(at, message, NAME_A_MACHINE)
        }
        Place::Near | Place::Elsewhere => Some(endpoint),
    }
}

/// What to do about an endpoint that leads nowhere.
const NAME_A_MACHINE: &str = "name the machine that serves, such as db.example:5432; one server on each client's own \
                              machine is 127.0.0.1:5432, for clients started with --network nearby";

pub(super) fn read_amount(reader: &mut Reader<'_>, at: &At<'_>) -> Option<NonZeroU64> {
    let size = read_size(reader, at)?;
    NonZeroU64::new(size.0).or_else(|| reader.error(at, "the size must not be zero"))
}
