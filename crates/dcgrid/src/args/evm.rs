//! What can be typed after `dcgrid evm`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueHint};
use model::{ByteSize, Endpoint};

use super::duration;

#[derive(Clone, Debug, Subcommand)]
pub enum EvmAction {
    /// Run a program in the sandbox, here and now
    #[command(
        after_help = "The program sees its own files, its inputs in /work, and nothing else of this machine.\n\n\
                      Examples:\n  dcgrid evm run -- echo hi\n  \
                      dcgrid evm run -i seqs.fa -o hits.tbl -- hmmsearch --tblout hits.tbl query.hmm seqs.fa\n  \
                      dcgrid evm run --allow 10.2.0.5:5432 --memory 4GiB --wall 1h -- python3 fetch.py"
    )]
    Run(Box<EvmRunArgs>),
    /// Print what a program in the sandbox can see and do on this machine
    Explain(EvmExplainArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub struct EvmRunArgs {
    /// File that the program reads, copied to the same place below /work (repeat for more)
    #[arg(short, long = "input", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub inputs: Vec<PathBuf>,
    /// File that the program writes below /work, copied back at the end (repeat for more)
    #[arg(short, long = "output", value_name = "FILE")]
    pub outputs: Vec<String>,
    /// Directory whose files the program finds in /work, as copies
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub workdir: Option<PathBuf>,
    /// Copy files that the program made or changed back to --workdir
    #[arg(long, requires = "workdir")]
    pub write_back: bool,
    /// Copy all that is in /work at the end to this new directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub keep: Option<PathBuf>,
    /// File for the program's standard input [default: ours]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub stdin: Option<PathBuf>,
    /// Further file, directory, program or deb:PACKAGE that the program needs (repeat for more)
    #[arg(long, value_name = "WHAT")]
    pub include: Vec<String>,
    /// Variable of the program's environment; without a value, ours (repeat for more)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Let the program make code at run time [default: found by looking at it]
    #[arg(long)]
    pub jit: bool,
    /// Give the program a private, invisible display
    #[arg(long)]
    pub gui: bool,
    /// Where pictures of dialogs go that waited for somebody and were closed [default: ~/.cache/dcgrid/evm/dialogs]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "gui")]
    pub dialogs: Option<PathBuf>,
    /// Keep what the program writes sealed on the disk, under a key that is gone at the end
    #[arg(long)]
    pub sealed: bool,
    #[command(flatten)]
    pub limits: EvmLimitArgs,
    #[command(flatten)]
    pub network: EvmNetworkArgs,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub command: Vec<OsString>,
}

/// The defaults are those of a job spec, save that output may be of any size: it is not kept anywhere.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct EvmLimitArgs {
    /// Memory of all its processes together, /tmp and /dev/shm included
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub memory: ByteSize,
    /// Processes and threads at one time
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub processes: u32,
    /// Space for /work
    #[arg(long, default_value = "2GiB", value_name = "SIZE")]
    pub disk: ByteSize,
    /// Processors it may keep busy
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub cpus: u32,
    /// Time from start to end
    #[arg(long, default_value = "24h", value_parser = duration, value_name = "TIME")]
    pub wall: Duration,
    /// Processor time of all its processes together [default: none]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub cpu_time: Option<Duration>,
    /// Bytes a second that it may read from files, and as many that it may write [default: none]
    #[arg(long, value_name = "SIZE")]
    pub io_rate: Option<ByteSize>,
    /// Size of standard output and of standard error, each [default: none]
    #[arg(long, value_name = "SIZE")]
    pub output_limit: Option<ByteSize>,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub struct EvmNetworkArgs {
    /// Endpoint that the program may connect to (repeat for more) [default: none]
    #[arg(long, value_name = "HOST:PORT")]
    pub allow: Vec<Endpoint>,
    /// Bytes a second over all its connections, each way [default: any]
    #[arg(long, value_name = "SIZE", requires = "allow")]
    pub rate: Option<ByteSize>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct EvmExplainArgs {
    /// Program whose files are told of too
    pub program: Option<String>,
    /// Further file, directory, program or deb:PACKAGE to take along (repeat for more)
    #[arg(long, value_name = "WHAT", requires = "program")]
    pub include: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use model::{Limits, Resources};

    use super::super::{Args, Command};
    use super::*;

    #[test]
    fn the_defaults_are_those_of_a_job() {
        let args = Args::try_parse_from(["dcgrid", "evm", "run", "--", "x"]).expect("parses");
        let Command::Evm { action: EvmAction::Run(run) } = args.command else { panic!("not evm run") };
        let (found, resources, limits) = (run.limits, Resources::default(), Limits::default());
        assert_eq!(
            (found.memory, found.disk, found.cpus),
            (resources.memory, resources.disk, resources.cpus)
        );
        assert_eq!((found.wall, found.processes), (limits.runtime_max, limits.processes));
        assert_eq!((found.cpu_time, found.io_rate), (limits.cpu_max, limits.io_rate));
    }
}
