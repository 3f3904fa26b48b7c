//! A grid of real processes for tests: servers, clients and the command line, each the release binary.
//!
//! Everything a test makes is below a temporary directory, and every process it starts is ended by its id when
//! the test ends, however it ends. Build the binary first: `cargo build --release --package dcgrid`.
#![forbid(unsafe_code)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest time for a process to be ready, or to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the release binary is: `DCGRID_BINARY`, or where cargo puts it.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DCGRID_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own file");
    let target =
        test.ancestors().find(|path| path.join("release").is_dir()).expect("tests are built below target");
    let path = target.join("release/dcgrid");
    assert!(path.is_file(), "build the binary first: cargo build --release --package dcgrid");
    path
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

/// Whether all of these programs are installed; says so and is false when one is not.
pub fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &str| {
        Path::new(program).is_file() || std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
    };
    match programs.iter().find(|program| !found(program)) {
        None => true,
        Some(missing) => {
            println!("skipped: {missing} is not installed");
            false
        }
    }
}

/// A process that is killed when it is no longer needed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts it; `name` is for messages.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} can't be started: {error}"));
        Process { child, name: name.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as a crash or a pulled plug would.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).expect("it can be signalled");
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its stdout, if it ended well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().expect("it can be started");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A server, its clients, and a place for all they keep.
#[derive(Debug)]
pub struct Grid {
    pub scratch: TempDir,
    pub server: Process,
    pub clients: Vec<Process>,
    /// `https://127.0.0.1:PORT`, the same after a restart.
    pub url: String,
    lease_ttl: String,
    server_options: Vec<String>,
}

impl Grid {
    /// A server with `clients` clients of two processors each.
    pub fn start(clients: usize) -> Self {
        Self::start_with(clients, &[])
    }

    /// Like [`Grid::start`], with more options for the server.
    pub fn start_with(clients: usize, server_options: &[&str]) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let server_options: Vec<String> = server_options.iter().map(ToString::to_string).collect();
        let lease_ttl = "5s".to_owned();
        let (server, url) =
            start_server(&scratch.path().join("server"), "127.0.0.1:0", &lease_ttl, &server_options);
        let mut grid = Grid { scratch, server, clients: Vec::new(), url, lease_ttl, server_options };
        for number in 0..clients {
            let client = grid.start_client(number, 2);
            grid.clients.push(client);
        }
        grid
    }

    /// Kills the server and starts it again on the same state and address.
    pub fn crash_server(&mut self) {
        self.server.kill();
        self.restart_server();
    }

    /// Starts a server that was killed or stopped.
    pub fn restart_server(&mut self) {
        let address = self.url.strip_prefix("https://").expect("our own URL").to_owned();
        let state = self.server_state();
        self.server = start_server(&state, &address, &self.lease_ttl, &self.server_options).0;
    }

    /// Kills a client and starts it again on the same state.
    pub fn crash_client(&mut self, number: usize) {
        self.clients[number].kill();
        self.clients[number] = self.start_client(number, 2);
    }

    /// Starts the client with this number, joining it if it never has.
    pub fn start_client(&self, number: usize, cpus: u32) -> Process {
        self.start_client_with(number, cpus, &[])
    }

    /// Like [`Grid::start_client`], with more options for the client.
    pub fn start_client_with(&self, number: usize, cpus: u32, options: &[&str]) -> Process {
        let token = match self.client_state(number).join("membership.json").exists() {
            true => None,
            false => Some(self.cli(&["token", "create", "join", "--uses", "1"]).ok().trim().to_owned()),
        };
        let mut command = Command::new(binary());
        command.args(["client", "--state"]).arg(self.client_state(number));
        command.args(["--server", &self.url, "--cpus", &cpus.to_string(), "--disk-floor", "64MiB"]);
        command.args(options).args(token.iter().flat_map(|token| ["--token", token]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log(&format!("client-{number}.log")));
        Process::start("client", &mut command)
    }

    pub fn server_state(&self) -> PathBuf {
        self.scratch.path().join("server")
    }

    pub fn client_state(&self, number: usize) -> PathBuf {
        self.scratch.path().join(format!("client-{number}"))
    }

    /// The administrator's login.
    pub fn login_file(&self) -> PathBuf {
        self.server_state().join("login.json")
    }

    /// A command of the administrator, ready to be changed.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).env("DCGRID_LOGIN", self.login_file()).current_dir(self.scratch.path());
        command.env_remove("DCGRID_SERVER").env_remove("DCGRID_TOKEN");
        command
    }

    /// Runs a command of the administrator.
    pub fn cli(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// Writes a file into the scratch directory; returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.scratch.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the scratch directory")).expect("a directory");
        std::fs::write(&path, content).expect("the file can be written");
        path
    }

    /// Waits until `done` says so, asking again and again.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut done: impl FnMut(&Grid) -> bool) {
        let deadline = Instant::now() + PATIENCE * 4;
        while !done(self) {
            assert!(Instant::now() < deadline, "waiting in vain until {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self, name: &str) -> Stdio {
        let path = self.scratch.path().join(name);
        std::fs::File::options().create(true).append(true).open(path).expect("a log file").into()
    }
}

impl Drop for Grid {
    /// Stops everything the polite way, so that clients clear up after their subjobs; then, on a failure, shows
    /// what they logged.
    fn drop(&mut self) {
        for process in self.clients.iter_mut().chain([&mut self.server]) {
            if matches!(process.child.try_wait(), Ok(None)) {
                process.signal(Signal::INT);
            }
        }
        for process in self.clients.iter_mut().chain([&mut self.server]) {
            let deadline = Instant::now() + PATIENCE;
            while matches!(process.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.scratch.path()).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    let lines: Vec<&str> = text.lines().collect();
                    let tail = &lines[lines.len().saturating_sub(30)..];
                    eprintln!("--- {}\n{}", entry.path().display(), tail.join("\n"));
                }
            }
        }
    }
}

fn start_server(state: &Path, listen: &str, lease_ttl: &str, options: &[String]) -> (Process, String) {
    let mut command = Command::new(binary());
    command.args(["--json", "server", "--state"]).arg(state).args([
        "--listen",
        listen,
        "--lease-ttl",
        lease_ttl,
    ]);
    command.args(options);
    let log = state.with_file_name("server.log");
    let log = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut process = Process::start("server", &mut command);
    let stdout = process.child.stdout.take().expect("stdout is piped");
    let mut text = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("the server prints text");
        text.push_str(&line);
        if line == "}" {
            break;
        }
    }
    let ready: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no server: {error} in '{text}'"));
    let url = ready["server"].as_str().expect("an address").to_owned();
    (process, url)
}
