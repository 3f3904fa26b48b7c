//! Programs that reach for what is not theirs. Every refusal stands beside a harmless act that must succeed.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::SystemTime;

use sandbox::{Code, Ended};

use crate::harness::Bench;

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;
const EROFS: i32 = 30;
const ENOSYS: i32 = 38;
const ENOPROTOOPT: i32 = 92;
const EPROTONOSUPPORT: i32 = 93;
const EAFNOSUPPORT: i32 = 97;
const SIGSYS: i32 = 31;

/// What each act of `calls` must come to: the errno, or 0. For `int80`, the signal.
const CALLS: &[(&str, &[i32])] = &[
    ("mount", &[EPERM]),
    ("umount2", &[EPERM]),
    ("pivot_root", &[EPERM]),
    ("chroot", &[EPERM]),
    ("fsopen", &[EPERM]),
    ("open_tree", &[EPERM]),
    ("unshare_user", &[EPERM]),
    ("unshare_net", &[EPERM]),
    ("setns", &[EPERM]),
    ("clone_newuser", &[EPERM]),
    ("clone_newnet", &[EPERM]),
    ("clone3", &[ENOSYS]),
    ("io_uring_setup", &[ENOSYS]),
    ("memfd_secret", &[ENOSYS]),
    ("memfd_create", &[ENOSYS]),
    ("execveat_empty_path", &[ENOSYS]),
    ("openat2", &[ENOSYS]),
    ("seccomp", &[ENOSYS]),
    ("prctl_seccomp", &[EINVAL]),
    ("landlock_create_ruleset", &[ENOSYS]),
    ("io_setup", &[ENOSYS]),
    ("remap_file_pages", &[ENOSYS]),
    ("number_without_a_call", &[ENOSYS]),
    ("map_write_exec", &[EACCES]),
    ("map_exec", &[EACCES]),
    ("map_file_write_exec", &[EACCES]),
    ("protect_exec", &[EACCES]),
    ("pkey_protect_exec", &[EACCES]),
    ("attach_exec", &[EACCES]),
    ("huge_pages", &[ENOMEM]),
    ("merge_pages", &[EINVAL]),
    ("chmod_setuid", &[EPERM]),
    ("create_setgid", &[EPERM]),
    ("mknod_whiteout", &[EPERM]),
    ("rename_whiteout", &[EINVAL]),
    ("lease", &[EINVAL]),
    ("share_core", &[EINVAL]),
    ("hide_from_accounting", &[EINVAL]),
    ("bind_to_processor", &[EPERM]),
    ("x32_getpid", &[ENOSYS]),
    ("ptrace", &[EPERM]),
    ("portal_process_vm_readv", &[EPERM]),
    ("process_vm_writev", &[EPERM]),
    ("pidfd_getfd", &[EPERM]),
    ("kcmp", &[EPERM]),
    ("bpf", &[EPERM]),
    ("perf_event_open", &[EPERM]),
    ("userfaultfd", &[EPERM]),
    ("keyctl", &[EPERM]),
    ("add_key", &[EPERM]),
    ("kexec_load", &[EPERM]),
    ("init_module", &[EPERM]),
    ("reboot", &[EPERM]),
    ("swapon", &[EPERM]),
    ("acct", &[EPERM]),
    ("iopl", &[EPERM]),
    ("settimeofday", &[EPERM]),
    ("sethostname", &[EPERM]),
    ("open_by_handle_at", &[EPERM]),
    ("fanotify_init", &[EPERM]),
    ("quotactl", &[EPERM]),
    ("ioprio_set", &[EPERM]),
    ("tiocsti", &[ENOTTY]),
    ("tiocsti_high_bits", &[ENOTTY]),
    ("personality_read_implies_exec", &[EPERM]),
    ("socket_netlink", &[EAFNOSUPPORT]),
    ("socket_packet", &[EAFNOSUPPORT]),
    ("socket_vsock", &[EAFNOSUPPORT]),
    ("socket_alg", &[EAFNOSUPPORT]),
    ("socket_bluetooth", &[EAFNOSUPPORT]),
    ("socket_raw", &[EPERM]),
    ("socket_sctp", &[EPROTONOSUPPORT]),
    ("socket_filter", &[ENOPROTOOPT]),
    ("socket_tunnel", &[ENOPROTOOPT]),
    ("socket_upper_protocol", &[ENOPROTOOPT]),
    ("mknod_device", &[EPERM]),
    // Id 0 doesn't exist in the namespace.
    ("setuid_root", &[EPERM, EINVAL]),
    ("setgroups", &[EPERM]),
    ("renice", &[EPERM]),
    ("portal_priority", &[EPERM]),
    ("portal_limits", &[EPERM]),
    ("leave_idle_class", &[EPERM]),
    ("realtime_class", &[EPERM]),
    ("raise_limit", &[EPERM]),
    ("write_sysctl", &[EROFS, EACCES]),
    ("write_sysrq", &[EROFS, EACCES, ENOENT]),
    ("portal_memory", &[ENOENT, EACCES, EPERM]),
    ("portal_files", &[ENOENT, EACCES, EPERM]),
    ("portal_root", &[ENOENT, EACCES, EPERM]),
    ("int80", &[SIGSYS]),
    ("getpid", &[0]),
    ("process_vm_readv", &[0]),
    ("map_file_exec", &[0]),
    ("map_write", &[0]),
    ("protect_write", &[0]),
    ("attach", &[0]),
    ("dont_need_pages", &[0]),
    ("chmod", &[0]),
    ("rename", &[0]),
    ("lock", &[0]),
    ("name_thread", &[0]),
    ("keep_alive", &[0]),
    ("lower_priority", &[0]),
    ("sync", &[0]),
    ("lock_memory", &[0]),
    ("personality_ask", &[0]),
    ("socket_unix", &[0]),
    ("socket_inet", &[0]),
    ("socket_inet6", &[0]),
    ("mkfifo", &[0]),
    ("lower_limit", &[0]),
    ("read_sysctl", &[0]),
    ("fork", &[0]),
    ("pty", &[0]),
    ("ioctl_on_pty", &[0]),
];

#[test]
fn system_calls_that_no_program_needs() {
    let Some(mut bench) = Bench::new() else { return };
    let outcome = bench.act(&["calls"]);
    let found: BTreeMap<&str, i32> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.split_once(' ').map(|(name, errno)| (name, errno.parse().unwrap())))
        .collect();
    let wrong: Vec<_> = CALLS
        .iter()
        .filter(|(name, expect)| found.get(name).is_none_or(|errno| !expect.contains(errno)))
        .map(|(name, expect)| (name, expect, found.get(name)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{outcome:?}");
    assert_eq!(found.len(), CALLS.len());
}

#[test]
fn making_code_at_run_time() {
    let Some(mut bench) = Bench::new() else { return };
    assert_eq!(bench.act(&["compile"]).stdout, "compile 13\n");
    let mut spec = bench.spec(&["compile"]);
    spec.code = Code::Generated;
    assert_eq!(bench.run(&spec).ok(), "42\n");
}

#[test]
fn the_hosts_files() {
    let Some(mut bench) = Bench::new() else { return };
    for path in [
        "/root",
        "/home",
        "/etc/shadow",
        "/etc/machine-id",
        "/sys/kernel",
        "/sys/class/block",
        "/sys/fs",
        "/var/lib",
        "/../root",
    ] {
        assert_eq!(bench.act(&["read", path]).exit.ended, Ended::Code(1), "{path}");
    }
    let tree = bench.tree();
    assert_eq!(bench.act(&["read", tree.to_str().unwrap()]).exit.ended, Ended::Code(1));
    assert_eq!(bench.act(&["read", "/etc/app.conf"]).ok(), "/etc/app.conf 0\n");
    let listing = bench.act(&["list", "/"]).ok();
    let mut names: Vec<&str> = listing.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr", "var", "work"]);
    let listing = bench.act(&["list", "/dev"]).ok();
    let mut names: Vec<&str> = listing.lines().collect();
    names.sort_unstable();
    let expect = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
        "urandom", "zero",
    ];
    assert_eq!(names, expect);
}

#[test]
fn writing_into_the_application() {
    let Some(mut bench) = Bench::new() else { return };
    let before = snapshot(&bench.tree());
    for path in ["/a", "/usr/a", "/usr/bin/a", "/etc/a", "/dev/a", "/proc/a"] {
        assert_eq!(bench.act(&["create", path]).exit.ended, Ended::Code(1), "{path}");
    }
    for path in ["/usr/bin/act", "/etc/app.conf", "/etc/passwd", "/proc/self/exe"] {
        assert_eq!(bench.act(&["write", path]).exit.ended, Ended::Code(1), "{path}");
    }
    assert_eq!(snapshot(&bench.tree()), before);
    bench.act(&["create", "/work/a"]).ok();
    bench.act(&["write", "/dev/null"]).ok();
}

/// Every path below a directory with its size and times.
fn snapshot(directory: &std::path::Path) -> BTreeMap<std::path::PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (stat.len(), stat.modified().unwrap()));
    }
    found
}

#[test]
fn executing_what_it_wrote() {
    let Some(mut bench) = Bench::new() else { return };
    for path in ["/work/copy", "/tmp/copy", "/dev/shm/copy", "/tmp/home/copy"] {
        let outcome = bench.act(&["run_copy", path]);
        assert_eq!((outcome.exit.ended, outcome.stdout.as_str()), (Ended::Code(1), "execute 13\n"), "{path}");
    }
    assert_eq!(bench.act(&["hello"]).ok(), "hello\n");
}

#[test]
fn the_hosts_network() {
    let Some(mut bench) = Bench::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let outcome = bench.act(&["connect", &port]);
    // Refused by its own loopback, where nobody listens.
    assert_eq!((outcome.exit.ended, outcome.stdout.as_str()), (Ended::Code(1), "connect 111\n"));
    bench.act(&["talk"]).ok();
}

#[test]
fn the_hosts_abstract_sockets() {
    let Some(mut bench) = Bench::new() else { return };
    let name = bench.launcher.tag.clone();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    assert_eq!(bench.act(&["abstract", &name]).stdout, "connect 111\n");
}

#[test]
fn killing_everything_it_can() {
    let Some(mut bench) = Bench::new() else { return };
    assert_eq!(bench.act(&["killall"]).ok(), "sent\n");
}

#[test]
fn having_no_capability_and_a_filter() {
    let Some(mut bench) = Bench::new() else { return };
    let status = bench.act(&["show", "/proc/self/status"]).ok();
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} in\n{status}");
    }
}

#[test]
fn knowing_where_it_really_is() {
    let Some(mut bench) = Bench::new() else { return };
    assert!(bench.act(&["show", "/proc/self/cgroup"]).ok().lines().all(|line| line.ends_with(":/")));
    // Its own three lines of processes at most: nothing of the sandbox or the host.
    let listing = bench.act(&["list", "/proc"]).ok();
    let pids: Vec<u32> = listing.lines().filter_map(|name| name.parse().ok()).collect();
    assert_eq!(pids.len(), 1, "{pids:?}");
}
