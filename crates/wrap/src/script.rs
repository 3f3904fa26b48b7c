//! The `#!` line of a script, read as the kernel reads it (execve(2)).

use crate::host::split;

/// Bytes of a file that the kernel looks at for a `#!` line.
pub(crate) const LINE_LIMIT: usize = 256;

/// Deepest nesting of scripts as interpreters of scripts that the kernel follows.
pub(crate) const MAX_NESTING: usize = 4;

/// What a `#!` line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shebang {
    /// Absolute path of the interpreter.
    pub interpreter: String,
    /// The command that `env` looks up in PATH, when the interpreter is `env`.
    pub command: Option<String>,
}

impl Shebang {
    /// Whether the script is one of a shell, so that its words can be commands.
    pub fn is_shell(&self) -> bool {
        let name = self.command.as_deref().unwrap_or(&self.interpreter);
        is_shell_name(split(name).1)
    }
}

pub(crate) fn is_shell_name(name: &str) -> bool {
    matches!(name, "sh" | "bash" | "dash" | "ash" | "ksh" | "mksh" | "zsh")
}

/// The `#!` line of a file that begins with `head`.
pub(crate) fn shebang(head: &[u8]) -> Option<Shebang> {
    let head = &head[..head.len().min(LINE_LIMIT)];
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim_matches([' ', '\t']);
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if !interpreter.starts_with('/') {
        return None;
    }
    let command = match split(interpreter).1 {
        "env" => env_command(argument),
        _ => None,
    };
    Some(Shebang { interpreter: interpreter.to_owned(), command })
}

/// The command in the argument of env(1): past its options and settings of variables. The kernel hands the argument
/// over as one piece, which `-S` splits.
fn env_command(argument: &str) -> Option<String> {
    argument
        .split_whitespace()
        .map(|word| word.strip_prefix("-S").unwrap_or(word))
        .find(|word| !word.is_empty() && !word.starts_with('-') && !word.contains('='))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, expect: Option<(&str, Option<&str>)>) {
        let found = shebang(head.as_bytes());
        let found = found.as_ref().map(|line| (line.interpreter.as_str(), line.command.as_deref()));
        assert_eq!(found, expect, "{head:?}");
    }

    #[test]
    fn the_line_is_read_as_the_kernel_does() {
        check("#!/bin/sh\necho", Some(("/bin/sh", None)));
        check("#! /bin/bash \nx", Some(("/bin/bash", None)));
        check("#!\t/usr/bin/awk -f\n", Some(("/usr/bin/awk", None)));
        check("#!/usr/bin/env python3\n", Some(("/usr/bin/env", Some("python3"))));
        check("#!/usr/bin/env -S LANG=C -i perl -w\n", Some(("/usr/bin/env", Some("perl"))));
        check("#!/usr/bin/env -Sperl -w\n", Some(("/usr/bin/env", Some("perl"))));
        check("#!/usr/bin/env\n", Some(("/usr/bin/env", None)));
        for no_script in ["", "#", "#!", "#!\n", "#!sh\n", "echo\n", " #!/bin/sh"] {
            check(no_script, None);
        }
    }

    #[test]
    fn only_shells_have_commands_for_words() {
        let is_shell = |head: &str| shebang(head.as_bytes()).unwrap().is_shell();
        assert!(is_shell("#!/bin/sh") && is_shell("#!/usr/bin/env bash") && is_shell("#!/bin/dash -e"));
        assert!(!is_shell("#!/usr/bin/env python3") && !is_shell("#!/usr/bin/perl"));
    }
}
