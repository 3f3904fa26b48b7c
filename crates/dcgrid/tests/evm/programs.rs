//! Programs that people run.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::bench::{Bench, have};

#[test]
fn a_command_prints_here_what_it_prints() {
    Bench::new().run(&["--", "echo", "a b", "{c}", "$HOME", "x\ny", "--json"]).check(
        0,
        "a b {c} $HOME x\ny --json\n",
        "",
    );
}

#[test]
fn a_shell_has_the_commands_of_its_text() {
    Bench::new().run(&["--", "sh", "-c", "seq 3 | sort -r | tr '\\n' ,"]).check(0, "3,2,1,", "");
}

#[test]
fn a_python_program_reads_and_writes() {
    if !have("/usr/bin/python3") {
        return;
    }
    let bench = Bench::new();
    bench.file("data/numbers", "1\n2\n3\n");
    bench.file("sum.py", "import sys\nprint(sum(map(int, open(sys.argv[1]))), file=open('sum', 'w'))\n");
    let args = [
        "-i",
        "sum.py",
        "-i",
        "data/numbers",
        "-o",
        "sum",
        "--",
        "/usr/bin/python3",
        "sum.py",
        "data/numbers",
    ];
    bench.run(&args).check(0, "", "");
    assert_eq!(bench.read("sum"), "6\n");
}

#[test]
fn a_search_finds_what_it_finds_without_a_sandbox() {
    let models = "/usr/share/doc/hmmer/examples/tutorial/globins4.hmm";
    let sequences = "/usr/share/doc/hmmer/examples/tutorial/globins45.fa";
    if !have("hmmsearch") || !have(models) || !have(sequences) {
        return;
    }
    let bench = Bench::new();
    bench.run(&[
        "-i",
        models,
        "-i",
        sequences,
        "-o",
        "hits.tbl",
        "--",
        "hmmsearch",
        "--cpu",
        "0",
        "--tblout",
        "hits.tbl",
        "globins4.hmm",
        "globins45.fa",
    ]);
    let plain = std::process::Command::new("hmmsearch")
        .args(["--cpu", "0", "--tblout", "plain.tbl", models, sequences])
        .current_dir(bench.path(""))
        .output()
        .expect("it can be started");
    assert!(plain.status.success());
    let hits =
        |name| bench.read(name).lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let (boxed, plain): (Vec<String>, Vec<String>) = (hits("hits.tbl"), hits("plain.tbl"));
    assert!(boxed.len() > 40 && boxed == plain, "{boxed:?}");
}

#[test]
fn its_environment_is_what_was_given() {
    let bench = Bench::new();
    let mut command = bench.command(&["run", "-e", "A=b=c", "-e", "EVM_TEST_OURS", "--", "env"]);
    let output =
        command.env("EVM_TEST_OURS", "1").env("EVM_TEST_OTHER", "2").output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\nA=b=c\n") && text.contains("\nEVM_TEST_OURS=1\n"), "{text}");
    assert!(!text.contains("EVM_TEST_OTHER") && !text.contains("XDG_CACHE_HOME"), "{text}");
}

#[test]
fn it_sees_nothing_of_this_machine() {
    let bench = Bench::new();
    let secret = bench.file("secret", "secret");
    let ran = bench.run(&["--", "cat", secret.to_str().expect("a path of text")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    bench.run(&["--", "sh", "-c", "pwd; echo *; id -u"]).check(0, "/work\n*\n1000\n", "");
}

#[test]
fn it_connects_to_what_was_allowed_and_to_nothing_else() {
    if !have("bash") {
        return;
    }
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it has one").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut word = [0; 5];
        stream.read_exact(&mut word).expect("a word");
        stream.write_all(b"hello ").and_then(|()| stream.write_all(&word)).expect("it is taken");
    });
    let text = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && printf world >&3 && cat <&3");
    let refused = bench.run(&["--", "bash", "-c", &text]);
    assert!(refused.code == Some(1) && refused.stdout.is_empty(), "{refused:?}");
    bench.run(&["--allow", &format!("127.0.0.1:{port}"), "--", "bash", "-c", &text]).check(
        0,
        "hello world",
        "",
    );
    server.join().expect("no panic");
}

#[test]
fn it_has_a_display_when_asked_for() {
    if !have("Xvfb") {
        return;
    }
    let bench = Bench::new();
    bench.run(&["--gui", "--", "sh", "-c", "echo $DISPLAY"]).check(0, ":0\n", "");
    bench.run(&["--", "sh", "-c", "echo ${DISPLAY-none}"]).check(0, "none\n", "");
}
