//! A client without any of the programs, and what the tests say when one can't be had.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use protocol::manifest::{Entry, Manifest};
use wrap::{Request, WrapError, Wrapped, wrap};

pub const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A client without any of the programs: a directory filled from a manifest.
pub struct Client {
    pub root: tempfile::TempDir,
    program: String,
}

impl Client {
    pub fn new(wrapped: &Wrapped) -> Self {
        let manifest = Manifest::decode(&wrapped.manifest.encode()).unwrap();
        let root = tempfile::tempdir().unwrap();
        for (path, entry) in &manifest.entries {
            let path = below(root.path(), path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match entry {
                Entry::Directory => fs::create_dir_all(&path).unwrap(),
                Entry::Symlink { target } => symlink(target, &path).unwrap(),
                Entry::File { hash, size, kind } => {
                    wrapped.sources[hash].copy_to(&path).unwrap();
                    assert_eq!(path.metadata().unwrap().len(), *size, "{}", path.display());
                    fs::set_permissions(&path, fs::Permissions::from_mode(kind.mode())).unwrap();
                }
            }
        }
        for directory in ["proc", "dev", "tmp", "work", "etc"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for (path, content) in [
            ("etc/passwd", "worker:x:0:0::/work:/bin/sh\n"),
            ("etc/group", "worker:x:0:\n"),
            ("etc/hosts", "127.0.0.1 localhost\n"),
            ("etc/nsswitch.conf", "passwd: files\nhosts: files\n"),
        ] {
            fs::write(root.path().join(path), content).unwrap();
        }
        for device in ["null", "zero", "urandom", "random"] {
            fs::write(root.path().join("dev").join(device), "").unwrap();
        }
        Client { root, program: manifest.program }
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(below(self.root.path(), path), content).unwrap();
    }

    pub fn read(&self, path: &str) -> Vec<u8> {
        fs::read(below(self.root.path(), path)).unwrap()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        // A mount namespace of its own: the mounts end with the process. The shell, mount and chroot are the
        // host's; from chroot on, nothing of the host is left.
        const SETUP: &str = r#"
            root=$1; shift
            mount -t proc proc "$root/proc" || exit 125
            for device in null zero urandom random; do
                mount --bind "/dev/$device" "$root/dev/$device" || exit 125
            done
            exec chroot "$root" "$@"
        "#;
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", SETUP, "sh"])
            .arg(self.root.path())
            .arg(&self.program)
            .args(arguments)
            .env_clear()
            .envs([
                ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
                ("HOME", "/work"),
                ("TMPDIR", "/tmp"),
            ])
            .current_dir("/");
        unshare.output().unwrap()
    }
}

pub fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Says on the terminal why a test did not test anything; the test runner counts these lines.
pub fn skipped(reason: &str) {
    eprintln!("skipped: {reason}");
}

pub fn can_isolate() -> bool {
    let probe = [
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--net",
        "--fork",
        "mount",
        "-t",
        "proc",
        "proc",
        "/proc",
    ];
    Command::new("unshare").args(probe).output().is_ok_and(|output| output.status.success())
}

pub fn request(program: &str, include: &[&str]) -> Request {
    Request {
        program: program.into(),
        include: include.iter().map(|what| (*what).to_owned()).collect(),
        shell_text: None,
        base_dir: "/".into(),
        search_path: SEARCH_PATH.into(),
        jit: wrap::Jit::Auto,
        display: wrap::Display::None,
    }
}

/// Wraps `program` and sets up a client with it, or says why that can't be done here.
pub fn client(program: &str, include: &[&str]) -> Option<Client> {
    if !can_isolate() {
        skipped("this machine gives no user, mount and pid namespaces");
        return None;
    }
    let start = Instant::now();
    match wrap(&request(program, include)) {
        Err(WrapError::UnknownProgram { name, .. } | WrapError::UnknownPackage { name, .. }) => {
            skipped(&format!("{name} is not installed"));
            None
        }
        Err(error) => panic!("{error}"),
        Ok(wrapped) => {
            println!("{program}: {} in {:?}", wrapped.report, start.elapsed());
            for (origin, (count, size)) in wrapped.report.by_origin() {
                println!("  {origin}: {count} files, {size}");
            }
            for warning in &wrapped.report.warnings {
                println!("  warning: {warning}");
            }
            Some(Client::new(&wrapped))
        }
    }
}

pub fn check(output: &Output, expect_in_stdout: &str) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains(expect_in_stdout), "{out}\n{err}");
}
