//! The commands, a file for each family.

mod client;
mod doctor;
mod evm;
mod get;
mod grid;
mod jobs;
mod local_files;
mod login;
mod run;
mod server;
mod submit;
mod tokens;
mod up;
mod wait;
mod wrap;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command};
use crate::exit::Exit;
use crate::output;

/// Does what was typed; says how the process is to end.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    start_log(&args);
    let Args { json, login, command, .. } = args;
    let exit: Exit = match command {
        Command::Up(up) => many_threads()?.block_on(up::run(up, json)),
        Command::Server(server) => many_threads()?.block_on(server::run(server, json)),
        Command::Client(client) => many_threads()?.block_on(client::run(client, &login)),
        Command::Login(command) => one_thread()?.block_on(login::run(command, &login, json)),
        Command::Submit(submit) => one_thread()?.block_on(submit::run(submit, &login, json)),
        Command::Run(command) => one_thread()?.block_on(run::run(command, &login, json)),
        Command::Jobs => one_thread()?.block_on(jobs::list(&login, json)),
        Command::Show { which } => one_thread()?.block_on(jobs::show(which, &login, json)),
        Command::Logs(logs) => one_thread()?.block_on(jobs::logs(&logs, &login, json)),
        Command::Get(get) => one_thread()?.block_on(get::run(get, &login, json)),
        Command::Cancel { job } => one_thread()?.block_on(jobs::cancel(job, &login, json)),
        Command::Clients { action } => one_thread()?.block_on(grid::clients(action, &login, json)),
        Command::Token { action } => one_thread()?.block_on(tokens::run(action, &login, json)),
        Command::Wrap(wrap) => wrap::run(&wrap, json),
        Command::Doctor => one_thread()?.block_on(doctor::run(&login, json)),
        Command::Schema => {
            output::json(&protocol::spec::json_schema());
            Ok(Exit::Success)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "dcgrid", &mut std::io::stdout());
            Ok(Exit::Success)
        }
        // It ends as the program does, with any number.
        Command::Evm { action } => return Ok(evm::run(action, json)),
    }?;
    Ok(exit.into())
}

/// Logs to stderr: warnings from the command line, events from the services.
fn start_log(args: &Args) {
    let service = matches!(args.command, Command::Up(_) | Command::Server(_) | Command::Client(_));
    let level = match (args.verbose, service) {
        (0, false) => "warn",
        (0, true) | (1, _) => "info",
        (2, _) => "debug",
        (3.., _) => "trace",
    };
    // Other crates' internals are noise below warnings.
    let default = format!("warn,dcgrid={level},server={level},desktop_controller={level},sandbox={level}");
    let filter = EnvFilter::try_from_env("DCGRID_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn one_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn many_threads() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
