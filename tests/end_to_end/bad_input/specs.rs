//! Mistakes in job specs and on the command line: found before anything is sent, so without a server.

use std::process::Command;

use grid_tests::{Ran, binary, run};

use super::{USAGE, check};

/// Runs the command line where there is no login, with a job spec `job.toml`.
fn dcgrid(spec: &str, arguments: &[&str]) -> Ran {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("job.toml"), spec).expect("written");
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(directory.path()).env("HOME", directory.path());
    for variable in ["DCGRID_LOGIN", "DCGRID_SERVER", "DCGRID_TOKEN", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env_remove(variable);
    }
    run(&mut command)
}

#[track_caller]
fn check_spec(spec: &str, parts: &[&str]) {
    let ran = dcgrid(spec, &["submit", "job.toml", "--check"]);
    check(&ran, USAGE, parts);
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_spec_that_is_no_toml_is_shown_with_its_place() {
    check_spec("spec = 1\ncommand = [\"echo\", \n", &["job.toml:2:", "command = ["]);
    check_spec("spec = 1\ncommand = 'echo'\ncommand = 'again'\n", &["job.toml:3:1", "duplicate key"]);
}

#[test]
fn an_unknown_key_gets_the_one_that_was_meant() {
    check_spec(
        "spec = 1\ncomand = ['echo']\n",
        &["job.toml:2:1: unknown key 'comand'", "did you mean 'command'?"],
    );
    check_spec(
        "spec = 1\ncommand = ['echo']\nlimits = { runtime_maks = '1s' }\n",
        &["job.toml:3:12", "did you mean 'runtime_max'?"],
    );
}

#[test]
fn an_input_that_is_not_there_is_named() {
    check_spec(
        "spec = 1\ncommand = ['cat', '{in.data}']\ninputs = { data = 'nowhere.txt' }\n",
        &["job.toml:3:", "nowhere.txt", "No such file"],
    );
    check_spec(
        "spec = 1\ncommand = ['cat', '{sweep.f}']\nsweep = { values = { f = { glob = '*.pdb' } } }\n",
        &["job.toml:3:", "*.pdb"],
    );
}

#[test]
fn a_path_out_of_the_working_directory_is_refused() {
    let refused =
        |line: &str| check_spec(&format!("spec = 1\ncommand = ['echo']\n{line}\n"), &["job.toml:3:", ".."]);
    refused("outputs = ['../secret']");
    refused("outputs = ['a/../../b']");
    refused("aggregate = { how = 'concat', from = 'stdout', out = '../result' }");
    check_spec("spec = 1\ncommand = ['echo']\noutputs = ['/etc/passwd']\n", &["job.toml:3:", "/etc/passwd"]);
}

#[test]
fn a_spec_that_can_not_be_read_is_named() {
    check(&dcgrid("", &["submit", "absent.toml"]), USAGE, &["can't read the job spec 'absent.toml'"]);
}

#[test]
fn a_mistyped_command_gets_the_one_that_was_meant() {
    check(&dcgrid("", &["sbumit"]), USAGE, &["unrecognized subcommand 'sbumit'", "'submit'"]);
    check(&dcgrid("", &["jobs", "--jsno"]), USAGE, &["unexpected argument '--jsno'", "'--json'"]);
    check(&dcgrid("", &["show", "seven"]), USAGE, &["seven"]);
}

#[test]
fn a_command_without_a_login_says_how_to_get_one() {
    check(&dcgrid("", &["jobs"]), super::REFUSED, &["not logged in", "dcgrid login URL", "dcgrid up"]);
}
