//! Subjobs that go over what they were given or don't leave what they promised: the reason says what and how much.

use grid_tests::Grid;

use super::{FAILED, check};

/// Runs a shell script as a job of one that is tried once, with more lines for its spec; it must fail for a reason
/// with these parts, wherever a person looks.
#[track_caller]
fn fails(grid: &Grid, script: &str, lines: &str, parts: &[&str]) {
    grid.file("script.sh", format!("echo said-this >&2\n{script}\n"));
    grid.file(
        "job.toml",
        format!(
            "spec = 1\nname = 'bad'\ncommand = ['sh', '{{in.script}}']\ninputs = {{ script = 'script.sh' }}\n\
             app = {{ include = ['sleep', 'ln', 'head', 'tail', 'mkfifo'] }}\nattempts = 1\n{lines}\n"
        ),
    );
    let ran = grid.cli(&["run", "job.toml", "-d", "result"]);
    check(&ran, FAILED, parts);
    let job = grid.cli(&["--json", "jobs"]).json()[0]["job"].to_string();
    for what in [job.clone(), format!("{job}.0")] {
        let shown = grid.cli(&["show", &what]).ok();
        assert!(parts.iter().all(|part| shown.contains(part)), "{parts:?} are not in: {shown}");
    }
    let logs = grid.cli(&["logs", &job]);
    assert!(logs.stderr.contains("said-this"), "{logs:?}");
}

#[test]
fn outputs_that_are_not_there_or_not_allowed() {
    let grid = Grid::start(1);
    fails(&grid, "true", "outputs = ['hits']", &["the declared output 'hits' was not produced"]);
    let large = ["its outputs are", "the limit is 1 KiB", "raise limits.output"];
    fails(&grid, "head -c 100000 /dev/zero > big", "outputs = ['big']\nlimits = { output = '1KiB' }", &large);
    let refused = ["the output 'out' was refused", "symbolic link"];
    fails(&grid, "ln -s /etc/passwd out", "outputs = ['out']", &refused);
    let through = ["the output 'out/passwd' was refused", "symbolic link"];
    fails(&grid, "ln -s /etc out", "outputs = ['out/passwd']", &through);
    fails(&grid, "mkfifo out", "outputs = ['out']", &["the output 'out' was refused", "not a regular file"]);
}

#[test]
fn limits_name_their_value_and_what_was_taken() {
    let grid = Grid::start(1);
    let memory = ["killed by the memory limit of 64 MiB after a peak of", "raise resources.memory"];
    fails(&grid, "head -c 400000000 /dev/zero | tail", "resources = { memory = '64MiB' }", &memory);
    let disk = ["its files took", "the limit is 4 MiB", "raise resources.disk"];
    fails(&grid, "head -c 200000000 /dev/zero > big; sleep 60", "resources = { disk = '4MiB' }", &disk);
    let late = ["ran longer than limits.runtime_max = 500ms"];
    fails(&grid, "sleep 60", "limits = { runtime_max = '500ms' }", &late);
    let early = ["although limits.runtime_min = 5s"];
    fails(&grid, "true", "limits = { runtime_min = '5s' }", &early);
    let many = ["reached the limit of 8 processes and threads", "raise limits.processes"];
    let script = "i=0; while [ $i -lt 30 ]; do sleep 60 & i=$((i + 1)); done; wait";
    fails(&grid, script, "limits = { processes = 8 }", &many);
}

#[test]
fn mistakes_in_a_row_do_not_bar_the_only_client() {
    let grid = Grid::start(1);
    for code in 3..8 {
        let ran = grid.cli(&["run", "--", "sh", "-c", &format!("exit {code}")]);
        check(&ran, FAILED, &[&format!("ended with status {code}")]);
    }
    assert_eq!(grid.cli(&["run", "--", "echo", "right"]).ok(), "right\n");
    assert_eq!(grid.cli(&["--json", "clients"]).json()[0]["state"], "online");
}

#[test]
fn a_job_that_only_fails_stops_itself() {
    let grid = Grid::start(1);
    grid.file(
        "job.toml",
        "spec = 1\nname = 'bad'\ncommand = ['sh', '-c', 'exit 9', '{sweep.n}']\nattempts = 1\n\
         sweep = { values = { n = { range = [1, 1000] } } }\n",
    );
    let ran = grid.cli(&["run", "job.toml", "-d", "result"]);
    check(&ran, FAILED, &["it looks like the job, not the clients", "ended with status 9"]);
    let view = grid.cli(&["--json", "jobs"]).json()[0].clone();
    assert_eq!(view["state"], "failed");
    assert!(view["counts"]["failed"].as_u64() < Some(20), "{view:#}");
}
