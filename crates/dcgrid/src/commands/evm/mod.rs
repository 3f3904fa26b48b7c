//! `dcgrid evm`: the sandbox on its own, without a grid.
//!
//! `run` puts a program into it, with `cache` for wrapped programs, `place` for /work, `streams` for what goes in and
//! out, and `ending` for how it ended; `explain` tells what it sees.

mod cache;
mod ending;
mod explain;
mod files;
mod pictures;
mod place;
mod run;
mod seal;
mod sealed;
mod streams;

use std::process::ExitCode;

use wrap::WrapError;

use crate::args::EvmAction;
use crate::exit::report;

/// Exit codes of `evm run` beside the program's own, as those of env, timeout and docker. Numbers never change
/// meaning.
mod code {
    /// A limit ended the program.
    pub const LIMIT: u8 = 124;
    /// The sandbox could not be made, or the command line is wrong: the program did not run.
    pub const FAILED: u8 = 125;
    /// The program can't be executed.
    pub const NOT_EXECUTED: u8 = 126;
    /// There is no such program.
    pub const NOT_FOUND: u8 = 127;
    /// Plus a signal's number: it ended the program.
    pub const SIGNAL: u8 = 128;
}

pub fn run(action: EvmAction, json: bool) -> ExitCode {
    match action {
        EvmAction::Run(args) => match run::run(&args, json) {
            Ok(code) => code.into(),
            Err(error) => {
                report(&error);
                failure(&error).into()
            }
        },
        EvmAction::Explain(args) => match explain::run(&args, json) {
            Ok(exit) => exit.into(),
            Err(error) => report(&error).into(),
        },
    }
}

fn failure(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(WrapError::UnknownProgram { .. } | WrapError::Absent { .. }) => code::NOT_FOUND,
        Some(
            WrapError::NotProgram { .. }
            | WrapError::NotExecutable { .. }
            | WrapError::IsDirectory { .. }
            | WrapError::Architecture { .. }
            | WrapError::MalformedElf { .. },
        ) => code::NOT_EXECUTED,
        _ => code::FAILED,
    }
}
