//! Full disks, on the server and on a client: small file systems that the test mounts and fills.

use std::path::{Path, PathBuf};
use std::process::Command;

use grid_tests::{Grid, run};
use serde_json::Value;

use super::{DISK_FULL, check};

/// A small file system, unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one on a directory; says why and gives none where that is not allowed.
    fn mount(on: &Path, size: &str) -> Option<Disk> {
        std::fs::create_dir_all(on).expect("made");
        let options = format!("size={size},mode=700");
        let ran = run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(on));
        if ran.code != 0 {
            println!("skipped: can't mount a file system: {}", ran.stderr.trim());
            return None;
        }
        Some(Disk(on.to_owned()))
    }

    /// Takes all the space there is.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.join("filler")).expect("made");
        for block in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; block]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: on a failure the grid on it is still running.
        let ran = run(Command::new("umount").arg("--lazy").arg(&self.0));
        assert!(ran.code == 0 || std::thread::panicking(), "{ran:?}");
    }
}

/// A grid whose server's state is on a small disk.
fn grid_on_a_small_disk() -> Option<(Grid, Disk)> {
    let mut grid = Grid::start_with(0, &["--disk-floor", "2MiB"]);
    grid.server.stop();
    let (state, aside) = (grid.server_state(), grid.scratch.path().join("aside"));
    std::fs::rename(&state, &aside).expect("stopped");
    let disk = Disk::mount(&state, "64m");
    run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&state)).ok();
    let disk = disk?;
    grid.restart_server();
    let client = grid.start_client(0, 2);
    grid.clients.push(client);
    Some((grid, disk))
}

fn show(grid: &Grid, what: &str) -> Value {
    grid.cli(&["--json", "show", what]).json()
}

#[test]
fn a_full_server_refuses_and_goes_on_when_there_is_room() {
    let Some((grid, disk)) = grid_on_a_small_disk() else { return };
    assert_eq!(grid.cli(&["run", "--", "echo", "before"]).ok(), "before\n");
    disk.fill();
    grid.file("data", vec![7; 3_000_000]);
    let ran = grid.cli(&["run", "-i", "data", "--", "cat", "data"]);
    check(&ran, DISK_FULL, &["full", "free space on the server"]);
    assert_eq!(
        grid.cli(&["--json", "jobs"]).json().as_array().map(Vec::len),
        Some(1),
        "it can still be asked"
    );
    disk.free();
    grid.wait_until("there is room", |grid| grid.cli(&["run", "--", "echo", "after"]).code == 0);
    assert_eq!(grid.cli(&["logs", "1"]).ok(), "before\n");
    assert_eq!(grid.cli(&["run", "-i", "data", "--", "head", "-c", "0", "data"]).ok(), "");
}

#[test]
fn results_wait_while_the_server_is_full() {
    let Some((grid, disk)) = grid_on_a_small_disk() else { return };
    grid.file("script.sh", "head -c 3000000 /dev/urandom > big; echo $1 > line; sleep 0.2\n");
    grid.file(
        "job.toml",
        "spec = 1\ncommand = ['sh', '{in.script}', '{sweep.n}']\ninputs = { script = 'script.sh' }\n\
         app = { include = ['head', 'sleep'] }\nsweep = { values = { n = { range = [1, 8] } } }\n\
         outputs = ['big', 'line']\nlimits = { output = '8MiB' }\n\
         aggregate = [{ how = 'concat', from = 'line', out = 'lines' }, { how = 'files', from = 'big' }]\n",
    );
    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    grid.wait_until("some have ended", |grid| show(grid, &job)["counts"]["succeeded"].as_u64() >= Some(2));
    disk.fill();
    let log = grid.scratch.path().join("client-0.log");
    let is_refused = |_: &Grid| std::fs::read_to_string(&log).is_ok_and(|text| text.contains("full"));
    grid.wait_until("the client is refused", is_refused);
    disk.free();
    grid.wait_until("the job has ended", |grid| show(grid, &job)["state"] != "running");
    grid.wait_until("the result is there", |grid| show(grid, &job)["state"] != "aggregating");
    let view = show(&grid, &job);
    assert_eq!((&view["state"], &view["counts"]["succeeded"]), (&"succeeded".into(), &8.into()), "{view:#}");
    grid.cli(&["get", &job, "-d", "result"]).ok();
    let lines = std::fs::read_to_string(grid.scratch.path().join("result/lines")).expect("fetched");
    assert_eq!(lines, "1\n2\n3\n4\n5\n6\n7\n8\n");
}

#[test]
fn a_full_client_gives_its_subjob_to_another() {
    let mut grid = Grid::start(0);
    // The client keeps 64 MiB free and offers the rest: room for the subjob, but not for a cached copy of its input
    // beside that in its working directory. Sealed, it would be there once.
    let Some(_disk) = Disk::mount(&grid.client_state(0), "200m") else { return };
    let small = grid.start_client_with(0, 2, &["--seal", "off"]);
    grid.clients.push(small);
    grid.file("data", vec![7; 110 << 20]);
    let spec = |disk: &str| {
        format!(
            "spec = 1\ncommand = ['head', '-c', '3', '{{in.data}}']\ninputs = {{ data = 'data' }}\n\
             resources = {{ disk = '{disk}' }}\n"
        )
    };
    grid.file("large.toml", spec("512MiB"));
    grid.file("small.toml", spec("120MiB"));
    let large = grid.cli(&["submit", "large.toml"]).ok().trim().to_owned();
    let waits = |grid: &Grid| show(grid, &large)["waits"].as_str().is_some_and(|why| why.contains("of disk"));
    grid.wait_until("it says that no client has the room", waits);
    assert_eq!(show(&grid, &large)["counts"]["waiting"], 1, "it is given to nobody");
    let small = grid.cli(&["submit", "small.toml"]).ok().trim().to_owned();
    let failed = |grid: &Grid| !show(grid, &small)["failures"].as_array().is_some_and(Vec::is_empty);
    grid.wait_until("it fails for want of space", failed);
    let failure = show(&grid, &small)["failures"][0].clone();
    assert_eq!(failure["class"], "client_fault");
    assert!(failure["reason"].as_str().is_some_and(|why| why.contains("No space left")), "{failure:#}");
    let other = grid.start_client(1, 2);
    grid.clients.push(other);
    grid.wait_until("another runs it", |grid| show(grid, &small)["state"] == "succeeded");
    grid.wait_until("and the large one", |grid| show(grid, &large)["state"] == "succeeded");
    let attempts = show(&grid, &format!("{small}.0"))["attempts"].clone();
    let last = attempts.as_array().and_then(|attempts| attempts.last()).expect("attempts");
    assert_ne!(last["client"], attempts[0]["client"]);
}
