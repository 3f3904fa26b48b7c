//! What a grid leaves behind when it is stopped: its state directories and nothing else.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use grid_tests::{Grid, binary, have, run};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{self, Process};

/// In the environment of all that our jobs start, and in the names of the files that they make.
const MARK: &str = "mark-4c1e97d0";

/// Permissions of the IPC objects that our jobs make, as /proc lists them.
const PERMISSIONS: &str = "641";

/// Makes as much of a mess as a program can, and goes on in the background.
const MESS: &str = r"
echo x > /tmp/$MARK
echo x > work-$MARK
for d in /var/tmp /dev/shm /run; do echo x > $d/$MARK || true; done 2>/dev/null
for kind in '-M 4096' -Q '-S 3'; do ipcmk -p 0641 $kind || true; done
setsid nohup sleep 600 &
(sleep 601 & sleep 602 &)
echo in the background
[ $1 = goes ] || exec sleep 603
";

/// What there was before the grid.
struct Before {
    mounts: BTreeSet<String>,
    ipc: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
}

impl Before {
    fn look() -> Self {
        Before {
            mounts: machine::lines(&["/proc/self/mountinfo"]),
            ipc: machine::lines(&["/proc/sysvipc/shm", "/proc/sysvipc/msg", "/proc/sysvipc/sem"]),
            files: machine::entries(&["/tmp", "/var/tmp", "/dev/shm", "/run"]),
        }
    }

    /// What has come since and is ours; other programs may make things of their own meanwhile.
    fn left(&self, place: &str, tags: &[String], seen: &BTreeSet<Process>) -> Vec<String> {
        let now = Before::look();
        let is_ours = |text: &&String| text.contains(place) || text.contains("dcgrid") || text.contains(MARK);
        let mounts = now.mounts.difference(&self.mounts).filter(is_ours).cloned();
        let has_permissions = |line: &&String| line.split_whitespace().nth(2) == Some(PERMISSIONS);
        let ipc = now.ipc.difference(&self.ipc).filter(has_permissions).cloned();
        let files = now.files.difference(&self.files).map(|path| path.display().to_string());
        let files = files.filter(|name| name.contains(MARK) || name.contains("dcgrid"));
        let groups = machine::control_groups().into_iter().map(|path| path.display().to_string());
        let groups = groups.filter(|name| tags.iter().any(|tag| name.contains(tag)));
        let alive = machine::processes().into_iter().filter(|process| seen.contains(process));
        let marked = machine::marked(MARK).into_iter().chain(machine::marked(place));
        let processes = alive.chain(marked).map(|process| format!("process {}", process.id));
        mounts.chain(ipc).chain(files).chain(groups).chain(processes).collect()
    }
}

fn mess(grid: &Grid, how: &str) -> String {
    grid.file("mess.sh", MESS);
    grid.file(
        "mess.toml",
        format!(
            "spec = 1\nname = 'mess'\ncommand = ['sh', '{{in.script}}', '{how}']\ninputs = {{ script = 'mess.sh' }}\n\
             app = {{ include = ['sleep', 'setsid', 'nohup', 'ipcmk'] }}\nenv = {{ MARK = '{MARK}' }}\nrepeat = {{ times = 3 }}\n"
        ),
    );
    grid.cli(&["submit", "mess.toml"]).ok().trim().to_owned()
}

#[test]
fn a_grid_leaves_nothing_but_its_state() {
    if !have(&["ipcmk", "setsid", "nohup"]) {
        return;
    }
    let before = Before::look();
    let mut grid = Grid::start(2);
    let tags: Vec<String> = grid
        .cli(&["--json", "clients"])
        .json()
        .as_array()
        .expect("a list")
        .iter()
        .map(|client| client["client"].as_str().expect("an id")[..8].to_owned())
        .collect();
    let mut seen = BTreeSet::new();
    let mut look = |grid: &Grid| {
        let below = grid.clients.iter().flat_map(|client| machine::descendants(client.id()));
        seen.extend(below);
    };

    let ended = mess(&grid, "goes");
    grid.wait_until("the jobs have ended", |grid| {
        look(grid);
        grid.cli(&["--json", "show", &ended]).json()["state"] == "succeeded"
    });
    let cancelled = mess(&grid, "stays");
    let runs = |job: &str, grid: &Grid| grid.cli(&["--json", "show", job]).json()["counts"]["running"] == 3;
    grid.wait_until("subjobs run", |grid| runs(&cancelled, grid) && !machine::marked(MARK).is_empty());
    look(&grid);
    grid.cli(&["cancel", &cancelled]).ok();
    let crashed = mess(&grid, "stays");
    grid.wait_until("subjobs run", |grid| runs(&crashed, grid));
    look(&grid);
    grid.crash_client(0);
    grid.crash_server();
    grid.wait_until("subjobs run again", |grid| runs(&crashed, grid));
    look(&grid);
    let place = grid.scratch.path().display().to_string();
    assert!(before.left(&place, &tags, &seen).len() >= 9, "it sees what is there");
    for client in &mut grid.clients {
        assert!(client.stop().success());
    }
    assert!(grid.server.stop().success());

    grid.wait_until("nothing is left", |_| before.left(&place, &tags, &seen).is_empty());
    for number in 0..2 {
        let attempts = grid.client_state(number).join("attempts");
        assert_eq!(std::fs::read_dir(attempts).expect("there").count(), 0);
    }
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
    let before = Before::look();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let state = scratch.path().join("state");
    let up = Up::start(&state);
    let mut command = Command::new(binary());
    command.args(["run", "--", "sh", "-c", "echo hi"]).current_dir(scratch.path());
    assert_eq!(run(command.env("DCGRID_LOGIN", state.join("login.json"))).ok(), "hi\n");
    let seen: BTreeSet<Process> = machine::descendants(up.0.id()).into_iter().collect();
    assert!(up.stop().success());
    let place = scratch.path().display().to_string();
    assert_eq!(before.left(&place, &[], &seen), Vec::<String>::new());
    assert_eq!(machine::entries(&[&place]), BTreeSet::from([state]), "nothing where it was typed");
}
