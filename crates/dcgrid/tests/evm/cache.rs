//! The cache makes the second start quick, and is not believed for being there.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::bench::Bench;

/// The one tree in the cache.
fn tree(bench: &Bench) -> PathBuf {
    let mut trees = fs::read_dir(bench.cache().join("trees")).expect("there").flatten();
    let tree = trees.next().expect("a tree").path();
    assert!(trees.next().is_none());
    tree
}

#[test]
fn a_tree_that_somebody_changed_is_made_anew() {
    let bench = Bench::new();
    bench.run(&["--", "echo", "x"]).check(0, "x\n", "");
    let root = tree(&bench).join("root");
    let program = root.join("usr/bin/echo");
    let good = fs::read(&program).expect("readable");
    let replace = |bytes: &[u8]| {
        let before = fs::metadata(&program).expect("there").modified().expect("known");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("ours");
        fs::write(&program, bytes).expect("written");
        let file = fs::File::options().write(true).open(&program).expect("opens");
        file.set_modified(before).expect("set");
        fs::set_permissions(&program, Permissions::from_mode(0o555)).expect("ours");
    };
    let told = |path: &str| {
        let ran = bench.run(&["--", "echo", "x"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "x\n"), "{ran:?}");
        assert!(
            ran.stderr.contains(&format!("'{path}' is not what")) && ran.stderr.contains("tampering"),
            "{ran:?}"
        );
    };
    // The same bytes written again are no harm.
    replace(&good);
    bench.run(&["--", "echo", "x"]).check(0, "x\n", "");
    let mut bad = good.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    replace(&bad);
    told("/usr/bin/echo");
    assert!(fs::read(&program).expect("readable") == good, "it was made anew");
    // A file that was added is no part of the application either.
    let extra = root.join("usr/bin/extra");
    fs::copy(&program, &extra).expect("copied");
    told("/usr/bin/extra");
    assert!(!extra.exists());
    // Nor is a manifest that says so.
    fs::write(tree(&bench).join("manifest"), "{}").expect("written");
    bench.run(&["--", "echo", "x"]).check(0, "x\n", "");
}

#[test]
fn a_program_that_changed_is_wrapped_anew() {
    let bench = Bench::new();
    let script = bench.file("tool", "#!/bin/sh\necho one\n");
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("ours");
    for _ in 0..3 {
        bench.run(&["--", "./tool"]).check(0, "one\n", "");
    }
    fs::write(&script, "#!/bin/sh\necho two\n").expect("written");
    bench.run(&["--", "./tool"]).check(0, "two\n", "");
}

#[test]
fn a_cache_that_others_can_write_is_refused() {
    let bench = Bench::new();
    bench.run(&["--", "true"]).check(0, "", "");
    fs::set_permissions(bench.cache(), Permissions::from_mode(0o777)).expect("ours");
    let ran = bench.run(&["--", "true"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("others than you can write to"), "{ran:?}");
}

#[test]
fn many_may_run_at_once() {
    let bench = Bench::new();
    let start = || {
        let mut command = bench.command(&["run", "--", "sh", "-c", "echo x > f; cat f"]);
        command.stdout(std::process::Stdio::piped()).spawn().expect("it can be started")
    };
    let running: Vec<_> = (0..8).map(|_| start()).collect();
    for child in running {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"x\n"[..]));
    }
    bench.check_nothing_is_left();
}
