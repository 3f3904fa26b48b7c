//! `--sealed`: what a program does is the same; what lies on the disk says nothing, and can't be changed unnoticed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};

use crate::bench::{Bench, Ran, skip};

/// Whether a file system in user space can be mounted; says so when it can't.
fn can_seal() -> bool {
    match std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => true,
        Err(error) => {
            skip(&format!("/dev/fuse can't be opened: {error}"));
            false
        }
    }
}

#[test]
fn inputs_and_outputs_are_as_without() {
    if !can_seal() {
        return;
    }
    let script =
        "tr a-z A-Z < in.txt > sub/out.txt; ln -s out.txt sub/link; chmod 755 tool; cat kept > copy; rm kept";
    let trees: Vec<Vec<(PathBuf, Vec<u8>)>> = [&[][..], &["--sealed"]]
        .into_iter()
        .map(|sealed| {
            let bench = Bench::new();
            bench.file("in.txt", "some text\n");
            bench.file("tree/sub/old", "old");
            bench.file("tree/kept", "kept");
            bench.file("tree/tool", "#!/bin/sh\n");
            let args = ["-i", "in.txt", "-o", "sub/out.txt", "--workdir", "tree", "--keep", "all"];
            let command = ["--", "sh", "-c", script];
            let ran = bench.run(&[sealed, &args, &command].concat());
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
            assert!(ran.stderr.contains("1 entries of /work are links"), "{ran:?}");
            assert_eq!(bench.read("sub/out.txt"), "SOME TEXT\n");
            files_below(&bench.path("all"))
        })
        .collect();
    assert_eq!(trees[0], trees[1]);
    let names: Vec<String> = trees[0].iter().map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(names, ["copy", "in.txt", "sub/old", "sub/out.txt", "tool"]);
}

fn files_below(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in std::fs::read_dir(&at).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(directory).expect("it is below").to_owned();
                found.push((name, std::fs::read(&path).expect("readable")));
            }
        }
    }
    found.sort();
    found
}

/// A program that has done the first half of its work and waits for a line.
struct Waiting {
    child: Child,
    go: Option<ChildStdin>,
}

impl Waiting {
    fn start(bench: &Bench, options: &[&str], first: &str, then: &str) -> Self {
        let script = format!("{first}; echo ready; read line; {then}");
        let args = [&["run"], options, &["--", "sh", "-c", &script]].concat();
        let mut command = bench.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let go = child.stdin.take();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.as_mut().expect("a pipe"));
        stdout.read_line(&mut line).expect("it says so");
        assert_eq!(line, "ready\n");
        Waiting { child, go }
    }

    fn finish(mut self) -> Ran {
        let mut go = self.go.take().expect("not used before");
        go.write_all(b"go\n").expect("it waits");
        drop(go);
        Ran::from(self.child.wait_with_output().expect("it ends"))
    }
}

/// Bytes of all files that a run keeps, joined.
fn on_disk(bench: &Bench) -> Vec<u8> {
    let files = files_below(&bench.cache().join("runs"));
    files
        .into_iter()
        .flat_map(|(path, bytes)| [path.into_os_string().into_encoded_bytes(), bytes].concat())
        .collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn what_lies_on_the_disk_says_nothing() {
    if !can_seal() {
        return;
    }
    let write = "yes canary-of-the-contents | head -n 999 > canary-of-the-names; sync";
    for (options, is_plain) in [(&["--sealed"][..], false), (&[], true)] {
        let bench = Bench::new();
        let waiting = Waiting::start(&bench, options, write, "cat canary-of-the-names | wc -l");
        let bytes = on_disk(&bench);
        assert!(bytes.len() > 4_096, "something lies there");
        assert_eq!(holds(&bytes, "canary-of-the-contents"), is_plain, "contents, {options:?}");
        assert_eq!(holds(&bytes, "canary-of-the-names"), is_plain, "names, {options:?}");
        waiting.finish().check(0, "999\n", "");
        bench.check_nothing_is_left();
    }
}

#[test]
fn what_somebody_changes_on_the_disk_is_noticed() {
    if !can_seal() {
        return;
    }
    let bench = Bench::new();
    let write = "head -c 40960 /dev/zero | tr '\\0' x > file; sync";
    // Past the kernel's cache, which has what was written.
    let read = "dd if=file iflag=direct bs=4096 status=none | wc -c; sleep 60";
    let waiting = Waiting::start(&bench, &["--sealed"], write, read);
    let stores: Vec<PathBuf> = std::fs::read_dir(bench.cache().join("runs"))
        .expect("a run")
        .flatten()
        .map(|run| run.path().join("store/data"))
        .filter(|data| data.exists())
        .collect();
    let [data] = &stores[..] else { panic!("one store: {stores:?}") };
    let data = std::fs::File::options().read(true).write(true).open(data).expect("ours");
    let mut byte = [0];
    data.read_exact_at(&mut byte, 20_000).expect("it is long enough");
    data.write_all_at(&[byte[0] ^ 1], 20_000).expect("written");
    let ran = waiting.finish();
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("evm: ended: somebody changed its files on the disk"), "{ran:?}");
    assert!(ran.stderr.contains("Input/output error"), "{ran:?}");
    // What comes before it is right, what comes after is not read.
    assert_eq!(ran.stdout, "16384\n");
}

#[test]
fn more_than_the_disk_limit_ends_the_program() {
    if !can_seal() {
        return;
    }
    let bench = Bench::new();
    // It does not look whether it could close its file.
    let script =
        "trap '' XFSZ; for n in 1 2 3 4 5 6; do head -c 3M /dev/zero > $n; done 2>/dev/null; sleep 60";
    let ran = bench.run(&["--sealed", "--disk", "10MiB", "--", "sh", "-c", script]);
    assert_eq!(ran.code, Some(124), "{ran:?}");
    assert!(ran.stderr.contains("evm: ended by a limit: --disk 10 MiB"), "{ran:?}");
}
