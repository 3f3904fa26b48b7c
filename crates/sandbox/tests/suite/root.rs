//! The root directory of a subjob: what of it can be written, what executed, and what of the host it tells.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sandbox::{Code, Ended, Spec};

use crate::harness::{Bench, compile_program, has, skip};

const NOTHING: i32 = 0;
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EXDEV: i32 = 18;
const ETXTBSY: i32 = 26;
const EROFS: i32 = 30;

/// Everywhere that something can be written.
const WRITABLE: &[&str] = &[
    "/work",
    "/tmp",
    "/tmp/home",
    "/var/tmp",
    "/run/lock",
    "/run/user/1000",
    "/dev/shm",
    "/home",
    "/home/ann/sim",
];

/// A bench whose tree has a directory of the user's own, with a program in it.
fn bench() -> Option<Bench> {
    let bench = Bench::new()?;
    let own = bench.tree().join("home/ann/sim");
    fs::create_dir_all(&own).unwrap();
    compile_program(&own.join("sim"))?;
    fs::write(own.join("data"), "data\n").unwrap();
    for (file, mode) in [("sim", 0o555), ("data", 0o644)] {
        fs::set_permissions(own.join(file), Permissions::from_mode(mode)).unwrap();
    }
    Some(bench)
}

/// A spec that executes `program`, with both programs registered.
fn spec(bench: &mut Bench, program: &str, args: &[&str]) -> Spec {
    let mut spec = bench.spec(&[&["file"], args].concat());
    spec.program = program.into();
    spec.executables = vec!["/usr/bin/act".into(), "/home/ann/sim/sim".into()];
    spec
}

/// What an act comes to: its errno.
fn act(bench: &mut Bench, args: &[&str]) -> i32 {
    let spec = spec(bench, "/bin/act", args);
    errno(&bench.run(&spec).stdout)
}

#[track_caller]
fn errno(stdout: &str) -> i32 {
    stdout.trim_end().rsplit_once(' ').expect(stdout).1.parse().expect(stdout)
}

#[track_caller]
fn check(bench: &mut Bench, args: &[&str], expect: &[i32]) {
    let found = act(bench, args);
    assert!(expect.contains(&found), "{args:?}: {found}, not one of {expect:?}");
}

/// Whether the user's own directories can be written here; says so if not.
fn own_directories_are_writable() -> bool {
    let are = has("own directories");
    if !are {
        skip("the user's own directories are read-only on this machine");
    }
    are
}

#[test]
fn a_registered_file_stays_as_it_is() {
    let Some(mut bench) = bench() else { return };
    let before = snapshot(&bench.tree());
    for program in ["/usr/bin/act", "/bin/act", "/home/ann/sim/sim"] {
        let refused = [EROFS, EACCES, EPERM, EBUSY, ETXTBSY, EXDEV];
        for args in [
            &["append", program, "x"][..],
            &["open_write", program],
            &["truncate", program],
            &["rename", program, "/tmp/away"],
            &["replace", program],
            &["link", program, "/tmp/away"],
            &["unlink", program],
            &["chmod", program, "777"],
            &["touch", program],
            &["map_shared", program],
        ] {
            check(&mut bench, args, &refused);
        }
        for args in [&["map_private", program][..], &["map_exec", program], &["execute", program]] {
            check(&mut bench, args, &[NOTHING]);
        }
    }
    assert_eq!(snapshot(&bench.tree()), before);
}

#[test]
fn the_users_own_directories_can_be_written_and_nothing_reaches_the_disk() {
    let Some(mut bench) = bench() else { return };
    if !own_directories_are_writable() {
        return;
    }
    let before = snapshot(&bench.tree());
    for args in [
        &["append", "/home/ann/sim/data", "more\n"][..],
        &["create", "/home/ann/sim/result", "result\n"],
        &["mkdir", "/home/ann/new"],
        &["rename", "/home/ann/sim/data", "/home/ann/data"],
        &["link", "/home/ann/sim/data", "/home/ann/data"],
        &["unlink", "/home/ann/sim/data"],
        &["truncate", "/home/ann/sim/data"],
        &["chmod", "/home/ann/sim/data", "600"],
        &["map_shared", "/home/ann/sim/data"],
        &["symlink", "data", "/home/ann/sim/link"],
    ] {
        check(&mut bench, args, &[NOTHING]);
    }
    assert_eq!(snapshot(&bench.tree()), before);
    // What one subjob wrote is nowhere when the next one looks.
    check(&mut bench, &["show", "/home/ann/sim/result"], &[ENOENT]);
}

#[test]
fn what_was_written_is_seen() {
    let Some(mut bench) = bench() else { return };
    if !own_directories_are_writable() {
        return;
    }
    let mut spec = bench.spec(&["see_writes", "/home/ann/sim/data"]);
    spec.executables.push("/home/ann/sim/sim".into());
    assert_eq!(bench.run(&spec).ok(), "data\nmore\n");
}

#[test]
fn the_machines_directories_cannot_be_written() {
    let Some(mut bench) = bench() else { return };
    let before = snapshot(&bench.tree());
    for path in ["/a", "/usr/a", "/usr/bin/a", "/etc/a", "/var/a", "/run/a", "/dev/a", "/proc/a", "/sys/a"] {
        check(&mut bench, &["create", path, ""], &[EROFS, EACCES, ENOENT]);
    }
    check(&mut bench, &["append", "/etc/app.conf", "x"], &[EROFS, EACCES]);
    check(&mut bench, &["show", "/etc/app.conf"], &[NOTHING]);
    assert_eq!(snapshot(&bench.tree()), before);
}

#[test]
fn nothing_that_was_written_is_executed_or_mapped_executable() {
    let Some(mut bench) = bench() else { return };
    let own = has("own directories");
    for directory in WRITABLE.iter().filter(|path| own || !path.starts_with("/home")) {
        let copy = format!("{directory}/copy");
        check(&mut bench, &["map_copy", &copy], &[EPERM, EACCES]);
        let outcome = bench.act(&["run_copy", &copy]);
        assert_eq!((outcome.exit.ended, outcome.stdout.as_str()), (Ended::Code(1), "execute 13\n"), "{copy}");
        check(&mut bench, &["create", &copy, "data"], &[NOTHING]);
    }
}

#[test]
fn a_file_that_is_not_registered_is_not_executed() {
    let Some(mut bench) = bench() else { return };
    // Beside one that is, with the right to be executed, in a directory of the user's own.
    let other = bench.tree().join("home/ann/sim/other");
    compile_program(&other).unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(bench.tree().join("usr/share")).unwrap();
    fs::copy(&other, bench.tree().join("usr/share/other")).unwrap();
    for path in ["/home/ann/sim/other", "/usr/share/other"] {
        check(&mut bench, &["execute", path], &[EACCES]);
        check(&mut bench, &["map_exec", path], &[EPERM, EACCES]);
        check(&mut bench, &["map_private", path], &[NOTHING]);
    }
    for path in ["/home/ann/sim/sim", "/usr/bin/act"] {
        check(&mut bench, &["execute", path], &[NOTHING]);
    }
}

#[test]
fn programs_are_found_through_links() {
    let Some(mut bench) = bench() else { return };
    symlink("/home/ann/sim/sim", bench.tree().join("usr/bin/sim")).unwrap();
    symlink("usr/lib", bench.tree().join("lib")).unwrap();
    fs::create_dir_all(bench.tree().join("usr/lib/tool")).unwrap();
    fs::copy(bench.tree().join("usr/bin/act"), bench.tree().join("usr/lib/tool/act")).unwrap();
    let mut spec = spec(&mut bench, "/bin/sim", &["execute", "/lib/tool/act"]);
    spec.executables.push("/lib/tool/act".into());
    assert_eq!(bench.run(&spec).ok(), "done\nsay 0\n");
}

#[test]
fn links_of_the_tree_lead_nowhere_on_the_host() {
    let Some(mut bench) = bench() else { return };
    let secret = bench.directory.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::copy(bench.tree().join("usr/bin/act"), secret.join("act")).unwrap();
    fs::write(secret.join("file"), "secret\n").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o755)).unwrap();
    let secret = secret.to_str().unwrap().to_owned();
    let up = format!("/../../../../../..{secret}");
    let tree = bench.tree();
    // In the place of what we mount, of the machine's directories, and of the user's own.
    for (name, target) in [
        ("dev", "/"),
        ("proc", "/usr"),
        ("tmp", &secret),
        ("work", &up),
        ("var", &secret),
        ("run", &up),
        ("lib", &up),
        ("lib64", "/"),
        ("opt", &secret),
        ("app", &up),
        ("srv", "/proc/self/root"),
    ] {
        symlink(target, tree.join(name)).unwrap();
    }
    let mut run = |args: &[&str]| {
        let mut spec = spec(&mut bench, "/bin/act", args);
        let reach = ["/lib/act", "/lib64/act", "/opt/act", "/app/act", "/srv/act", "/var/act", "/usr/../act"];
        spec.executables.extend(reach.iter().take(6).map(PathBuf::from));
        bench.run(&spec)
    };
    for path in ["/lib/file", "/opt/file", "/app/file", "/tmp/file", "/var/file", "/run/file", &secret, &up] {
        let outcome = run(&["show", path]);
        assert_eq!(outcome.exit.ended, Ended::Code(1), "{path}: {outcome:?}");
        assert!(!outcome.stdout.contains("secret\n"), "{path}: {outcome:?}");
        assert_ne!(errno(&outcome.stdout), NOTHING, "{path}: {outcome:?}");
    }
    for path in ["/lib/act", "/opt/act", "/app/act"] {
        let outcome = run(&["execute", path]);
        assert_eq!(outcome.exit.ended, Ended::Code(1), "{path}: {outcome:?}");
    }
    // And our own places are what they should be.
    for path in ["/tmp/a", "/work/a", "/var/tmp/a", "/run/lock/a"] {
        let outcome = run(&["create", path, ""]);
        assert_eq!(outcome.exit.ended, Ended::Code(0), "{path}: {outcome:?}");
    }
    run(&["show", "/proc/self/status"]).ok();
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 2);
}

#[test]
fn mounts_do_not_tell_where_the_application_lies() {
    let Some(mut bench) = bench() else { return };
    if !has("overlay file system") {
        return skip("no overlays, without which each mount tells its place");
    }
    let host = bench.directory.path().to_str().unwrap().to_owned();
    for file in ["/proc/self/mountinfo", "/proc/self/mounts", "/proc/self/mountstats"] {
        let spec = spec(&mut bench, "/home/ann/sim/sim", &["show", file]);
        let shown = bench.run(&spec).ok();
        let telling: Vec<&str> = shown.lines().filter(|line| line.contains(&host)).collect();
        // The bind of the work directory tells its own.
        assert!(telling.iter().all(|line| line.contains(" /work ")), "{telling:#?}");
        assert!(shown.contains("overlay"), "{shown}");
    }
    let spec = spec(&mut bench, "/home/ann/sim/sim", &["show", "/proc/self/maps"]);
    let shown = bench.run(&spec).ok();
    assert!(shown.contains(" /home/ann/sim/sim\n") && !shown.contains(&host), "{shown}");
}

#[test]
fn every_mount_that_can_be_written_executes_nothing() {
    let Some(mut bench) = bench() else { return };
    let spec = spec(&mut bench, "/bin/act", &["show", "/proc/self/mountinfo"]);
    let shown = bench.run(&spec).ok();
    let lines = shown.lines().filter(|line| line.contains(" - "));
    for line in lines {
        let options: Vec<&str> = line.split(' ').nth(5).unwrap().split(',').collect();
        let has = |option| options.contains(&option);
        assert!(has("nosuid") && (has("noexec") || has("ro")), "{line}");
        assert!(has("nodev") || line.contains(" /dev") || line.contains(" /null "), "{line}");
    }
}

#[test]
fn code_is_not_made_unless_it_may_be() {
    let Some(mut bench) = bench() else { return };
    let mut spec = spec(&mut bench, "/bin/act", &["generate_code"]);
    spec.code = Code::Generated;
    assert_eq!(errno(&bench.run(&spec).stdout), NOTHING);
    if !has("fixed code") {
        return skip("the kernel can't refuse new code");
    }
    check(&mut bench, &["generate_code"], &[EACCES, EPERM]);
}

#[test]
fn its_own_memory_is_not_a_file_to_write() {
    let Some(mut bench) = bench() else { return };
    if !has("Landlock") {
        return skip("no Landlock");
    }
    check(&mut bench, &["write_text"], &[EACCES]);
    check(&mut bench, &["show", "/proc/self/comm"], &[NOTHING]);
}

#[test]
fn proc_tells_little_of_the_desktop() {
    let Some(mut bench) = bench() else { return };
    let mut show = |path: &str| bench.act(&["show", path]).ok();
    for path in ["interrupts", "softirqs", "vmstat", "diskstats", "partitions", "swaps", "cmdline", "modules"]
    {
        let path = format!("/proc/{path}");
        // Not every kernel has every file.
        assert!(!Path::new(&path).exists() || show(&path).is_empty(), "{path}");
    }
    assert_eq!(show("/proc/loadavg"), "0.00 0.00 0.00 1/1 1\n");
    let stat = show("/proc/stat");
    assert!(stat.contains("\nintr 0\n") && stat.starts_with("cpu 0 0 0 100 "), "{stat}");
    let processors = |text: &str| text.lines().filter(|line| line.starts_with("cpu")).count();
    assert_eq!(processors(&stat), processors(&fs::read_to_string("/proc/stat").unwrap()));
    // A subjob is never twice on the same machine.
    let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let (one, two) = (show("/proc/sys/kernel/random/boot_id"), show("/proc/sys/kernel/random/boot_id"));
    assert!(one != two && one != host && one.len() == host.len(), "{one} {two}");
    for path in ["cpuinfo", "meminfo", "self/status", "sys/kernel/pid_max", "version"] {
        assert_ne!(show(&format!("/proc/{path}")), "", "{path}");
    }
}

#[test]
fn the_machine_seems_to_be_up_for_a_day() {
    let Some(mut bench) = bench() else { return };
    if !Path::new("/proc/self/ns/time").exists() {
        return skip("no time namespaces");
    }
    let uptime = bench.act(&["show", "/proc/uptime"]).ok();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    assert!((86_400.0..90_000.0).contains(&seconds), "{uptime}");
}

#[test]
fn without_overlays_programs_run_and_nothing_else_does() {
    let Some(mut bench) = bench() else { return };
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skip(
            "only root can lay an overlay over the tree that the kernel makes no further overlay of",
        );
    }
    // Over the tree, for init alone: two overlays on top of one another, which is as many as there may be.
    let tree = bench.tree().to_str().unwrap().to_owned();
    let empty = bench.directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let mount = format!("mount -t overlay overlay -o lowerdir={}:{tree} {tree}", empty.display());
    let script = format!("{mount} && {mount} && exec \"$@\"");
    let init = bench.launcher.command.clone();
    let wrapped = ["unshare", "-m", "sh", "-c", &script, "sh"].map(Into::into);
    bench.launcher.command = wrapped.into_iter().chain(init).collect();

    let shown = spec(&mut bench, "/home/ann/sim/sim", &["show", "/proc/self/mountinfo"]);
    let shown = bench.run(&shown).ok();
    assert!(!shown.contains("lowerdir=added"), "{shown}");
    check(&mut bench, &["execute", "/home/ann/sim/sim"], &[NOTHING]);
    for path in ["/home/ann/sim/data", "/home/ann/sim/sim", "/usr/bin/act", "/etc/app.conf", "/etc/hosts"] {
        check(&mut bench, &["append", path, "x"], &[EROFS, EACCES]);
    }
    for path in ["/a", "/usr/a", "/home/ann/sim/a"] {
        check(&mut bench, &["create", path, ""], &[EROFS, EACCES]);
    }
    check(&mut bench, &["map_exec", "/etc/app.conf"], &[EPERM, EACCES]);
    for directory in ["/work", "/tmp", "/var/tmp", "/run/user/1000"] {
        let copy = format!("{directory}/copy");
        check(&mut bench, &["map_copy", &copy], &[EPERM, EACCES]);
        check(&mut bench, &["create", &copy, "data"], &[NOTHING]);
    }
}

/// Every path below a directory with what it holds and is.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (u32, u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let content = match stat.file_type() {
            kind if kind.is_dir() => {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                Vec::new()
            }
            kind if kind.is_file() => fs::read(&path).unwrap(),
            _ => Vec::new(),
        };
        found.insert(path, (stat.mode(), stat.uid(), stat.mtime(), stat.mtime_nsec(), content));
    }
    found
}
