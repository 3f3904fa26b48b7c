//! Somebody changes what lies sealed on a client's disk: the job ends right elsewhere, and the client is flagged.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use grid_tests::Grid;
use serde_json::Value;

use super::{can_seal, clients, files};

/// Flips a bit in every stretch of a file.
fn flip(path: &Path) {
    const STRETCH: u64 = 32 << 10;
    let file = File::options().read(true).write(true).open(path).expect("root may");
    let length = file.metadata().expect("there").len();
    let mut at = length / 2 % STRETCH;
    while at < length {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("inside");
        file.write_all_at(&[byte[0] ^ 4], at).expect("inside");
        at += STRETCH;
    }
}

/// What is shown of the subjobs' attempts: which client, and why it failed.
fn attempts(grid: &Grid, job: &str, subjob: u64) -> Vec<(Value, Option<String>)> {
    let view = grid.cli(&["--json", "show", &format!("{job}.{subjob}")]).json();
    let attempts = view["attempts"].as_array().expect("a list").iter();
    attempts
        .map(|attempt| (attempt["client"].clone(), attempt["failure"].as_str().map(str::to_owned)))
        .collect()
}

fn wait_for(grid: &Grid, job: &str) {
    let ended = |grid: &Grid| {
        let state = grid.cli(&["--json", "show", job]).json()["state"].clone();
        state != "running" && state != "aggregating"
    };
    grid.wait_until("the job has ended", ended);
    assert_eq!(grid.cli(&["--json", "show", job]).json()["state"], "succeeded");
}

/// That exactly this client is flagged, for people too, and that a restarted server knows it.
fn check_flag(grid: &mut Grid, flagged: &Value, times: u64) {
    for restarted in [false, true] {
        if restarted {
            grid.crash_server();
        }
        for client in clients(grid) {
            let found = &client["tampering"];
            let is_flagged = &client["client"] == flagged;
            assert_eq!(found["times"].as_u64(), is_flagged.then_some(times), "{client}");
            assert_eq!(found["last"].as_u64().is_some(), is_flagged, "{client}");
        }
        let table = grid.cli(&["clients"]).ok();
        let lines = table.lines().filter(|line| line.contains(&format!("TAMPERING {times} times")));
        assert_eq!(lines.count(), 1, "{table}");
    }
}

#[test]
fn a_changed_cache_is_noticed_and_the_subjobs_end_elsewhere() {
    if !can_seal() {
        return;
    }
    let mut grid = Grid::start(1);
    grid.file("input", "abc".repeat(100_000));
    grid.file(
        "job.toml",
        "spec = 1\nname = 'sum'\ncommand = ['sh', '-c', 'sleep 2; cksum {in.input}; : {sweep.n}']\n\
         inputs = { input = 'input' }\nsweep = { values = { n = [1, 2, 3, 4] } }\n\
         app = { include = ['sleep', 'cksum'] }\naggregate = { how = 'concat', from = 'stdout', out = 'all' }\n",
    );
    grid.cli(&["run", "job.toml", "-d", "before"]).ok();
    let victim = clients(&grid)[0]["client"].clone();
    let sealed = files(&grid.client_state(0).join("sealed"));
    assert!(sealed.len() > 3, "{sealed:?}");
    sealed.iter().for_each(|path| flip(path));
    let other = grid.start_client(1, 2);
    grid.clients.push(other);
    grid.wait_until("the other client is there", |grid| clients(grid).len() == 2);

    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    wait_for(&grid, &job);
    grid.cli(&["get", &job, "--dest", "after"]).ok();
    let result = |name: &str| std::fs::read(grid.scratch.path().join(name).join("all")).expect("fetched");
    assert_eq!(result("before"), result("after"));
    let mut blamed = 0;
    for subjob in 0..4 {
        for (client, failure) in attempts(&grid, &job, subjob) {
            let Some(failure) = failure else { continue };
            assert!(failure.starts_with("tampering: "), "{failure}");
            assert_eq!(client, victim, "{failure}");
            blamed += 1;
        }
    }
    assert!(blamed > 0, "nobody read what was changed");
    check_flag(&mut grid, &victim, blamed);
}

/// The data file of a subjob's store, when there is one of that size, with the number of the client.
fn store(grid: &Grid, least: u64) -> Option<(usize, PathBuf)> {
    (0..2).find_map(|number| {
        let files = files(&grid.client_state(number).join("attempts"));
        let mut stores = files.into_iter().filter(|path| path.parent().is_some_and(|p| p.ends_with("store")));
        let large = |path: &PathBuf| path.metadata().is_ok_and(|found| found.len() >= least);
        stores.find(large).map(|path| (number, path))
    })
}

/// Runs a job of one subjob whose script begins with writing 16 MiB, flips bits of these while it waits for a few
/// seconds, and lets it go on.
fn check_running(script: &str) {
    if !can_seal() {
        return;
    }
    let mut grid = Grid::start(2);
    grid.wait_until("both clients are there", |grid| clients(grid).len() == 2);
    let before = [clients(&grid)[0]["client"].clone(), clients(&grid)[1]["client"].clone()];
    grid.file(
        "job.toml",
        format!(
            "spec = 1\nname = 'running'\ncommand = ['sh', '-c', '''\n\
             seq 1 3000000 | head -c 16777216 > big && sync big && sleep 4 && {script}''']\n\
             app = {{ include = ['seq', 'head', 'sync', 'sleep', 'dd', 'cksum'] }}\noutputs = ['sum']\n"
        ),
    );
    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    let mut found = None;
    grid.wait_until("the subjob has written", |grid| {
        found = store(grid, 16 << 20);
        found.is_some()
    });
    let (_, path) = found.expect("waited for");
    flip(&path);
    wait_for(&grid, &job);
    let attempts = attempts(&grid, &job, 0);
    let [(first, Some(failure)), (second, None)] = attempts.as_slice() else { panic!("{attempts:?}") };
    assert!(failure.starts_with("tampering: "), "{failure}");
    assert!(first != second && before.contains(first), "{attempts:?}");
    let first = first.clone();
    check_flag(&mut grid, &first, 1);
}

#[test]
fn a_changed_file_of_a_running_subjob_is_noticed_when_it_is_read() {
    // Past the kernel's own copy, which nobody can change.
    check_running("dd if=big iflag=nocache count=0 2>/dev/null && cksum big > sum");
}

#[test]
fn a_changed_output_is_noticed_when_it_is_taken() {
    check_running("ln big sum");
}
