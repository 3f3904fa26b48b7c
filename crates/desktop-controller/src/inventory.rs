//! What this machine is and what it has free, read from /proc and the file system.

use std::fs;
use std::path::Path;

use model::{ByteSize, Inventory};

use crate::controller::Config;

/// Describes the machine. What can't be read is left empty or zero: it is a hint, and a zero gets no work.
pub(crate) fn inventory(config: &Config, memory: ByteSize) -> Inventory {
    let system = rustix::system::uname();
    Inventory {
        host_name: system.nodename().to_string_lossy().into_owned(),
        cpu_model: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        cpus: config.cpus,
        memory,
        disk: rustix::fs::statvfs(&config.state)
            .map_or(ByteSize(0), |fs| ByteSize(fs.f_blocks * fs.f_frsize)),
        kernel: system.release().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        permits: config.permits,
    }
}

/// Space that may still be filled on the state directory's file system.
pub(crate) fn free_disk(state: &Path) -> ByteSize {
    rustix::fs::statvfs(state).map_or(ByteSize(0), |fs| ByteSize(fs.f_bavail * fs.f_frsize))
}

/// Memory that programs can take without swapping, `MemAvailable` of proc(5).
pub(crate) fn available_memory() -> ByteSize {
    memory_line(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:")
}

/// All memory of the machine, `MemTotal` of proc(5).
pub(crate) fn total_memory() -> ByteSize {
    memory_line(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:")
}

fn memory_line(meminfo: &str, name: &str) -> ByteSize {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    ByteSize(kib.unwrap_or(0) << 10)
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|rest| rest.split_once(':')).map_or_else(String::new, |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_by_its_names() {
        let meminfo = "MemTotal:       24612345 kB\nMemFree:          1024 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(memory_line(meminfo, "MemAvailable:"), ByteSize::mib(2));
        assert_eq!(memory_line(meminfo, "SwapTotal:"), ByteSize(0));
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n"), "AMD EPYC");
    }
}
