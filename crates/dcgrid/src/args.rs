//! What can be typed. Help, completions and suggestions all come from here.

mod evm;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueHint};
use model::{ByteSize, ClientId, JobId, SubjobId};

pub use evm::{EvmAction, EvmExplainArgs, EvmRunArgs};

/// A desktop grid: run unmodified programs on the idle time of ordinary PCs.
#[derive(Debug, Parser)]
#[command(
    name = "dcgrid",
    version,
    after_help = "To try it out:\n  dcgrid up                      a grid on this machine, until ctrl-C\n  \
                  dcgrid run -- echo hi          in another terminal\n  dcgrid submit job.toml --wait  a whole job\n  \
                  dcgrid evm run -- echo hi      the sandbox alone, without a grid"
)]
pub struct Args {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more to stderr (repeat for more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(flatten)]
    pub login: LoginArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the server is and who asks. By default what `dcgrid login` or `dcgrid up` has stored.
#[derive(Clone, Debug, clap::Args)]
pub struct LoginArgs {
    /// File with the server and the token to use
    #[arg(long, global = true, env = "DCGRID_LOGIN", value_name = "FILE", help_heading = "Server")]
    pub login_file: Option<PathBuf>,
    /// PEM file of the roots to trust where a proxy opens TLS
    #[arg(long, global = true, env = "DCGRID_CA_BUNDLE", value_name = "FILE", help_heading = "Server")]
    pub ca_bundle: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a grid on this machine: a server and a client, until ctrl-C
    Up(UpArgs),
    /// Run a grid's server
    Server(ServerArgs),
    /// Give this machine's idle time to a grid
    Client(ClientArgs),
    /// Remember a server and a user token for the other commands
    Login(LoginCommand),
    /// Submit a job
    Submit(SubmitArgs),
    /// Submit, wait and fetch in one: a job spec, or a command after --
    Run(RunArgs),
    /// List jobs
    Jobs,
    /// Show a job or a subjob
    Show {
        /// JOB, or JOB.INDEX for one subjob
        #[arg(value_name = "JOB[.INDEX]")]
        which: Selector,
    },
    /// Print what a subjob wrote to stdout and stderr
    Logs(LogsArgs),
    /// Fetch a job's result, or what one subjob left
    Get(GetArgs),
    /// Cancel a job
    Cancel { job: JobId },
    /// List clients, or bar one
    Clients {
        #[command(subcommand)]
        action: Option<ClientsAction>,
    },
    /// Make, list and revoke tokens
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Show what a program needs to run on the grid
    Wrap(WrapArgs),
    /// Use the sandbox on its own, without a grid
    Evm {
        #[command(subcommand)]
        action: EvmAction,
    },
    /// Check this machine and the connection to the server
    Doctor,
    /// Print the JSON Schema of job specs
    Schema,
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Clone, Debug, clap::Args)]
pub struct UpArgs {
    /// Directory for everything the grid keeps
    #[arg(long, env = "DCGRID_STATE", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "HOST:PORT")]
    pub listen: String,
    /// Local clients to start
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub clients: u32,
    /// Processors that each local client uses [default: all, shared among them]
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Whether subjobs' programs and data lie encrypted on this machine's disk
    #[arg(long, value_enum, default_value = "auto", value_name = "WORD")]
    pub seal: Seal,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Directory for everything the server keeps
    #[arg(long, env = "DCGRID_STATE", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0:7070", value_name = "HOST:PORT")]
    pub listen: String,
    /// Name or address by which clients reach the server (repeat for more)
    #[arg(long = "name", value_name = "HOST")]
    pub names: Vec<String>,
    /// A client that was not heard of for this long loses its subjobs
    #[arg(long, default_value = "120s", value_parser = duration, value_name = "TIME")]
    pub lease_ttl: Duration,
    /// Space that is kept free on the state directory's disk
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    pub disk_floor: ByteSize,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ClientArgs {
    /// Directory for everything the client keeps
    #[arg(long, env = "DCGRID_STATE", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: PathBuf,
    /// Address of the server to join, https://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Join token
    #[arg(long, env = "DCGRID_JOIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Processors to use [default: all]
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Memory to use [default: 80 % of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Space that is kept free on the state directory's disk
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub disk_floor: ByteSize,
    /// Most space for cached programs and inputs
    #[arg(long, default_value = "20GiB", value_name = "SIZE")]
    pub cache: ByteSize,
    /// Whether subjobs may connect from this machine to the endpoints that their job names
    #[arg(long, value_enum, default_value = "refuse", value_name = "WORD")]
    pub network: NetworkPermit,
    /// Whether subjobs may have a private, invisible display
    #[arg(long, value_enum, default_value = "allow", value_name = "WORD")]
    pub display: Permit,
    /// Whether subjobs' programs and data lie encrypted on this machine's disk
    #[arg(long, value_enum, default_value = "auto", value_name = "WORD")]
    pub seal: Seal,
}

/// What a client's owner says to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkPermit {
    Refuse,
    /// All but this machine itself and its own link
    Allow,
    /// This machine itself and its own link too, where a job names the very address
    Nearby,
}

/// Which subjobs' files a client seals on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Seal {
    /// All; a machine that can't is no client
    On,
    /// Only those of jobs that ask
    Off,
    /// All where the machine can
    Auto,
}

/// What a client's owner says to something that subjobs may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Permit {
    Allow,
    Refuse,
}

#[derive(Clone, Debug, clap::Args)]
pub struct LoginCommand {
    /// Address of the server, https://HOST:PORT
    pub url: String,
    /// User token; asked for on stdin when it is not given
    #[arg(long, env = "DCGRID_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct SubmitArgs {
    /// Job spec in TOML or JSON
    #[arg(value_name = "SPEC", value_hint = ValueHint::FilePath)]
    pub spec: PathBuf,
    /// Check everything and show the plan, but submit nothing
    #[arg(long)]
    pub check: bool,
    /// Wait for the job to end, with its progress
    #[arg(long)]
    pub wait: bool,
    /// Stop waiting after this time; the job goes on
    #[arg(long, value_parser = duration, value_name = "TIME", requires = "wait")]
    pub timeout: Option<Duration>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Job spec in TOML or JSON
    #[arg(value_name = "SPEC", value_hint = ValueHint::FilePath, required_unless_present = "command")]
    pub spec: Option<PathBuf>,
    /// File that the command reads (repeat for more)
    #[arg(short, long = "input", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub inputs: Vec<PathBuf>,
    /// File that the command writes (repeat for more)
    #[arg(short, long = "output", value_name = "FILE")]
    pub outputs: Vec<String>,
    /// Further file, directory, program or deb:PACKAGE that the command needs (repeat for more)
    #[arg(long, value_name = "WHAT")]
    pub include: Vec<String>,
    /// Endpoint that the command may connect to (repeat for more)
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "spec")]
    pub allow: Vec<model::Endpoint>,
    /// Give the command a private, invisible display
    #[arg(long, conflicts_with = "spec")]
    pub gui: bool,
    /// Let the command make code at run time [default: found by looking at it]
    #[arg(long, conflicts_with = "spec")]
    pub jit: bool,
    /// Demand that the program, its files and all that it writes lie encrypted on the client's disk
    #[arg(long, conflicts_with = "spec")]
    pub sealed: bool,
    /// Directory for the result [default: the job's name and number; the current directory for a command]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dest: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "spec")]
    pub command: Vec<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct LogsArgs {
    /// JOB.INDEX of the subjob; JOB alone for a job of one
    #[arg(value_name = "JOB[.INDEX]")]
    pub which: Selector,
    /// Only stdout
    #[arg(long, conflicts_with = "stderr")]
    pub stdout: bool,
    /// Only stderr
    #[arg(long)]
    pub stderr: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct GetArgs {
    /// JOB for its result, or JOB.INDEX for what one subjob left
    #[arg(value_name = "JOB[.INDEX]")]
    pub which: Selector,
    /// Directory for the result [default: the job's name and number; JOB.INDEX for a subjob]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dest: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ClientsAction {
    /// Bar a client for good: its key is no longer accepted, its subjobs go elsewhere
    Revoke { client: ClientId },
}

#[derive(Clone, Debug, Subcommand)]
pub enum TokenAction {
    /// Make a token; it is shown once
    Create {
        #[command(subcommand)]
        kind: TokenKindArgs,
    },
    /// List tokens, without their secrets
    List,
    /// Revoke a token by its number
    Revoke { id: u64 },
}

#[derive(Clone, Debug, Subcommand)]
pub enum TokenKindArgs {
    /// A token that registers clients
    Join {
        /// How many clients may join with it [default: any number]
        #[arg(long, value_name = "N")]
        uses: Option<u32>,
        /// When it expires, as 12h or 7d [default: never]
        #[arg(long, value_parser = duration, value_name = "TIME")]
        expires: Option<Duration>,
    },
    /// A token that logs a user in
    User {
        /// The user's name
        user: model::UserName,
        /// Make the user an administrator
        #[arg(long)]
        admin: bool,
        /// When it expires, as 12h or 7d [default: never]
        #[arg(long, value_parser = duration, value_name = "TIME")]
        expires: Option<Duration>,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub struct WrapArgs {
    /// Program: a name in PATH, or a path
    pub program: String,
    /// Further file, directory, program or deb:PACKAGE to take along (repeat for more)
    #[arg(long, value_name = "WHAT")]
    pub include: Vec<String>,
    /// Take along what a private display needs
    #[arg(long)]
    pub gui: bool,
    /// List every file
    #[arg(long)]
    pub files: bool,
    /// Write the application's files below this directory instead of only reporting them
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub unpack: Option<PathBuf>,
}

/// A job, or one subjob of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    Job(JobId),
    Subjob(SubjobId),
}

impl std::str::FromStr for Selector {
    type Err = model::ids::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('.') { text.parse().map(Selector::Subjob) } else { text.parse().map(Selector::Job) }
    }
}

fn duration(text: &str) -> Result<Duration, model::units::UnitError> {
    model::units::parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn arguments_after_the_dashes_arrive_as_they_are() {
        let args =
            Args::try_parse_from(["dcgrid", "run", "-o", "x", "--", "sh", "-c", "echo \"$HOME\" --json"]);
        let Command::Run(run) = args.expect("parses").command else { panic!("not run") };
        assert_eq!(run.command, ["sh", "-c", "echo \"$HOME\" --json"]);
    }
}
