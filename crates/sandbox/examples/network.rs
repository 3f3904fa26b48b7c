//! Measures brokered connections: throughput beside a bare program's over loopback, in turns, and how well a rate is
//! kept. `network INIT TREE PROGRAM [ROUNDS]`, where PROGRAM is a path inside TREE that also runs outside of it: the
//! static `tests/suite/network.c`. Each figure is MB/s; a rate's is the part of it that it came to.
//!
//! Both sides run in the idle class, as a subjob does, so the machine should have nothing else to do.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use model::{ByteSize, NetworkAccess};
use sandbox::{Bounds, Ended, Launcher, Nearby, Spec};

/// Enough that the start and the end don't count; little enough for a moment in which the machine is quiet.
const BYTES: u64 = 512 << 20;

/// Bytes per second of the rate that is tried, and for how long.
const RATE: u64 = 10_000_000;
const RATE_SECONDS: u64 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [init, tree, program, rounds @ ..] = args.as_slice() else {
        return Err("usage: network INIT TREE PROGRAM [ROUNDS]".into());
    };
    let rounds: usize = rounds.first().map_or(Ok(20), |text| text.parse())?;
    let mut launcher = Launcher::new(format!("network{}", std::process::id()));
    launcher.command = vec![init.into()];
    launcher.nearby = Nearby::Named;
    let directory = tempfile::tempdir()?;
    let bench = Bench { launcher, tree: tree.into(), program: program.into(), directory };
    let server = serve()?;
    for act in ["send", "receive"] {
        let (mut bare, mut brokered) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            bare.push(mega(BYTES, bench.run_bare(server, act)?));
            brokered.push(mega(BYTES, bench.run(server, None, act, BYTES, &format!("{act}{round}"))?));
        }
        let bare = show(&format!("{act} bare"), &mut bare);
        let brokered = show(&format!("{act} brokered"), &mut brokered);
        let (best, median) = (brokered.best / bare.best, brokered.median / bare.median);
        println!("{act}: brokered / bare of {rounds}: best {best:.2} median {median:.2}");
    }
    for act in ["send", "receive"] {
        let bytes = RATE * RATE_SECONDS;
        let took = bench.run(server, Some(RATE), act, bytes, act)?;
        println!("{act} at {RATE} B/s: {:.3} of the rate", bytes as f64 / took / RATE as f64);
    }
    Ok(())
}

fn mega(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / seconds / 1e6
}

/// What came of one kind of connection, in MB/s.
struct Shown {
    best: f64,
    median: f64,
}

/// Prints the figures and sums them up.
fn show(name: &str, figures: &mut [f64]) -> Shown {
    figures.sort_by(f64::total_cmp);
    let (best, median) = (figures[figures.len() - 1], figures[figures.len() / 2]);
    println!("{name:17} best {best:5.0} median {median:5.0} worst {:5.0}", figures[0]);
    Shown { best, median }
}

/// Takes what it is sent until the end, unless the first word says how much is wanted of it.
fn serve() -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    // It ends with this process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away early is the client's failure, and told there.
            let _ = serve_one(stream);
        }
    });
    Ok(at)
}

fn serve_one(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    let block = vec![0; 128 << 10];
    let mut left = u64::from_le_bytes(head);
    while left > 0 {
        let length = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(&block[..length])?;
        left -= length as u64;
    }
    let mut buffer = block;
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

struct Bench {
    launcher: Launcher,
    tree: PathBuf,
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl Bench {
    /// Seconds that the program says it took.
    fn run_bare(&self, server: SocketAddr, act: &str) -> Result<f64, Box<dyn Error>> {
        let program = self.tree.join(self.program.strip_prefix("/")?);
        let args = [act, &server.ip().to_string(), &server.port().to_string(), &BYTES.to_string()];
        let run = Command::new("chrt").args(["--idle", "0"]).arg(program).args(args).output()?;
        seconds(&String::from_utf8(run.stdout)?)
    }

    fn run(
        &self,
        server: SocketAddr,
        rate: Option<u64>,
        act: &str,
        bytes: u64,
        name: &str,
    ) -> Result<f64, Box<dyn Error>> {
        let run = self.directory.path().join(name);
        let [host, port] = [server.ip().to_string(), server.port().to_string()];
        let args = [act, &host, &port, &bytes.to_string()].map(Into::into).to_vec();
        let spec = self.spec(&run, server, rate, args)?;
        let exit = sandbox::start(&self.launcher, &spec)?.wait();
        match exit.ended {
            Ended::Code(0) => seconds(&std::fs::read_to_string(run.join("stdout"))?),
            other => Err(format!("{other:?}, {:?}", exit.network).into()),
        }
    }

    fn spec(
        &self,
        run: &Path,
        server: SocketAddr,
        rate: Option<u64>,
        args: Vec<std::ffi::OsString>,
    ) -> Result<Spec, Box<dyn Error>> {
        std::fs::create_dir_all(run.join("work"))?;
        Ok(Spec {
            args,
            network: NetworkAccess { allow: vec![server.to_string().parse()?], rate: rate.map(ByteSize) },
            ..Spec::new(&self.tree, &self.program, run, Bounds { cpus: 2, ..Bounds::default() })
        })
    }
}

/// The last word that the program said.
fn seconds(text: &str) -> Result<f64, Box<dyn Error>> {
    Ok(text.split_whitespace().last().ok_or("the program said nothing")?.parse()?)
}
