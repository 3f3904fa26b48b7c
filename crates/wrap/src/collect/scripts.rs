//! What a script asks for: its interpreter, and for a shell script the commands and paths among its words.

use super::{Collector, Depth, Need, Task, is_executable};
use crate::debian::is_documentation;
use crate::error::WrapError;
use crate::host::{Found, is_below, split};
use crate::layout::{COMMANDS, is_system, shadowing_mount};
use crate::report::{Reason, Warning};
use crate::script::{MAX_NESTING, Shebang};
use crate::shell;

/// Longest part of a script that is searched for words: a self-extracting archive goes on with megabytes of data.
const MAX_SCRIPT: usize = 4 << 20;

/// Directories whose own directories belong to one program each, so that a script that names one means all in it.
const PRIVATE_PARENTS: [&str; 6] =
    ["/usr/lib", "/usr/libexec", "/usr/share", "/usr/local/lib", "/usr/local/share", "/opt"];

/// Debian's directory of libraries.
const MULTIARCH: &str = "/usr/lib/x86_64-linux-gnu";

/// Directories below [`PRIVATE_PARENTS`] that many programs share.
const SHARED: [&str; 6] = [
    MULTIARCH,
    "/usr/lib/jvm",
    "/usr/lib/python3",
    "/usr/share/java",
    "/usr/share/perl5",
    "/usr/share/zoneinfo",
];

/// How the shell text of a request is called where a script would be named.
const COMMAND_LINE: &str = "the command line";

impl Collector {
    pub(super) fn examine_script(&mut self, task: &Task, line: &Shebang) -> Result<(), WrapError> {
        if task.nesting > MAX_NESTING {
            return match task.need {
                Need::Required => Err(WrapError::InterpreterLoop { path: task.asked.clone().into() }),
                Need::Optional => Ok(()),
            };
        }
        self.add_interpreter(task, &line.interpreter)?;
        if let Some(command) = &line.command {
            match self.look_up(command) {
                Some(path) => self.add_env_command(task, &path)?,
                None => self.no_interpreter(task, command)?,
            }
        }
        if line.is_shell() && task.depth >= Depth::Commands {
            self.add_words(task)?;
        }
        Ok(())
    }

    pub(super) fn no_interpreter(&mut self, task: &Task, interpreter: &str) -> Result<(), WrapError> {
        let interpreter = interpreter.to_owned();
        match task.need {
            Need::Required => {
                Err(WrapError::MissingInterpreter { path: task.found.path.clone().into(), interpreter })
            }
            Need::Optional => {
                if task.depth >= Depth::PackagedCommands {
                    let script = task.place.clone();
                    self.warnings.insert(Warning::InterpreterNotFound { interpreter, script });
                }
                Ok(())
            }
        }
    }

    fn add_interpreter(&mut self, task: &Task, path: &str) -> Result<(), WrapError> {
        let Some(found) = self.host.probe(path).filter(is_executable) else {
            return self.no_interpreter(task, path);
        };
        let place = self.add_in_place(&found, Reason::Interpreter { of: task.place.clone() })?;
        self.examine_interpreter(task, path, found, place);
        Ok(())
    }

    fn add_env_command(&mut self, task: &Task, path: &str) -> Result<(), WrapError> {
        let found = self.host.find(path)?;
        let reason = Reason::Interpreter { of: task.place.clone() };
        let place = self.add_own(path, &found, COMMANDS, reason)?;
        let place = if is_system(&found.path) { found.path.clone() } else { place };
        self.examine_interpreter(task, path, found, place);
        Ok(())
    }

    /// Lets an interpreter ask for what it needs, one level deeper than its script.
    fn examine_interpreter(&mut self, task: &Task, path: &str, found: Found, place: String) {
        self.queue.push_back(Task {
            asked: path.to_owned(),
            found,
            place,
            depth: interpreter_depth(task.depth),
            need: task.need,
            nesting: task.nesting + 1,
        });
    }

    /// Adds the commands of shell text from the command line, like those of a script of the user's own.
    pub(super) fn add_commands_of(&mut self, text: &str) -> Result<(), WrapError> {
        let words = shell::words(text);
        for command in words.commands.iter().chain(&words.assigned) {
            let known = self.add_command(COMMAND_LINE, command, Depth::Package)?;
            if known == Known::No && words.commands.contains(command) {
                let script = COMMAND_LINE.to_owned();
                self.warnings.insert(Warning::CommandNotFound { command: command.clone(), script });
            }
        }
        Ok(())
    }

    fn add_words(&mut self, task: &Task) -> Result<(), WrapError> {
        let text = self.host.head(&task.found.path, MAX_SCRIPT)?;
        let words = shell::words(&String::from_utf8_lossy(&text));
        let own = task.depth >= Depth::PackagedCommands;
        let depth = if own { Depth::Package } else { Depth::Start };
        for command in &words.commands {
            let known = self.add_command(&task.place, command, depth)?;
            if own && known == Known::No {
                let script = task.place.clone();
                self.warnings.insert(Warning::CommandNotFound { command: command.clone(), script });
            }
        }
        if own {
            for command in &words.assigned {
                self.add_command(&task.place, command, depth)?;
            }
        }
        if task.depth >= Depth::Whole {
            for command in &words.mentioned {
                self.add_command(&task.place, command, Depth::Start)?;
            }
            for path in &words.paths {
                self.add_named_path(task, path)?;
            }
        }
        Ok(())
    }

    fn add_command(&mut self, named_in: &str, command: &str, depth: Depth) -> Result<Known, WrapError> {
        let Some(path) = self.look_up(command) else { return Ok(Known::No) };
        let Some(found) = self.host.probe(&path) else { return Ok(Known::No) };
        if self.host.open(&found.path).is_err() {
            let why = "its reading is not permitted".to_owned();
            self.warnings.insert(Warning::LeftOut { path: found.path, why });
            return Ok(Known::Yes);
        }
        let reason = Reason::Command { named_in: named_in.to_owned() };
        let place = self.add_own(&path, &found, COMMANDS, reason)?;
        let place = if is_system(&found.path) { found.path.clone() } else { place };
        self.examine_later(&path, &found, &place, depth);
        Ok(Known::Yes)
    }

    /// Adds a file or directory that a script names by its path, if it is a program's: never one of /etc or of a
    /// home directory, which may hold what the submitter did not mean to give away.
    fn add_named_path(&mut self, task: &Task, path: &str) -> Result<(), WrapError> {
        let Some(found) = self.host.probe(path) else { return Ok(()) };
        let of_a_program = |path: &str| is_below(path, "/usr") || is_below(path, "/opt");
        if !of_a_program(&found.path) || found.links.iter().any(|link| shadowing_mount(&link.path).is_some())
        {
            return Ok(());
        }
        let reason = Reason::Path { named_in: task.place.clone() };
        if found.metadata.is_file() {
            self.add_along(path, &found, reason, Depth::Whole)
        } else if found.metadata.is_dir() && is_private(&found.path) {
            self.application.add_links(&found.links);
            self.add_tree(&found.path, &found.path, &reason, Depth::Commands, Need::Optional)
        } else {
            Ok(())
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Yes,
    No,
}

/// An interpreter is of no use without its package (python3 without its library), but its own scripts are.
fn interpreter_depth(script: Depth) -> Depth {
    script.min(Depth::Package)
}

/// Whether a directory belongs to one program.
fn is_private(path: &str) -> bool {
    let parent = split(path).0;
    PRIVATE_PARENTS.iter().any(|private| is_below(parent, private))
        && !SHARED.contains(&path)
        && !PRIVATE_PARENTS.contains(&path)
        && !is_documentation(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_one_program_are_taken_whole() {
        for path in [
            "/usr/lib/mafft",
            "/usr/lib/mafft/bin",
            "/usr/share/povray-3.7",
            "/opt/tool",
            "/usr/lib/x86_64-linux-gnu/openmpi",
        ] {
            assert!(is_private(path), "{path}");
        }
        for path in [
            "/usr",
            "/usr/lib",
            "/usr/share",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/bin",
            "/opt",
            "/usr/share/doc/x",
            "/usr/share/zoneinfo",
            "/usr/local/lib",
            "/usr/include",
        ] {
            assert!(!is_private(path), "{path}");
        }
    }
}
