//! The same as an ordinary user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::bench::{Bench, Ran, have, skip};

const NOBODY: u32 = 65_534;

#[test]
fn an_ordinary_user_runs_programs_too() {
    if !rustix::process::geteuid().is_root() {
        skip("the other tests run as an ordinary user already");
        return;
    }
    if !have("setpriv") {
        return;
    }
    let namespaces = sandbox::probe().into_iter().find(|finding| finding.what == "namespaces");
    if !namespaces.is_some_and(|finding| finding.available) {
        skip("user namespaces are not available");
        return;
    }
    let bench = Bench::new();
    let binary = bench.here.path().join("dcgrid");
    fs::copy(env!("CARGO_BIN_EXE_dcgrid"), &binary).expect("copied");
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).expect("ours");
    bench.file("input", "in\n");
    for path in [bench.here.path(), &bench.path("")] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).expect("ours");
    }
    let run = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            &NOBODY.to_string(),
            "--regid",
            &NOBODY.to_string(),
            "--clear-groups",
            "--",
        ]);
        command.arg(&binary).args(["evm", "run"]).args(args).current_dir(bench.path(""));
        command.env("XDG_CACHE_HOME", bench.here.path().join("cache")).stdin(std::process::Stdio::null());
        Ran::from(command.output().expect("it can be started"))
    };
    run(&["--", "echo", "hi"]).check(0, "hi\n", "");
    run(&["-i", "input", "-o", "out", "--", "sh", "-c", "cat input > out; id -u; exit 4"])
        .check(4, "1000\n", "");
    assert_eq!(bench.read("out"), "in\n");
    let ran = run(&["--wall", "1s", "--", "sleep", "600"]);
    assert!(ran.code == Some(124) && ran.stderr.contains("--wall 1s"), "{ran:?}");
    bench.check_nothing_is_left();
}
