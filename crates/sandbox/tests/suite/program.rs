//! What an honest program sees: its arguments, environment, input, files and place.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sandbox::{Ended, Output, Stdin};

use crate::harness::Bench;

/// Runs one act and compares the whole of its output.
fn check(args: &[&str], expect: &str) {
    let Some(mut bench) = Bench::new() else { return };
    assert_eq!(bench.act(args).ok(), expect);
}

#[test]
fn says_hello() {
    check(&["hello"], "hello\n");
}

#[test]
fn gets_its_arguments_as_they_are() {
    check(&["args", "a b", "", "ä"], "/bin/act\nargs\na b\n\nä\n");
}

#[test]
fn is_the_user_subjob_and_nobody_else() {
    check(&["whoami"], "1000 1000 1\n");
    check(&["show", "/etc/group"], "root:x:0:\nsubjob:x:1000:\nnogroup:x:65534:\n");
}

#[test]
fn starts_in_its_work_directory() {
    check(&["pwd"], "/work\n");
}

#[test]
fn sees_no_files_but_the_standard_three() {
    check(&["files"], "0 1 2 \n");
}

#[test]
fn talks_to_its_own_parts_over_loopback() {
    check(&["talk"], "connect 0\n");
}

#[test]
fn its_exit_is_told_as_it_was() {
    let Some(mut bench) = Bench::new() else { return };
    for (args, expect) in [
        (["exit", "0"], Ended::Code(0)),
        (["exit", "7"], Ended::Code(7)),
        (["exit", "255"], Ended::Code(255)),
        (["signal", "11"], Ended::Signal(11)),
        (["signal", "6"], Ended::Signal(6)),
        (["signal", "9"], Ended::Signal(9)),
        // Ignored by the client, as in every Rust program; the subjob must not inherit that.
        (["signal", "13"], Ended::Signal(13)),
    ] {
        let outcome = bench.act(&args);
        assert_eq!(outcome.exit.ended, expect, "{args:?}");
        assert_eq!(outcome.exit.hit, None, "{args:?}");
    }
}

#[test]
fn reads_its_input_and_cannot_change_it() {
    let Some(mut bench) = Bench::new() else { return };
    let input = bench.directory.path().join("input");
    fs::write(&input, "one\ntwo\n").unwrap();
    let mut spec = bench.spec(&["copy"]);
    spec.stdin = Stdin::File(input.clone());
    assert_eq!(bench.run(&spec).ok(), "one\ntwo\n");
    let mut spec = bench.spec(&["write", "/dev/stdin"]);
    spec.stdin = Stdin::File(input.clone());
    assert_eq!(bench.run(&spec).exit.ended, Ended::Code(1));
    assert_eq!(fs::read_to_string(input).unwrap(), "one\ntwo\n");
    assert_eq!(bench.act(&["copy"]).ok(), "");
}

#[test]
fn writes_two_streams() {
    let Some(mut bench) = Bench::new() else { return };
    let outcome = bench.act(&["both"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(bench.act(&["write", "/dev/stdout"]).ok(), "/dev/stdout 0\n");
}

#[test]
fn streams_go_through_pipes_too() {
    let Some(mut bench) = Bench::new() else { return };
    let mut run = |args: &[&str], input: &[u8]| {
        let mut spec = bench.spec(args);
        let [(stdin, ours), (out, stdout), (err, stderr)] = [(); 3].map(|()| rustix::pipe::pipe().unwrap());
        spec.stdin = Stdin::Pipe(Arc::new(stdin));
        spec.stdout = Output::Pipe(Arc::new(stdout));
        spec.stderr = Output::Pipe(Arc::new(stderr));
        let running = bench.start(&spec);
        // What we hold of the pipes' other ends would keep them open.
        drop(spec);
        fs::File::from(ours).write_all(input).unwrap();
        let text = |pipe: OwnedFd| std::io::read_to_string(fs::File::from(pipe)).unwrap();
        (text(out), text(err), running.wait().ended)
    };
    assert_eq!(run(&["copy"], b"one\ntwo\n"), ("one\ntwo\n".into(), String::new(), Ended::Code(0)));
    assert_eq!(run(&["both"], b""), ("out\n".into(), "err\n".into(), Ended::Code(0)));
    // The pipe is the program's own file: it may be opened by its name.
    assert_eq!(run(&["write", "/dev/stdout"], b"").2, Ended::Code(0));
}

#[test]
fn has_the_environment_it_was_given_and_none_of_ours() {
    let Some(mut bench) = Bench::new() else { return };
    let mut spec = bench.spec(&["env"]);
    spec.env = vec![("LANG".into(), "C".into()), ("HOME".into(), "/work".into())];
    let found = bench.run(&spec).ok();
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    let path = "PATH=/usr/local/bin:/usr/bin:/bin";
    let runtime = "XDG_RUNTIME_DIR=/run/user/1000";
    assert_eq!(
        found,
        ["HOME=/work", "LANG=C", "LOGNAME=subjob", path, "TMPDIR=/tmp", "USER=subjob", runtime]
    );
}

#[test]
fn keeps_what_it_writes_in_its_work_directory() {
    let Some(mut bench) = Bench::new() else { return };
    let outcome = bench.act(&["fill", "result", "1"]);
    assert_eq!(fs::metadata(outcome.work.join("result")).unwrap().len(), 1 << 20);
    for scratch in ["/tmp/a", "/tmp/home/a", "/dev/shm/a", "/var/tmp/a", "/run/lock/a", "/run/user/1000/a"] {
        assert_eq!(bench.act(&["fill", scratch, "1"]).ok(), "fill 0\n", "{scratch}");
    }
}

#[test]
fn a_program_that_is_not_there_is_not_started() {
    let Some(mut bench) = Bench::new() else { return };
    let mut spec = bench.spec(&[]);
    spec.program = "/bin/missing".into();
    match bench.run(&spec).exit.ended {
        Ended::NotStarted(why) => assert!(why.starts_with("can't execute '/bin/missing': "), "{why}"),
        other => panic!("{other:?}"),
    }
    let mut spec = bench.spec(&[]);
    spec.program = "/etc/app.conf".into();
    assert!(matches!(bench.run(&spec).exit.ended, Ended::NotStarted(_)));
}

#[test]
fn what_it_used_is_told() {
    let Some(mut bench) = Bench::new() else { return };
    let usage = bench.act(&["spin", "200"]).exit.usage;
    assert!((150..1_000).contains(&usage.cpu.as_millis()), "{usage:?}");
    assert!(usage.wall >= usage.cpu / 2, "{usage:?}");
    let usage = bench.act(&["eat", "64"]).exit.usage;
    assert!(usage.peak_memory.0 >= 64 << 20 && usage.peak_memory.0 < 128 << 20, "{usage:?}");
}

#[test]
fn sees_its_application_whatever_its_shape() {
    let Some(mut bench) = Bench::new() else { return };
    let tree = bench.tree();
    fs::write(tree.join("README"), "read me\n").unwrap();
    for ours in ["tmp", "work", "proc", "dev"] {
        fs::create_dir(tree.join(ours)).unwrap();
        fs::write(tree.join(ours).join("theirs"), "").unwrap();
    }
    assert_eq!(bench.act(&["show", "/README"]).ok(), "read me\n");
    assert_eq!(bench.act(&["show", "/etc/hosts"]).ok(), "127.0.0.1 localhost subjob\n::1 localhost\n");
    for ours in ["/tmp", "/work", "/proc", "/dev"] {
        assert!(!bench.act(&["list", ours]).ok().contains("theirs"), "{ours}");
    }
    // A tree that brings all that libraries need in /etc keeps its own.
    for name in ["passwd", "group", "hosts", "nsswitch.conf"] {
        fs::write(tree.join("etc").join(name), name).unwrap();
    }
    assert_eq!(bench.act(&["show", "/etc/passwd"]).ok(), "passwd");
    // And one that has no /etc at all gets ours.
    fs::remove_dir_all(tree.join("etc")).unwrap();
    assert_eq!(bench.act(&["show", "/etc/group"]).ok(), "root:x:0:\nsubjob:x:1000:\nnogroup:x:65534:\n");
}
