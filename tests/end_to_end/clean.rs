//! What a grid leaves behind, whatever its subjobs did and however they ended: its state directories and nothing
//! else (§3, "clean execution environment").

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use grid_tests::{Grid, binary, have, repository, run};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::machine::{self, Process};
use crate::snapshot::{Bait, Snapshot, traces};

/// In the environment of all that our jobs start, and in the names of the files that they make.
const MARK: &str = "mark-4c1e97d0";

/// Makes as much of a mess as a program can.
const MESS: &str = r"
for d in /tmp /var/tmp /dev/shm /run /etc /work $BAIT; do echo x > $d/$MARK; done 2>/dev/null
for b in $BAIT; do echo x > $b/file; rm -rf $b/deep; chmod 0 $b; ln -s / $b/$MARK; done 2>/dev/null
for kind in '-M 4096' -Q '-S 3'; do ipcmk -p 0641 $kind; done >/dev/null 2>&1
mkfifo /work/fifo-$MARK
if [ -x /app/act ]; then
  /app/act each leave_everything leave_daemon leave_stopped_daemon odd_names unreadable_directories \
    links_in_circles keys_add keys_session connect_own_unix listen_where_host_connects make_setuid_file
fi >/dev/null 2>&1
setsid nohup sleep 600 >/dev/null 2>&1 &
(sleep 601 & sleep 602 &)
echo in the background
";

/// How a subjob ends.
struct Ending {
    name: &'static str,
    /// What it does after making a mess.
    script: &'static str,
    /// More lines of its spec.
    lines: &'static str,
    /// The state of its job then.
    state: &'static str,
    by: By,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Itself,
    Cancel,
    /// The client is killed while it runs; the next one runs it to the end, or it is cancelled.
    ClientKilled,
}

const fn ending(
    name: &'static str,
    script: &'static str,
    lines: &'static str,
    state: &'static str,
    by: By,
) -> Ending {
    Ending { name, script, lines, state, by }
}

const ENDINGS: &[Ending] = &[
    ending("success", "exit 0", "", "succeeded", By::Itself),
    ending("failure", "exit 3", "", "failed", By::Itself),
    ending("signal", "kill -SEGV $$", "", "failed", By::Itself),
    ending("missing-output", "exit 0", "outputs = ['none']", "failed", By::Itself),
    ending("wall", "sleep 603", "limits = { runtime_max = '2s' }", "failed", By::Itself),
    ending("memory", "head -c 1G /dev/zero | tail", "resources = { memory = '64MiB' }", "failed", By::Itself),
    ending(
        "processes",
        "while :; do sleep 604 & done; wait",
        "limits = { processes = 32, runtime_max = '5s' }",
        "failed",
        By::Itself,
    ),
    ending(
        "disk",
        "head -c 64M /dev/zero > /work/big",
        "resources = { disk = '8MiB' }",
        "failed",
        By::Itself,
    ),
    ending("output", "yes | head -c 8M", "limits = { output = '64KiB' }", "failed", By::Itself),
    ending("cancel", "sleep 605", "", "cancelled", By::Cancel),
    ending("kill", "sleep 606", "", "cancelled", By::ClientKilled),
];

/// Subjobs of each job.
const SUBJOBS: usize = 2;

fn submit(grid: &Grid, ending: &Ending, bait: &Bait, acts: Option<&str>) -> String {
    let include = acts.map_or(String::new(), |acts| format!(", '{acts}'"));
    grid.file("mess.sh", format!("{MESS}\n{}\n", ending.script));
    grid.file(
        "mess.toml",
        format!(
            "spec = 1\nname = '{name}'\ncommand = ['sh', '{{in.script}}']\ninputs = {{ script = 'mess.sh' }}\n\
             app = {{ include = ['sleep', 'setsid', 'nohup', 'ipcmk', 'head', 'tail', 'yes', 'rm', 'ln', 'chmod', \
             'mkfifo'{include}] }}\nenv = {{ MARK = '{mark}', BAIT = '{bait}' }}\nattempts = 1\n\
             repeat = {{ times = {SUBJOBS} }}\n{lines}\n",
            name = ending.name,
            mark = mark_of(ending),
            bait = bait.paths(),
            lines = ending.lines,
        ),
    );
    grid.cli(&["submit", "mess.toml"]).ok().trim().to_owned()
}

fn mark_of(ending: &Ending) -> String {
    format!("{MARK}-{}.", ending.name)
}

/// All that was seen to run for the grid, and in which namespaces.
#[derive(Default)]
struct Watched {
    processes: BTreeSet<Process>,
    namespaces: BTreeSet<String>,
}

impl Watched {
    fn look(&mut self, grid: &Grid) {
        let below: Vec<Process> =
            grid.clients.iter().flat_map(|client| machine::descendants(client.id())).collect();
        self.namespaces.extend(machine::namespaces(&below));
        self.processes.extend(below);
    }

    /// What of it is still there. Namespaces that this test is in itself are everybody's.
    fn left(&self) -> Vec<String> {
        let all = machine::processes();
        let alive = all.iter().filter(|process| self.processes.contains(process));
        let mut left: Vec<String> = alive.map(|process| format!("process {}", process.id)).collect();
        let ours = machine::namespaces(&machine::own());
        let theirs = machine::namespaces(&all);
        let held = self.namespaces.difference(&ours).filter(|namespace| theirs.contains(*namespace));
        left.extend(held.map(|namespace| format!("namespace {namespace}")));
        left
    }
}

/// Ends a job as its ending says; returns when nothing of it can run any more.
fn bring_to_end(grid: &mut Grid, ending: &Ending, job: &str, watched: &mut Watched, processes: usize) {
    let show = |grid: &Grid| grid.cli(&["--json", "show", job]).json();
    let mark = mark_of(ending);
    if ending.by != By::Itself {
        grid.wait_until("its subjobs run", |grid| {
            watched.look(grid);
            let shows = machine::marked(&mark).len() >= processes;
            show(grid)["counts"]["running"] == SUBJOBS && shows
        });
        if ending.by == By::ClientKilled {
            grid.clients[0].kill();
            grid.wait_until("its processes are gone", |_| machine::marked(&mark).is_empty());
        }
        grid.cli(&["cancel", job]).ok();
        if ending.by == By::ClientKilled {
            grid.clients[0] = grid.start_client(0, 2);
        }
    }
    grid.wait_until("the job has ended", |grid| {
        watched.look(grid);
        show(grid)["state"] == ending.state
    });
}

#[test]
fn a_subjob_leaves_nothing_however_it_ends() {
    if !have(&["ipcmk", "setsid", "nohup"]) {
        return;
    }
    let bait = Bait::lay();
    let (_place, acts) = compile_acts().unzip();
    // The shell, three that sleep in the background and one that it waits for; and what the acts leave.
    let processes = SUBJOBS * if acts.is_some() { 7 } else { 5 };
    let before = Snapshot::take(&bait);
    let mut grid = Grid::start(1);
    let place = grid.scratch.path().display().to_string();
    let mut watched = Watched::default();
    let attempts = grid.client_state(0).join("attempts");
    for ending in ENDINGS {
        let job = submit(&grid, ending, &bait, acts.as_deref());
        bring_to_end(&mut grid, ending, &job, &mut watched, processes);
        let mark = mark_of(ending);
        let left = || {
            let mut left = before.difference(&Snapshot::take(&bait), &[&mark]);
            left.extend(machine::marked(&mark).iter().map(|process| format!("process {}", process.id)));
            left.extend(traces(&grid.client_state(0), &mark));
            left.extend(
                machine::entries(&[&attempts.to_string_lossy()])
                    .iter()
                    .map(|path| path.display().to_string()),
            );
            left
        };
        let what = format!("nothing is left after '{}'", ending.name);
        eventually(&grid, &what, left);
    }
    let tag = tag(&grid);
    let port: u16 = grid.url.rsplit_once(':').expect("a port").1.parse().expect("a number");
    assert!(machine::listening().contains(&port), "it sees what is there");
    for client in &mut grid.clients {
        assert!(client.stop().success());
    }
    assert!(grid.server.stop().success());

    let left = || {
        let mut left = before.difference(&Snapshot::take(&bait), &[MARK, &place, "dcgrid-"]);
        // The grid's own directory is below a shared one.
        left.retain(|what| *what != format!("there is a file {place}"));
        left.extend(watched.left());
        left.extend(machine::marked(MARK).iter().map(|process| format!("process {}", process.id)));
        let groups = machine::control_groups().into_iter().map(|path| path.display().to_string());
        left.extend(groups.filter(|name| name.contains(&tag)));
        left.extend(machine::listening().contains(&port).then(|| format!("port {port}")));
        left
    };
    eventually(&grid, "nothing is left", left);
    assert!(!watched.processes.is_empty() && watched.namespaces.len() > 5, "it has seen what ran");
}

/// Waits until nothing is left; says what is if that takes too long.
#[track_caller]
fn eventually(grid: &Grid, what: &str, left: impl Fn() -> Vec<String>) {
    let mut looks = 0;
    grid.wait_until(what, |_| {
        let left = left();
        looks += 1;
        if looks % 200 == 0 {
            println!("waiting until {what}: {left:#?}");
        }
        left.is_empty()
    });
}

/// The part of the first client's id that names its control groups.
fn tag(grid: &Grid) -> String {
    grid.cli(&["--json", "clients"]).json()[0]["client"].as_str().expect("an id")[..8].to_owned()
}

/// The program of the sandbox's hostile suite, for more of a mess, where it can be made.
fn compile_acts() -> Option<(TempDir, String)> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = directory.path().join("act");
    let sources = std::fs::read_dir(repository().join("crates/sandbox/tests/suite/acts")).expect("there");
    let sources = sources.map(|entry| entry.expect("an entry").path());
    let sources: Vec<_> = sources.filter(|path| path.extension() == Some("c".as_ref())).collect();
    let mut command = Command::new("cc");
    command.args(["-w", "-static", "-pthread", "-o"]).arg(&program).args(sources);
    if !command.status().is_ok_and(|status| status.success()) {
        println!("the mess is smaller: no C compiler that links statically");
        return None;
    }
    Some((directory, program.display().to_string()))
}

/// `dcgrid up`, killed if a test ends before it was stopped.
struct Up(Child);

impl Up {
    /// Starts it; returns when it says that it is ready.
    fn start(state: &Path) -> Self {
        let mut command = Command::new(binary());
        command.args(["--json", "up", "--listen", "127.0.0.1:0", "--cpus", "2", "--state"]).arg(state);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it can be started");
        let stdout = child.stdout.take().expect("stdout is piped");
        let is_ready = BufReader::new(stdout).lines().any(|line| line.is_ok_and(|line| line == "}"));
        let up = Up(child);
        assert!(is_ready, "dcgrid up does not start");
        up
    }

    fn stop(mut self) -> ExitStatus {
        let id = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, Signal::INT).expect("it runs");
        self.0.wait().expect("it can be waited for")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_grid_of_one_command_leaves_nothing_but_its_state() {
    let bait = Bait::lay();
    let before = Snapshot::take(&bait);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let state = scratch.path().join("state");
    let up = Up::start(&state);
    let mut command = Command::new(binary());
    command.args(["run", "--", "sh", "-c", "echo hi"]).current_dir(scratch.path());
    assert_eq!(run(command.env("DCGRID_LOGIN", state.join("login.json"))).ok(), "hi\n");
    let seen: BTreeSet<Process> = machine::descendants(up.0.id()).into_iter().collect();
    assert!(up.stop().success());
    let place = scratch.path().display().to_string();
    let left = before.difference(&Snapshot::take(&bait), &[&place]);
    assert_eq!(left, [format!("there is a file {place}")]);
    let alive = machine::processes().into_iter().filter(|process| seen.contains(process));
    assert_eq!(alive.count(), 0);
    assert_eq!(machine::entries(&[&place]), BTreeSet::from([state]), "nothing where it was typed");
}
