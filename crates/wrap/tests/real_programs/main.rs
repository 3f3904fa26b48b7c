//! Unmodified Debian programs, wrapped and then run in a root directory that holds nothing but their manifest's
//! files, with /proc, /dev, /tmp, /work and the few files of /etc that the sandbox makes up.
//!
//! A program that is not installed, or a machine that gives no namespaces, makes a test print `skipped: reason`.
#![expect(clippy::unwrap_used, reason = "outside #[test] functions too, a test fails by panicking")]

mod client;
mod loader;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use protocol::manifest::Entry;
use wrap::{Request, WrapError, wrap};

use client::{Client, SEARCH_PATH, can_isolate, check, client, request, skipped};

#[test]
fn echo_is_small() {
    let wrapped = wrap(&request("/bin/echo", &[])).unwrap();
    assert!(wrapped.report.bytes.0 < 6 << 20, "{}", wrapped.report);
    let Some(client) = client("/bin/echo", &[]) else { return };
    check(&client.run(&["hi"]), "hi\n");
}

#[test]
fn hmmsearch_runs() {
    let Some(client) = client("hmmsearch", &[]) else { return };
    check(&client.run(&["-h"]), "search profile(s) against a sequence database");
}

#[test]
fn vina_runs() {
    let Some(client) = client("vina", &[]) else { return };
    check(&client.run(&["--version"]), "AutoDock Vina");
}

#[test]
fn lammps_runs_a_melt_with_its_mpi() {
    let Some(client) = client("lmp", &[]) else { return };
    check(&client.run(&["-h"]), "Large-scale Atomic/Molecular");
    client.write(
        "/work/in.melt",
        "units lj\natom_style atomic\nlattice fcc 0.8442\nregion box block 0 3 0 3 0 3\ncreate_box 1 box\n\
         create_atoms 1 box\nmass 1 1.0\nvelocity all create 3.0 87287\npair_style lj/cut 2.5\n\
         pair_coeff 1 1 1.0 1.0 2.5\nfix 1 all nve\nrun 20\n",
    );
    check(&client.run(&["-in", "/work/in.melt", "-log", "none"]), "Loop time of");
}

#[test]
fn povray_renders_a_scene_with_its_include_files() {
    let Some(client) = client("povray", &["deb:povray-includes"]) else { return };
    client.write(
        "/work/ball.pov",
        "#version 3.7;\n#include \"colors.inc\"\nglobal_settings { assumed_gamma 1 }\n\
         camera { location <0,0,-4> look_at 0 }\nlight_source { <5,5,-9> color White }\n\
         sphere { 0, 1 pigment { color Red } }\n",
    );
    let output = client.run(&["+I/work/ball.pov", "+O/work/ball.png", "+W40", "+H30", "-D"]);
    check(&output, "");
    assert!(client.read("/work/ball.png").starts_with(b"\x89PNG"));
}

#[test]
fn mafft_aligns_with_all_its_commands() {
    let Some(client) = client("mafft", &[]) else { return };
    client.write("/work/in.fasta", ">a\nMKVLAAGIVALLLA\n>b\nMKVLAGIVALLA\n>c\nMKVAAGIVLLLA\n");
    let output = client.run(&["--auto", "/work/in.fasta"]);
    check(&output, ">c\n");
    assert!(String::from_utf8_lossy(&output.stdout).contains('-'), "an alignment has gaps");
    let complaints = String::from_utf8_lossy(&output.stderr).contains("not found");
    assert!(!complaints, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn python_has_its_library() {
    let Some(client) = client("/usr/bin/python3", &[]) else { return };
    check(
        &client.run(&["-c", "import json,ctypes,ssl,sqlite3,random,multiprocessing; print(json.dumps([1]))"]),
        "[1]",
    );
    check(&client.run(&["-c", "import os; os.system('echo from a shell')"]), "from a shell");
}

#[test]
fn java_has_its_home() {
    let Some(client) = client("java", &[]) else { return };
    let output = client.run(&["-Xmx64m", "-version"]);
    check(&output, "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("OpenJDK"));
    let source = "public class Sum { public static void main(String[] a) { System.out.println(20 + 22); } }";
    client.write("/work/Sum.java", source);
    check(&client.run(&["-Xmx128m", "/work/Sum.java"]), "42");
}

#[test]
fn perl_has_its_modules() {
    let Some(client) = client("perl", &[]) else { return };
    check(
        &client.run(&["-e", "use strict; use List::Util 'sum'; use Math::BigInt; print sum(1,2), \"\\n\""]),
        "3\n",
    );
}

#[test]
fn a_program_of_the_user_s_own_runs_from_its_new_place() {
    let own = tempfile::tempdir().unwrap();
    fs::create_dir(own.path().join("bin")).unwrap();
    fs::copy("/usr/bin/sort", own.path().join("bin/my-sort")).unwrap();
    let script = "#!/bin/bash\nset -eu\nprintf '3\\n1\\n2\\n' | my-sort -r | sed 's/$/;/' | tr -d '\\n'\n";
    fs::write(own.path().join("run"), script).unwrap();
    fs::set_permissions(own.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    if !can_isolate() {
        return skipped("this machine gives no user, mount and pid namespaces");
    }
    let search_path = format!("{}/bin:{SEARCH_PATH}", own.path().display());
    let request =
        Request { base_dir: own.path().into(), search_path: search_path.into(), ..request("./run", &[]) };
    let wrapped = wrap(&request).unwrap();
    assert_eq!(wrapped.manifest.program, "/app/run");
    check(&Client::new(&wrapped).run(&[]), "3;2;1;");
}

/// The dynamic loader itself is the judge: whatever it loads for a program here must be in the application.
#[test]
fn the_closure_of_libraries_is_the_loader_s_own() {
    const PROGRAMS: usize = 40;
    let mut programs: Vec<_> = fs::read_dir("/usr/bin")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_elf(path))
        .collect();
    programs.sort();
    let step = programs.len().div_ceil(PROGRAMS);
    let mut compared = 0;
    for program in programs.iter().step_by(step) {
        let Ok(listed) = Command::new("ldd").arg(program).output() else {
            return skipped("ldd is not installed");
        };
        let listed = String::from_utf8(listed.stdout).unwrap();
        let wrapped = match wrap(&request(program.to_str().unwrap(), &[])) {
            Ok(wrapped) => wrapped,
            Err(WrapError::MissingLibraries { .. }) if listed.contains("not found") => continue,
            Err(WrapError::SetId { .. }) => continue,
            Err(error) => panic!("{}: {error}", program.display()),
        };
        for line in listed.lines().filter(|line| line.contains(" (0x") && !line.contains("linux-vdso")) {
            let path = line.rsplit("=> ").next().unwrap().split_whitespace().next().unwrap();
            let found = wrapped.manifest.resolve(path);
            assert!(
                matches!(found, Some((_, Entry::File { .. }))),
                "{}: {path} is {found:?}",
                program.display()
            );
            compared += 1;
        }
    }
    println!("{compared} libraries of {} programs", programs.len().div_ceil(step));
    assert!(compared > 0);
}

fn is_elf(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"))
}

#[test]
fn a_virtual_environment_of_python_keeps_its_modules() {
    // Not in /tmp: there the sandbox has its own, and the script below names its interpreter by its whole path.
    let own = tempfile::tempdir_in("/var/tmp").unwrap();
    let venv = own.path().join("env");
    let made = Command::new("/usr/bin/python3").args(["-m", "venv", "--without-pip"]).arg(&venv).output();
    if !made.is_ok_and(|output| output.status.success()) {
        return skipped("python3 with its module venv is not installed");
    }
    if !can_isolate() {
        return skipped("this machine gives no user, mount and pid namespaces");
    }
    let packages =
        fs::read_dir(venv.join("lib")).unwrap().next().unwrap().unwrap().path().join("site-packages");
    fs::write(packages.join("mine.py"), "def greet(): print('hello from a module')\n").unwrap();
    let script = format!("#!{}/bin/python3\nimport json, mine; mine.greet()\n", venv.display());
    fs::write(venv.join("bin/tool"), script).unwrap();
    fs::set_permissions(venv.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    let request = Request { base_dir: own.path().into(), ..request("env/bin/tool", &["env"]) };
    let wrapped = wrap(&request).unwrap();
    check(&Client::new(&wrapped).run(&[]), "hello from a module\n");
}

#[test]
fn commands_on_a_shell_s_command_line_come_along() {
    let text = "id -un; for f in *; do wc -l \"$f\"; done | sort";
    let request = Request { shell_text: Some(text.into()), ..request("sh", &[]) };
    let wrapped = wrap(&request).unwrap();
    for path in ["/usr/bin/id", "/usr/bin/wc", "/usr/bin/sort"] {
        assert!(wrapped.manifest.resolve(path).is_some(), "{path}");
    }
    assert!(wrapped.manifest.resolve("/usr/bin/ls").is_none());
}
