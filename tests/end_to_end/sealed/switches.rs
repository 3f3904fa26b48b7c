//! Owner and submitter: the stricter has it.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use grid_tests::{Grid, Process, binary, run};

use super::{can_seal, clients, files};

/// What a client keeps on its disk: as it is, and sealed.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    plain: bool,
    sealed: bool,
}

fn kept(state: &Path) -> Kept {
    let any = |name: &str| !files(&state.join(name)).is_empty();
    Kept { plain: any("cache") || any("applications"), sealed: any("sealed") }
}

#[test]
fn the_stricter_of_owner_and_submitter_has_it() {
    if !can_seal() {
        return;
    }
    let check = |owner: &str, submitter: &[&str], shown: &str, sealed: bool| {
        let mut grid = Grid::start(0);
        grid.clients.push(grid.start_client_with(0, 2, &["--seal", owner]));
        let command = [&["run"][..], submitter, &["--", "echo", "hi"]].concat();
        assert_eq!(grid.cli(&command).ok(), "hi\n");
        let found = kept(&grid.client_state(0));
        assert_eq!(found, Kept { plain: !sealed, sealed }, "--seal {owner}, {submitter:?}");
        assert_eq!(clients(&grid)[0]["inventory"]["permits"]["sealing"], shown);
        let job = grid.cli(&["show", "1"]).ok();
        assert_eq!(job.contains("  sealed       yes"), !submitter.is_empty(), "{job}");
    };
    check("off", &[], "on_request", false);
    check("off", &["--sealed"], "on_request", true);
    check("auto", &[], "always", true);
    check("on", &[], "always", true);
    check("on", &["--sealed"], "always", true);
}

#[test]
fn an_owner_who_begins_to_seal_keeps_nothing_as_it_was() {
    if !can_seal() {
        return;
    }
    let mut grid = Grid::start(0);
    grid.clients.push(grid.start_client_with(0, 2, &["--seal", "off"]));
    grid.cli(&["run", "--", "echo", "hi"]).ok();
    assert_eq!(kept(&grid.client_state(0)), Kept { plain: true, sealed: false });
    grid.clients[0].stop();
    grid.clients[0] = grid.start_client_with(0, 2, &["--seal", "on"]);
    grid.cli(&["run", "--", "echo", "hi"]).ok();
    assert_eq!(kept(&grid.client_state(0)), Kept { plain: false, sealed: true });
}

#[test]
fn a_restarted_client_reads_its_cache_with_the_key_that_it_gets_again() {
    if !can_seal() {
        return;
    }
    let mut grid = Grid::start(1);
    let blobs = |grid: &Grid| -> BTreeSet<(std::path::PathBuf, u64)> {
        let files = files(&grid.client_state(0).join("sealed")).into_iter();
        files.map(|path| (path.clone(), path.metadata().expect("there").ino())).collect()
    };
    grid.cli(&["run", "--", "echo", "hi"]).ok();
    let before = blobs(&grid);
    assert!(!before.is_empty());
    grid.crash_client(0);
    grid.cli(&["run", "--", "echo", "hi"]).ok();
    assert_eq!(blobs(&grid), before, "something was fetched again");
    // Whoever has the disk and not the server's key has no key: another server makes another one.
    grid.crash_server();
    grid.cli(&["run", "--", "echo", "hi"]).ok();
    assert_eq!(blobs(&grid), before, "a restarted server gave another key");
}

#[test]
fn a_machine_that_can_not_seal_says_so() {
    if rustix::process::geteuid().as_raw() != 0 || !can_seal() {
        return println!("skipped: only root can take /dev/fuse away from a client");
    }
    let grid = Grid::start(0);
    // A regular file on a read-only mount can't be opened for writing, by nobody.
    let hide = "mount --bind \"$1\" /dev/fuse && mount -o remount,bind,ro /dev/fuse && shift && exec \"$@\"";
    let nothing = grid.file("nothing", "");
    let client = |seal: &str| {
        let token = grid.cli(&["token", "create", "join", "--uses", "1"]).ok();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", hide, "sh"]).arg(&nothing).arg(binary());
        command.args(["client", "--server", &grid.url, "--seal", seal, "--token", token.trim()]);
        command.arg("--state").arg(grid.client_state(7)).args(["--disk-floor", "64MiB"]);
        command
    };
    let refused = run(&mut client("on"));
    assert_eq!(refused.code, 70, "{refused:?}");
    for part in ["this machine can't seal files: /dev/fuse can't be opened", "load the kernel module fuse"] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    let mut auto = client("auto");
    let _auto =
        Process::start("client", auto.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    assert_eq!(grid.cli(&["run", "--", "echo", "hi"]).ok(), "hi\n");
    assert_eq!(clients(&grid)[0]["inventory"]["permits"]["sealing"], "off");
    grid.file("job.toml", "spec = 1\ncommand = ['echo', 'hi']\nsealed = true\n");
    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    let waits = |grid: &Grid| grid.cli(&["show", &job]).ok().contains("can seal files on its disk");
    grid.wait_until("the job says what it waits for", waits);
    // A client that can is all that was missing.
    let _able = grid.start_client(0, 2);
    let done = |grid: &Grid| grid.cli(&["--json", "show", &job]).json()["state"] == "succeeded";
    grid.wait_until("the job has gone to a client that seals", done);
}
