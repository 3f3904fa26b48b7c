//! Code that comes into a registered program by way of the dynamic loader.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::Ended;

use crate::harness::{Bench, skip};

/// Where the loader is that every dynamic program of this architecture names.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

const PROGRAM: &str = "/usr/bin/load";

/// A library that nobody registered, and one that somebody did.
const STRANGE: &str = "/data/strange.so";
const REGISTERED: &str = "/usr/lib/good.so";

/// A way to bring a library or program of one's own into a process.
#[derive(Debug)]
pub(super) struct Injection {
    pub number: u8,
    pub to: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
}

pub(super) const BARRIER: &str =
    "what nobody registered lies on noexec mounts, from which nothing is mapped as code";

const fn injection(
    number: u8,
    to: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
) -> Injection {
    Injection { number, to, program, args, env }
}

pub(super) const INJECTIONS: &[Injection] = &[
    injection(22, "load a library of its tree that nobody registered", PROGRAM, &[STRANGE], &[]),
    injection(
        22,
        "load a library that it wrote into /work",
        PROGRAM,
        &[STRANGE, "/work/a.so", "/work/a.so"],
        &[],
    ),
    injection(
        22,
        "load a library that it wrote into /tmp",
        PROGRAM,
        &[STRANGE, "/tmp/a.so", "/tmp/a.so"],
        &[],
    ),
    injection(
        22,
        "load one that it wrote into /dev/shm",
        PROGRAM,
        &[STRANGE, "/dev/shm/a.so", "/dev/shm/a.so"],
        &[],
    ),
    injection(22, "have one preloaded", PROGRAM, &[], &[("LD_PRELOAD", STRANGE)]),
    injection(22, "have one audit the loader", PROGRAM, &[], &[("LD_AUDIT", STRANGE)]),
    injection(
        22,
        "put one in the way of a registered library",
        PROGRAM,
        &["good.so"],
        &[("LD_LIBRARY_PATH", "/data")],
    ),
    injection(23, "have the loader start a program that nobody registered", LOADER, &["/data/strange"], &[]),
    injection(
        23,
        "have the loader start one that it wrote",
        LOADER,
        &[PROGRAM, STRANGE, "/work/b.so", "/work/b.so"],
        &[],
    ),
    injection(23, "have the loader preload a library", LOADER, &["--preload", STRANGE, PROGRAM], &[]),
    injection(23, "have the loader audit by a library", LOADER, &["--audit", STRANGE, PROGRAM], &[]),
    injection(
        23,
        "have the loader search a directory of its own",
        LOADER,
        &["--library-path", "/data", PROGRAM, "good.so"],
        &[],
    ),
];

/// A tree with a dynamic program and all that it needs. Nothing where it can't be made; says so.
fn bench() -> Option<Bench> {
    let bench = Bench::new()?;
    let tree = bench.tree();
    let Some(library) = own_c_library().filter(|_| Path::new(LOADER).exists()) else {
        skip("the C library is not one that is loaded as we know it");
        return None;
    };
    for file in [Path::new(LOADER), &library] {
        let to = tree.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir_all(tree.join("usr/lib")).unwrap();
    fs::create_dir_all(tree.join("data")).unwrap();
    let in_tree = |path: &str| tree.join(path.strip_prefix('/').unwrap());
    let made = compile("program.c", &in_tree(PROGRAM), &[])
        && compile("program.c", &in_tree("/data/strange"), &[])
        && compile("library.c", &in_tree(STRANGE), &["-shared", "-fPIC", "-DNAME=\"strange\""])
        && compile("library.c", &in_tree(REGISTERED), &["-shared", "-fPIC", "-DNAME=\"good\""]);
    if !made {
        skip("no C compiler that links dynamically");
        return None;
    }
    fs::copy(in_tree(STRANGE), in_tree("/data/good.so")).unwrap();
    Some(bench)
}

/// The C library that this process runs with.
fn own_c_library() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps
        .lines()
        .find_map(|line| line.split_whitespace().nth(5).filter(|path| path.ends_with("/libc.so.6")))?;
    Some(path.into())
}

fn compile(source: &str, to: &Path, options: &[&str]) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/dynamic").join(source);
    let mut command = Command::new("cc");
    command.arg("-w").args(options).arg("-o").arg(to).arg(source).arg("-ldl");
    command.status().is_ok_and(|status| status.success())
}

fn run(bench: &mut Bench, program: &str, args: &[&str], env: &[(&str, &str)]) -> (Ended, String) {
    let library = own_c_library().unwrap();
    let mut spec = bench.spec(args);
    spec.program = program.into();
    spec.executables = [LOADER, PROGRAM, REGISTERED].map(PathBuf::from).into();
    spec.executables.push(library);
    spec.env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let outcome = bench.run(&spec);
    (outcome.exit.ended, format!("{}{}", outcome.stdout, outcome.stderr))
}

#[test]
fn no_library_or_program_comes_in_by_the_loader() {
    let Some(mut bench) = bench() else { return };
    for Injection { program, args, env, to, .. } in INJECTIONS {
        let (ended, text) = run(&mut bench, program, args, env);
        assert!(!text.contains("strange runs"), "{to}: {text}");
        // It is the loader that refuses, not a sandbox in which nothing works.
        let is_told = text.contains("failed to map segment") || text.contains("cannot open shared object");
        assert!(is_told || text.contains("done"), "{to}: {ended:?} {text}");
    }
    for (program, args, env) in [
        (PROGRAM, &[REGISTERED][..], &[][..]),
        (PROGRAM, &["good.so"], &[]),
        (PROGRAM, &[], &[("LD_PRELOAD", REGISTERED)]),
        (LOADER, &["--preload", REGISTERED, PROGRAM], &[]),
    ] {
        let (ended, text) = run(&mut bench, program, args, env);
        assert!(ended == Ended::Code(0) && text.contains("code of good runs"), "{args:?} {env:?}: {text}");
        assert!(text.ends_with("done\n"), "{text}");
    }
}
