//! Standard input, output and error: live, whole, exact, and closed early.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use crate::bench::Bench;

/// Bytes of every value, in no order.
fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn large_input_and_output_pass_unchanged() {
    let bench = Bench::new();
    let mut command = bench.command(&["run", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
    let mut stdin = child.stdin.take().expect("piped");
    let sent = noise(30_000_001);
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy));
    let mut found = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut found).expect("it can be read");
    writer.join().expect("no panic").expect("all is taken");
    assert_eq!(blake3::hash(&found), blake3::hash(&sent));
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn output_comes_as_it_is_written_and_input_as_it_comes() {
    let bench = Bench::new();
    let text = "while read -r line; do echo \"got $line\"; done";
    let mut command = bench.command(&["run", "--", "sh", "-c", text]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
    let mut stdin = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for word in ["one", "two"] {
        writeln!(stdin, "{word}").expect("it is taken");
        assert_eq!(lines.next().expect("an answer").expect("text"), format!("got {word}"));
    }
    drop(stdin);
    assert!(lines.next().is_none());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_reader_that_has_enough_ends_the_program_quietly() {
    let bench = Bench::new();
    let mut command = bench.command(&["run", "--", "yes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("text");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(141), ""));
    bench.check_nothing_is_left();
}

#[test]
fn a_program_that_has_enough_leaves_the_rest() {
    let bench = Bench::new();
    let mut command = bench.command(&["run", "--", "head", "-c", "3"]);
    // The writing end stays open: the run must end all the same.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"abcdef").expect("taken");
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
    assert_eq!((text.as_str(), child.wait().expect("it ends").code()), ("abc", Some(0)));
}

#[test]
fn the_two_streams_stay_apart_and_stdin_may_be_a_file() {
    let bench = Bench::new();
    bench.run(&["--", "sh", "-c", "echo out; echo err >&2"]).check(0, "out\n", "err\n");
    bench.file("input", "from a file\n");
    bench.run(&["--stdin", "input", "--", "cat"]).check(0, "from a file\n", "");
    bench.run(&["--", "cat"]).check(0, "", "");
}

#[test]
fn output_that_can_not_be_written_is_an_error() {
    if !std::path::Path::new("/dev/full").exists() {
        crate::bench::skip("there is no /dev/full");
        return;
    }
    let bench = Bench::new();
    let mut command = bench.command(&["run", "--", "echo", "x"]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it can be opened");
    let output = command.stdout(full).output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(125) && text.contains("can't write standard output"), "{text}");
    bench.check_nothing_is_left();
}
