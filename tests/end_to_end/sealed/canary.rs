//! Nothing of a sealed job lies readable on the disk of a client: not in its files, not in what was removed, not in the
//! file system's journal. The disk is an image of our own, and all of it is searched.

use std::path::{Path, PathBuf};
use std::process::Command;

use grid_tests::{Grid, have, run};
use tempfile::TempDir;

use super::{can_seal, clients, files};

/// Size of the client's disk.
const DISK: u64 = 512 << 20;

/// What is looked for: where it comes from, how it is spelled, and whether a client that doesn't seal writes it to its
/// disk.
const CANARIES: &[(&str, &str, bool)] = &[
    ("the data of an input", "cnry-input-data-5d1f", true),
    ("the name of an input", "cnry-input-name-80b2", true),
    ("the program", "cnry-program-bytes-41ce", true),
    ("an output", "cnry-output-data-97aa", true),
    ("the name of an output", "cnry-output-name-c3d8", true),
    ("a file that is removed", "cnry-removed-data-1e64", true),
    ("the name of a file that is removed", "cnry-removed-name-b7f0", true),
    ("standard output", "cnry-stdout-6a95", true),
    ("standard error", "cnry-stderr-f28c", true),
    ("a file in /tmp", "cnry-tmp-data-03e7", false),
    ("an argument", "cnry-argument-d94b", false),
    ("the environment", "cnry-environment-2c7d", false),
    ("a secret", "cnry-secret-e5a1", false),
];

/// Writes what it is told to in halves, so that only what comes of it has the whole word. The comment is the canary of
/// the program itself.
const TOOL: &str = r#"#!/bin/sh
# cnry-program-bytes-41ce
for i in $(seq 1 20000); do echo "$1-output-data-97aa $i"; done > "$1-output-name-c3d8"
for i in $(seq 1 20000); do echo "$1-removed-data-1e64 $i"; done > "$1-removed-name-b7f0"
cp "$1-removed-name-b7f0" /tmp/x; echo "$1-tmp-data-03e7" >> /tmp/x
sync "$1-output-name-c3d8" "$1-removed-name-b7f0" .
for i in $(seq 1 3000); do echo "$1-stdout-6a95"; echo "$1-stderr-f28c" >&2; done
cat *input* | cksum
test -n "$SECRET" || exit 9
[ "$2" = end ] || sleep 600
rm "$1-removed-name-b7f0"
"#;

/// A disk in a file, mounted as a client's state directory.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
    _directory: TempDir,
}

impl Disk {
    fn make(mount: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let image = directory.path().join("disk");
        std::fs::File::create(&image).and_then(|file| file.set_len(DISK)).expect("an empty image");
        std::fs::create_dir(mount).expect("a directory");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image)).ok();
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mount)).ok();
        Disk { image, mount: mount.to_owned(), _directory: directory }
    }

    /// Those of the canaries that are on it, and in the logs.
    fn search(&self, log: &Path) -> Vec<&'static str> {
        run(Command::new("sync").arg("--file-system").arg(&self.mount)).ok();
        let found = |word: &str| {
            let ran =
                run(Command::new("grep").args(["-a", "-q", "-F", "-e", word]).arg(&self.image).arg(log));
            assert!(ran.code <= 1, "{ran:?}");
            ran.code == 0
        };
        CANARIES.iter().filter(|(_, word, _)| found(word)).map(|(what, ..)| *what).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a failure its client still runs: the disk goes with it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.mount).status();
    }
}

fn spec(how: &str) -> String {
    format!(
        "spec = 1\nname = 'tool'\ncommand = ['./tool', 'cnry', '{how}', 'cnry-argument-d94b']\n\
         app = {{ include = ['seq', 'cp', 'sync', 'cat', 'cksum', 'sleep', 'rm'] }}\n\
         inputs = {{ data = {{ path = 'data', as = 'cnry-input-name-80b2-input' }} }}\n\
         outputs = ['cnry-output-name-c3d8']\nenv = {{ PLAIN = 'cnry-environment-2c7d' }}\n\
         resources = {{ disk = '128MiB' }}\nsecrets = {{ SECRET = {{ env = 'MY_SECRET' }} }}\n"
    )
}

/// Runs the tool twice on a client: it is killed together with the client, and then it ends. Gives what was found of
/// the canaries on the client's disk after each.
fn check(seal: &str) -> Option<[Vec<&'static str>; 2]> {
    if rustix::process::geteuid().as_raw() != 0 {
        println!("skipped: only root can mount a disk");
        return None;
    }
    if !have(&["mkfs.ext4", "mount", "umount", "grep"]) || !can_seal() {
        return None;
    }
    let mut grid = Grid::start(0);
    let disk = Disk::make(&grid.client_state(0));
    let log = grid.scratch.path().join("client-0.log");
    grid.clients.push(grid.start_client_with(0, 2, &["--seal", seal]));
    grid.file("data", "cnry-input-data-5d1f\n".repeat(5_000));
    let tool = grid.file("tool", TOOL);
    run(Command::new("chmod").arg("755").arg(tool)).ok();
    let submit = |grid: &Grid, how: &str| {
        grid.file("job.toml", spec(how));
        let mut command = grid.command(&["submit", "job.toml"]);
        run(command.env("MY_SECRET", "cnry-secret-e5a1")).ok().trim().to_owned()
    };

    let job = submit(&grid, "wait");
    // It has written all of it when its program has nothing more to do but sleep.
    let attempts = disk.mount.join("attempts");
    grid.wait_until("the tool has written", |_| {
        let size: u64 =
            files(&attempts).iter().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum();
        size > 1_000_000 && asleep(&grid)
    });
    grid.clients[0].kill();
    let killed = disk.search(&log);
    grid.cli(&["cancel", &job]).ok();

    grid.clients[0] = grid.start_client_with(0, 2, &["--seal", seal]);
    let job = submit(&grid, "end");
    let ended = |grid: &Grid| grid.cli(&["--json", "show", &job]).json()["state"] == "succeeded";
    grid.wait_until("the tool has ended", ended);
    assert_eq!(files(&attempts), Vec::<PathBuf>::new(), "something was left behind");
    grid.cli(&["get", &job, "--dest", "result"]).ok();
    let result = grid.scratch.path().join("result/0/cnry-output-name-c3d8");
    let text = std::fs::read_to_string(result).expect("fetched");
    assert!(text.ends_with("cnry-output-data-97aa 20000\n"), "the tool did not do its work");
    assert_eq!(clients(&grid)[0]["tampering"], serde_json::Value::Null);
    grid.clients[0].stop();
    let ended = disk.search(&log);
    Some([killed, ended])
}

/// Whether a `sleep 600` runs below the grid's client.
fn asleep(grid: &Grid) -> bool {
    let client = grid.clients[0].id();
    crate::machine::descendants(client).iter().any(|process| {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.id)).unwrap_or_default();
        line.ends_with(b"sleep\x00600\x00")
    })
}

#[test]
fn nothing_of_a_sealed_job_is_on_the_disk() {
    let Some(found) = check("on") else { return };
    assert_eq!(found, [Vec::<&str>::new(), Vec::new()]);
}

/// The same job is found all over a disk on which nothing is sealed: the search would find it.
#[test]
fn the_search_finds_what_is_not_sealed() {
    let Some([killed, ended]) = check("off") else { return };
    let expect: Vec<&str> =
        CANARIES.iter().filter(|(.., is_written)| *is_written).map(|(what, ..)| *what).collect();
    let missing: Vec<&&str> = expect.iter().filter(|what| !killed.contains(what)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What is removed soon may never get to the disk, but for what was synced.
    assert!(ended.contains(&"an output") && ended.contains(&"the program"), "{ended:?}");
}
