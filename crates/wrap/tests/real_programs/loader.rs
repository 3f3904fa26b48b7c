//! The portal loader before real programs: that it ran, that nobody can go around it by their own loader, and that
//! it does not disturb.

use std::fs;
use std::path::Path;
use std::process::Command;

use protocol::manifest::{Entry, FileKind};
use wrap::{Jit, Request, Warning, WrapError, Wrapped, wrap};

use crate::client::{Client, can_isolate, check, client, request, skipped};

/// Prints the mappings of its own process: the loader stays where it was put.
const MAPPED: &str = "/.evm/loader";

/// A program compiled for a test, or nothing when the compiler is not there or can't do it.
fn compiled(directory: &Path, compiler: &[&str], name: &str, source: &str) -> Option<String> {
    let path = directory.join(name);
    fs::write(&path, source).unwrap();
    let program = directory.join("program").to_str().unwrap().to_owned();
    let mut command = Command::new(compiler[0]);
    command.args(&compiler[1..]).arg("-o").arg(&program).arg(&path);
    command.env("HOME", directory).env("GOCACHE", directory.join("cache")).env("GOFLAGS", "-mod=mod");
    let done = command.output().is_ok_and(|output| output.status.success());
    if !done {
        skipped(&format!("{} can't compile {name}", compiler.join(" ")));
    }
    done.then_some(program)
}

const C: &str = r#"
#include <stdio.h>
int main(void) {
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) fputs(line, stdout);
    return 0;
}
"#;

const GO: &str = r#"
package main
import ("fmt"; "os")
func main() { maps, _ := os.ReadFile("/proc/self/maps"); fmt.Print(string(maps)) }
"#;

/// Compiles, wraps and runs a program that prints its mappings.
fn runs_behind_the_loader(compiler: &[&str], name: &str, source: &str) {
    if !can_isolate() {
        return skipped("this machine gives no user, mount and pid namespaces");
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = compiled(directory.path(), compiler, name, source) else { return };
    let wrapped = wrap(&request(&program, &[])).unwrap();
    assert!(wrapped.report.warnings.is_empty(), "{:?}", wrapped.report.warnings);
    check(&Client::new(&wrapped).run(&[]), MAPPED);
}

#[test]
fn it_runs_before_programs_of_every_make() {
    runs_behind_the_loader(&["cc"], "dynamic.c", C);
    runs_behind_the_loader(&["cc", "-no-pie"], "fixed.c", C);
    runs_behind_the_loader(&["cc", "-static"], "static.c", C);
    runs_behind_the_loader(&["cc", "-static-pie"], "static_pie.c", C);
    runs_behind_the_loader(&["cc", "-static", "-Wl,--build-id=none", "-s"], "bare.c", C);
}

#[test]
fn it_runs_before_go() {
    runs_behind_the_loader(&["go", "build"], "plain.go", GO);
    runs_behind_the_loader(&["go", "build", "-buildmode=pie"], "pie.go", GO);
    runs_behind_the_loader(&["go", "build", "-ldflags=-s -w"], "stripped.go", GO);
}

#[test]
fn it_runs_before_rust_with_musl() {
    const RUST: &str = "fn main() { print!(\"{}\", std::fs::read_to_string(\"/proc/self/maps\").unwrap()); }";
    runs_behind_the_loader(&["rustc"], "plain.rs", RUST);
    runs_behind_the_loader(&["rustc", "--target", "x86_64-unknown-linux-musl"], "musl.rs", RUST);
}

#[test]
fn it_runs_before_interpreters_and_their_children() {
    if let Some(client) = client("/usr/bin/python3", &[]) {
        check(&client.run(&["-c", "print(open('/proc/self/maps').read())"]), MAPPED);
        let child = "import subprocess; print(subprocess.check_output(['cat', '/proc/self/maps']).decode())";
        let wrapped = wrap(&request("/usr/bin/python3", &["cat"])).unwrap();
        check(&Client::new(&wrapped).run(&["-c", child]), MAPPED);
    }
    if let Some(client) = client("perl", &[]) {
        check(&client.run(&["-e", "open(my $f, '<', '/proc/self/maps'); print <$f>"]), MAPPED);
    }
    if let Some(client) = client("bash", &["cat"]) {
        check(&client.run(&["-c", "cat /proc/$$/maps"]), MAPPED);
    }
}

/// The kernel's word on whether new code is refused: bit 0 of `prctl(PR_GET_MDWE)`.
fn refuses_new_code(wrapped: &Wrapped) -> bool {
    let script = "import ctypes; print('MDWE', ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) & 1)";
    let output = Client::new(wrapped).run(&["-c", script]);
    check(&output, "MDWE ");
    String::from_utf8_lossy(&output.stdout).contains("MDWE 1")
}

#[test]
fn programs_that_make_no_code_can_not_do_so() {
    let Some(_) = client("/usr/bin/python3", &[]) else { return };
    let wrapped = |jit| wrap(&Request { jit, ..request("/usr/bin/python3", &[]) }).unwrap();
    if !refuses_new_code(&wrapped(Jit::Auto)) {
        return skipped("this kernel has no PR_SET_MDWE that a child does not inherit");
    }
    assert!(!refuses_new_code(&wrapped(Jit::On)));
}

/// `(program, include, whether it is marked)`.
#[test]
fn who_makes_code_is_known_by_its_engine() {
    for (program, include, expect) in [
        ("java", &[][..], true),
        ("/usr/bin/python3", &["deb:python3-numpy"][..], false),
        ("hmmsearch", &[][..], false),
        ("lmp", &[][..], false),
        ("mafft", &[][..], false),
        ("povray", &[][..], false),
    ] {
        let wrapped = match wrap(&request(program, include)) {
            Ok(wrapped) => wrapped,
            Err(error @ (WrapError::UnknownProgram { .. } | WrapError::UnknownPackage { .. })) => {
                skipped(&error.to_string());
                continue;
            }
            Err(error) => panic!("{program}: {error}"),
        };
        let resolved = wrapped.manifest.resolve(&wrapped.manifest.program);
        let Some((place, Entry::File { kind, .. })) = resolved else { panic!("{program}: {resolved:?}") };
        assert_eq!(*kind == FileKind::JitProgram, expect, "{place}: {:?}", wrapped.report.jit);
    }
}

#[test]
fn neither_a_loader_nor_a_library_can_be_started() {
    let Some(client) = client("bash", &["cat"]) else { return };
    for loader in ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"] {
        let output = client.run(&["-c", &format!("{loader} /usr/bin/cat /proc/self/maps")]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(126), "{stderr}");
        assert!(stderr.contains("Permission denied"), "{stderr}");
    }
    let output = client.run(&["-c", "/.evm/loader /usr/bin/cat"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("portal loader: it is started by the kernel"));
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let script = "trap '' ABRT; exec perl -e 'kill ABRT => $$; print \"still here\\n\"'";
    let Some(client) = client("bash", &["perl"]) else { return };
    check(&client.run(&["-c", script]), "still here\n");
}

#[test]
fn a_crash_ends_a_process_by_the_signal_that_it_was() {
    let Some(client) = client("bash", &["perl"]) else { return };
    // Perl itself ignores SIGFPE.
    for (signal, number) in [("SEGV", 139), ("ABRT", 134), ("BUS", 135), ("ILL", 132)] {
        let script = format!("perl -e 'kill {signal} => $$; sleep 1'; echo ended by $?");
        check(&client.run(&["-c", &script]), &format!("ended by {number}\n"));
    }
}

#[test]
fn a_program_with_an_executable_stack_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let compiler = ["cc", "-z", "execstack"];
    let Some(program) = compiled(directory.path(), &compiler, "stack.c", C) else { return };
    let error = wrap(&request(&program, &[])).unwrap_err();
    assert!(error.to_string().contains("executable stack"), "{error}");
    let allowed = wrap(&Request { jit: Jit::On, ..request(&program, &[]) }).unwrap();
    let left_out = |warning: &Warning| matches!(warning, Warning::NotRegistered { .. });
    assert!(!allowed.report.warnings.iter().any(left_out));
}
