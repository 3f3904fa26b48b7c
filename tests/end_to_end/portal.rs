//! The portal loader and the VM Portal together, with real programs: who registers, and what is told of a crash.

use std::path::Path;
use std::process::Command;

use grid_tests::{Ran, binary, have, run};
use serde_json::Value;
use tempfile::TempDir;

/// A directory with a state of its own, in which programs are compiled and run.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        Desk { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Compiles `source` to `./NAME`; nothing, and says so, when that can't be done here.
    #[must_use]
    fn compile(&self, compiler: &[&str], name: &str, kind: &str, source: &str) -> Option<String> {
        let file = self.path().join(format!("{name}.{kind}"));
        std::fs::write(&file, source).expect("a file");
        let mut command = Command::new(compiler[0]);
        command.args(&compiler[1..]).arg("-o").arg(self.path().join(name)).arg(file);
        command.env("HOME", self.path()).env("GOCACHE", self.path().join("cache"));
        let done = command.output().is_ok_and(|output| output.status.success());
        if !done {
            println!("skipped: {} can't compile {name}.{kind}", compiler.join(" "));
        }
        done.then(|| format!("./{name}"))
    }

    /// Runs a command in a sandbox and gives its report, with what it wrote: to the standard error, all of it.
    fn evm(&self, include: &[&str], command: &[&str]) -> (Value, Ran) {
        let mut evm = Command::new(binary());
        evm.args(["--json", "evm", "run"]).env("HOME", self.path()).env("XDG_CACHE_HOME", self.path());
        evm.args(include.iter().flat_map(|what| ["--include", what])).arg("--").args(command);
        let ran = run(evm.current_dir(self.path()));
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("no report: {ran:?}"));
        (report, ran)
    }
}

const CRASHES: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pthread.h>
__attribute__((noinline)) void innermost(volatile int *at) { *at = 7; }
__attribute__((noinline)) int middle(void) { innermost((int *)0x1234); return 1; }
__attribute__((noinline)) int endless(int n) { char room[256]; memset(room, n, sizeof room); return endless(n + 1) + room[7]; }
static void *thread(void *unused) { middle(); return unused; }
int main(int count, char **words) {
    const char *how = words[count - 1];
    if (!strcmp(how, "fault")) return middle();
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "endless")) return endless(0);
    if (!strcmp(how, "nowhere")) ((void (*)(void))0x10)();
    if (!strcmp(how, "thread")) { pthread_t t; pthread_create(&t, 0, thread, 0); pthread_join(t, 0); }
    if (!strcmp(how, "child")) { if (fork() == 0) return middle(); sleep(2); return 3; }
    return 0;
}
"#;

const CC: &[&str] = &["cc", "-O1", "-fno-optimize-sibling-calls", "-w", "-pthread"];

/// Checks a crash: its signal, its address, and functions that must follow one another in its backtrace.
#[track_caller]
fn check(report: &Value, program: &str, signal: i32, address: Option<u64>, functions: &[&str]) {
    let crash = &report["crash"];
    assert_eq!(crash["program"], program, "{report}");
    assert_eq!(crash["signal"], signal, "{report}");
    assert_eq!(crash["address"].as_u64(), address, "{report}");
    let frames = crash["backtrace"].as_array().expect("a list").iter();
    let mut names = frames.map(|frame| frame.as_str().expect("text").split('+').next().unwrap_or_default());
    for function in functions {
        assert!(names.any(|name| name == *function), "no {function} in its place: {report}");
    }
}

#[test]
fn a_crash_is_told_with_the_names_of_functions() {
    let desk = Desk::new();
    for (name, flags) in [("dynamic", &[][..]), ("static", &["-static"][..]), ("fixed", &["-no-pie"][..])] {
        let Some(program) = desk.compile(&[CC, flags].concat(), name, "c", CRASHES) else { continue };
        let place = format!("/app/{name}");
        let crash = |how: &str| desk.evm(&[], &[&program, how]).0;
        let fault = crash("fault");
        assert_eq!((fault["signal"].as_i64(), fault["registered"].as_u64()), (Some(11), Some(1)), "{fault}");
        check(&fault, &place, 11, Some(0x1234), &["innermost", "middle", "main", "_start"]);
        check(&crash("abort"), &place, 6, None, &["abort", "main"]);
        check(&crash("nowhere"), &place, 11, Some(0x10), &["main", "_start"]);
        check(&crash("thread"), &place, 11, Some(0x1234), &["innermost", "middle", "thread"]);
        let child = crash("child");
        assert_eq!(child["code"], 3, "{child}");
        check(&child, &place, 11, Some(0x1234), &["innermost", "middle", "main"]);
        let endless = crash("endless");
        let address = endless["crash"]["address"].as_u64();
        check(&endless, &place, 11, address, &["endless", "endless", "endless"]);
        assert_eq!(endless["crash"]["backtrace"].as_array().map(Vec::len), Some(64), "{endless}");
    }
}

#[test]
fn an_uncaught_exception_of_cpp_is_told_with_where_it_was_thrown() {
    const SOURCE: &str = "#include <stdexcept>\n\
        namespace grid { void share(int n) { throw std::runtime_error(\"no share \" + std::to_string(n)); } }\n\
        int main() { grid::share(3); }\n";
    let desk = Desk::new();
    let Some(program) = desk.compile(&["c++"], "thrower", "cc", SOURCE) else { return };
    let (report, ran) = desk.evm(&[], &[&program]);
    check(&report, "/app/thrower", 6, None, &["abort", "std::terminate()", "grid::share(int)", "main"]);
    assert!(ran.stderr.contains("what():  no share 3"), "{ran:?}");
}

#[test]
fn exceptions_of_interpreters_are_on_the_standard_error() {
    let desk = Desk::new();
    if have(&["/usr/bin/python3"]) {
        let (report, ran) = desk.evm(&[], &["/usr/bin/python3", "-c", "import json; json.loads('{')"]);
        assert_eq!((&report["code"], &report["crash"]), (&1.into(), &Value::Null), "{report}");
        assert!(ran.stderr.contains("json.decoder.JSONDecodeError"), "{ran:?}");
        let fault = ["/usr/bin/python3", "-c", "import ctypes; ctypes.string_at(16)"];
        let python = std::fs::canonicalize("/usr/bin/python3").expect("it is there");
        let python = python.to_str().expect("its name is text");
        check(&desk.evm(&[], &fault).0, python, 11, Some(16), &["PyEval_EvalCode", "Py_RunMain", "_start"]);
    }
    if have(&["java"]) {
        let source =
            "public class Fail { public static void main(String[] a) { Object o = null; o.hashCode(); } }";
        std::fs::write(desk.path().join("Fail.java"), source).expect("a file");
        let (report, ran) = desk.evm(&["Fail.java"], &["java", "-Xmx128m", "/app/Fail.java"]);
        assert_eq!(report["code"], 1, "{report}");
        assert!(ran.stderr.contains("java.lang.NullPointerException"), "{ran:?}");
        assert!(report["registered"].as_u64() >= Some(1), "{report}");
    }
}

const GO_FAULT: &str = "package main\nfunc main() { var at *int; *at = 7 }\n";

#[test]
fn programs_with_handlers_of_their_own_keep_them() {
    let desk = Desk::new();
    let Some(program) = desk.compile(&["go", "build"], "fault", "go", GO_FAULT) else { return };
    let (report, ran) = desk.evm(&[], &[&program]);
    // Go makes a panic of it, and ends by itself.
    assert_eq!((&report["code"], &report["registered"]), (&2.into(), &1.into()), "{report}");
    assert!(ran.stderr.contains("invalid memory address or nil pointer dereference"), "{ran:?}");
}

#[test]
fn every_program_that_is_executed_registers() {
    let desk = Desk::new();
    let script = "for n in 1 2 3 4 5; do cat /dev/null | sort; done; perl -e 'print 1' > /dev/null";
    let (report, ran) = desk.evm(&["cat", "sort", "perl"], &["bash", "-c", script]);
    assert_eq!((&report["code"], &report["registered"]), (&0.into(), &12.into()), "{report} {ran:?}");
}

/// A program that tells the VM Portal what is not true, and as much of it as it can, for as long as one second.
const LIES: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un to = { AF_UNIX, "\0evm" };
    socklen_t length = sizeof(sa_family_t) + 4;
    int s = socket(AF_UNIX, SOCK_DGRAM, 0), mine = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (bind(mine, (struct sockaddr *)&to, length) == 0) puts("took the name");
    static unsigned long long frame[9000];
    unsigned long long sent = 0;
    frame[0] = 0x2314d5645ULL;
    time_t end = time(0) + 2;
    while (time(0) < end) {
        /* A crash whose lengths don't add up, one that is too long, a program that starts, noise. */
        frame[6] = sent * 2654435761u;
        sendto(s, frame, 25 * 8, MSG_DONTWAIT, (struct sockaddr *)&to, length);
        sendto(s, frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr *)&to, length);
        sendto(s, "EVM1", 4, MSG_DONTWAIT, (struct sockaddr *)&to, length);
        struct iovec part = { frame, 16 };
        char space[CMSG_SPACE(sizeof(int))] = { 0 };
        struct msghdr message = { &to, length, &part, 1, space, sizeof space, 0 };
        struct cmsghdr *control = CMSG_FIRSTHDR(&message);
        control->cmsg_level = SOL_SOCKET; control->cmsg_type = SCM_RIGHTS; control->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(control), &s, sizeof s);
        sendmsg(s, &message, MSG_DONTWAIT);
        sent++;
    }
    puts("done");
    return 0;
}
"#;

#[test]
fn lies_and_floods_neither_crash_nor_convince_the_vm_portal() {
    let desk = Desk::new();
    let Some(program) = desk.compile(CC, "lies", "c", LIES) else { return };
    let (report, ran) = desk.evm(&[], &[&program]);
    assert_eq!((&report["code"], &report["crash"]), (&0.into(), &Value::Null), "{report}");
    assert_eq!(ran.stderr, "done\n");
}
