//! Where things are inside an application: system files where they are on the host, the user's own below `/app`.

use crate::host::is_below;

/// The directory for the user's own files.
pub(crate) const APP: &str = "/app";

/// Where commands from outside the system directories go: every usual PATH has it.
pub(crate) const COMMANDS: &str = "/usr/local/bin";

/// The directories whose files keep their place.
const SYSTEM: [&str; 7] = ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt"];

/// The directories over which the sandbox mounts its own.
const MOUNTS: [&str; 4] = ["/dev", "/proc", "/tmp", "/work"];

/// Whether a path belongs to the system and so keeps its place.
pub(crate) fn is_system(path: &str) -> bool {
    SYSTEM.iter().any(|directory| is_below(path, directory))
}

/// The sandbox's own mount that would hide a file at `path`.
pub(crate) fn shadowing_mount(path: &str) -> Option<&'static str> {
    MOUNTS.into_iter().find(|mount| is_below(path, mount))
}
