//! The client's side of a private display: what the program is told of it, and what it costs. The display itself is
//! made inside the sandbox, by `init::display`.

use std::ffi::{OsStr, OsString};

/// Tasks that belong to a display, on top of those that the program may have: the X server and its attendant, and
/// while it starts a shell, the keyboard compiler, and the process in between.
pub(crate) const TASKS: u32 = 5;

/// Widest and highest screen, in pixels: what it takes is the subjob's memory.
pub(crate) const MAX_SIDE: u16 = 8_192;

/// A variable of the program's environment and why it has this value; none when it must not be there.
struct Variable {
    name: &'static str,
    value: Option<&'static str>,
    #[cfg_attr(not(test), expect(dead_code, reason = "written for the reader, checked by a test"))]
    reason: &'static str,
}

const fn set(name: &'static str, value: &'static str, reason: &'static str) -> Variable {
    Variable { name, value: Some(value), reason }
}

const fn unset(name: &'static str, reason: &'static str) -> Variable {
    Variable { name, value: None, reason }
}

const VARIABLES: &[Variable] = &[
    set("DISPLAY", ":0", "the only display that there is"),
    set("GDK_BACKEND", "x11", "GTK would try others first"),
    set("QT_QPA_PLATFORM", "xcb", "and so would Qt"),
    set("NO_AT_BRIDGE", "1", "GTK waits for a message bus that helps the disabled, which is not there"),
    set("GSETTINGS_BACKEND", "memory", "settings are read from a message bus otherwise"),
    set("LIBGL_ALWAYS_SOFTWARE", "1", "there is no graphics card to look for"),
    unset("XAUTHORITY", "its secret is for another display"),
    unset("WAYLAND_DISPLAY", "there is none, and toolkits prefer it"),
    unset("DBUS_SESSION_BUS_ADDRESS", "there is no message bus"),
    unset("SESSION_MANAGER", "there is no session to belong to"),
];

/// The given variables, with those that a private display decides over as it wants them.
pub(crate) fn with_display(given: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let is_ours = |name: &OsStr| VARIABLES.iter().any(|variable| name == variable.name);
    let kept = given.iter().filter(|(name, _)| !is_ours(name)).cloned();
    let ours =
        VARIABLES.iter().filter_map(|Variable { name, value, .. }| Some((name.into(), (*value)?.into())));
    kept.chain(ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_led_to_its_own_display_alone() {
        let given = [("A", "1"), ("DISPLAY", ":7"), ("WAYLAND_DISPLAY", "wayland-0"), ("XAUTHORITY", "/x")];
        let given: Vec<(OsString, OsString)> = given.iter().map(|(n, v)| (n.into(), v.into())).collect();
        let found = with_display(&given);
        let value = |name: &str| found.iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect::<Vec<_>>();
        assert_eq!(value("A"), ["1"]);
        assert_eq!(value("DISPLAY"), [":0"]);
        assert!(value("WAYLAND_DISPLAY").is_empty() && value("XAUTHORITY").is_empty());
    }

    #[test]
    fn every_variable_has_a_reason() {
        assert!(VARIABLES.iter().all(|variable| variable.reason.len() > 10));
    }
}
