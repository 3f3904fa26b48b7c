//! One command through the whole grid, and what is left of it.

use grid_tests::Grid;

#[test]
fn a_command_runs_on_the_grid_and_comes_back() {
    let grid = Grid::start(1);
    let ran = grid.cli(&["run", "--", "echo", "a b", "{c}", "$HOME", "\"é\"", "x\ny"]);
    assert_eq!(ran.ok(), "a b {c} $HOME \"é\" x\ny\n");
}

#[test]
fn files_go_there_and_come_back() {
    let grid = Grid::start(1);
    grid.file("numbers", "3\n1\n2\n");
    grid.cli(&["run", "-i", "numbers", "-o", "sorted", "--", "sort", "-o", "sorted", "numbers"]).ok();
    assert_eq!(std::fs::read_to_string(grid.scratch.path().join("sorted")).expect("fetched"), "1\n2\n3\n");
}

#[test]
fn a_large_output_is_uploaded_in_parts_and_comes_back_whole() {
    let grid = Grid::start(1);
    let big: Vec<u8> = (0..9_000_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    grid.file("big", &big);
    grid.cli(&["run", "-i", "big", "-o", "copy", "--", "cp", "big", "copy"]).ok();
    assert!(std::fs::read(grid.scratch.path().join("copy")).expect("fetched") == big);
}

#[test]
fn a_failing_command_says_why_and_ends_so() {
    let grid = Grid::start(1);
    let ran = grid.cli(&["run", "--", "sh", "-c", "echo out; echo oops >&2; exit 3"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "out\n"));
    assert!(ran.stderr.contains("ended with status 3") && ran.stderr.contains("oops"), "{}", ran.stderr);
}

#[test]
fn a_sweep_is_aggregated_in_order() {
    let grid = Grid::start(2);
    grid.file(
        "job.toml",
        r#"
        spec = 1
        name = "sweep"
        command = ["sh", "-c", "echo $0 $1", "{sweep.a}", "{sweep.b}"]
        sweep = { mode = "product", values = { a = ["x", "y", "z"], b = { range = [1, 20] } } }
        aggregate = { how = "concat", from = "stdout", out = "all.txt" }
        "#,
    );
    let ran = grid.cli(&["run", "job.toml", "-d", "result"]);
    assert!(ran.stdout.contains("60 of 60 subjobs succeeded"), "{ran:?}");
    let expect: String =
        ["x", "y", "z"].iter().flat_map(|a| (1..=20).map(move |b| format!("{a} {b}\n"))).collect();
    let found = std::fs::read_to_string(grid.scratch.path().join("result/all.txt")).expect("fetched");
    assert_eq!(found, expect);
}

#[test]
fn a_job_can_be_cancelled_and_its_subjobs_end() {
    let grid = Grid::start(1);
    grid.file(
        "job.toml",
        "spec = 1\nname = 'sleep'\ncommand = ['sleep', '{sweep.time}']\nsweep = { values = { time = [600, 601, 602] } }\n",
    );
    let job = grid.cli(&["submit", "job.toml"]).ok().trim().to_owned();
    let running = |grid: &Grid| grid.cli(&["--json", "show", &job]).json()["counts"]["running"] == 2;
    grid.wait_until("two subjobs run", running);
    grid.cli(&["cancel", &job]).ok();
    let view = grid.cli(&["--json", "show", &job]).json();
    assert_eq!((&view["state"], &view["counts"]["cancelled"]), (&"cancelled".into(), &3.into()));
    let free = |grid: &Grid| grid.cli(&["--json", "clients"]).json()[0]["running"] == 0;
    grid.wait_until("the client is free", free);
    assert_eq!(grid.cli(&["run", "--", "echo", "next"]).ok(), "next\n");
}

#[test]
fn secrets_reach_the_program_and_nothing_else() {
    let grid = Grid::start(1);
    grid.file(
        "job.toml",
        r#"
        spec = 1
        name = "secret"
        command = ["sh", "-c", "echo ${{#LICENCE}}"]
        secrets = { LICENCE = { env = "MY_LICENCE" } }
        aggregate = { how = "concat", from = "stdout", out = "length" }
        "#,
    );
    let secret = "canary-7f3a91c2";
    let mut command = grid.command(&["run", "job.toml", "-d", "result"]);
    let ran = grid_tests::run(command.env("MY_LICENCE", secret));
    ran.ok();
    let length = std::fs::read_to_string(grid.scratch.path().join("result/length")).expect("fetched");
    assert_eq!(length, "15\n");
    for file in walk(grid.scratch.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the secret lies in {}", file.display());
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(walk(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}
