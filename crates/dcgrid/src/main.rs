//! `dcgrid`: the one binary. Server, client and command line are commands of it.
//!
//! `args` says what can be typed, `commands` does it, `settings` finds the server, `output` prints, `exit` ends.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod exit;
mod output;
mod settings;

use std::process::ExitCode;

use clap::Parser as _;

use args::Args;

fn main() -> ExitCode {
    // The sandbox's init is this binary again; it must come before anything that starts a thread.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == sandbox::INIT_ARGUMENT) {
        return sandbox::init_main();
    }
    if std::env::args_os().nth(1).is_some_and(|argument| argument == sandbox_fs::server::SERVER_ARGUMENT) {
        return sandbox_fs::server::server_main(sandbox::confine_file_server);
    }
    match commands::run(Args::parse()) {
        Ok(code) => code,
        Err(error) => exit::report(&error).into(),
    }
}
