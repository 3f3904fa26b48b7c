//! The host as a hostile program would like to have it: secrets, listeners, a tree with files that look
//! writable. And a look at whether anything of it was touched.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use sandbox::Spec;

use crate::harness::{Bench, Outcome};

pub(super) struct Host {
    bench: Bench,
    secret: PathBuf,
    tcp: TcpListener,
    udp: UdpSocket,
    abstract_socket: UnixListener,
    socket: UnixListener,
    before: BTreeMap<PathBuf, Seen>,
}

/// All that could show a change of a file, but for the time of the last reading.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    modified: (i64, i64),
    content: Vec<u8>,
}

impl Host {
    /// Nothing when the acts can't be compiled; says so.
    pub(super) fn new() -> Option<Host> {
        let bench = Bench::with_acts()?;
        let tree = bench.tree();
        lay_out(&tree);
        let at = |name: &str| bench.directory.path().join(name);
        fs::set_permissions(bench.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Open to everybody, so that only the sandbox keeps it.
        fs::write(at("secret"), "secret").unwrap();
        fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o666)).unwrap();
        let name = SocketAddr::from_abstract_name(&bench.launcher.tag).unwrap();
        let host = Host {
            secret: at("secret"),
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            abstract_socket: UnixListener::bind_addr(&name).unwrap(),
            socket: UnixListener::bind(at("socket")).unwrap(),
            before: look(&[&tree, &at("secret")]),
            bench,
        };
        host.udp.set_nonblocking(true).unwrap();
        host.tcp.set_nonblocking(true).unwrap();
        host.abstract_socket.set_nonblocking(true).unwrap();
        host.socket.set_nonblocking(true).unwrap();
        Some(host)
    }

    /// A spec that tells the program where on the host to look.
    pub(super) fn spec(&mut self, args: &[&str]) -> Spec {
        let mut spec = self.bench.spec(args);
        let at = |name: &str| self.bench.directory.path().join(name);
        spec.env = [
            ("HOST_SECRET", self.secret.clone().into()),
            ("HOST_TREE", self.bench.tree().into()),
            ("HOST_MARK", self.bench.directory.path().file_name().unwrap().to_owned()),
            ("HOST_PORT", self.tcp.local_addr().unwrap().port().to_string().into()),
            ("HOST_UDP_PORT", self.udp.local_addr().unwrap().port().to_string().into()),
            ("HOST_ABSTRACT", self.bench.launcher.tag.clone().into()),
            ("HOST_SOCKET", at("socket").into()),
            ("HOST_PID", std::process::id().to_string().into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
        spec
    }

    /// What marks the processes of this test in the host's list of them.
    pub(super) fn tag(&self) -> String {
        self.bench.launcher.tag.clone()
    }

    pub(super) fn run(&self, spec: &Spec) -> Outcome {
        self.bench.run(spec)
    }

    /// What a program in a sandbox has done to the host: nothing, if all is well.
    pub(super) fn harm(&self) -> Vec<String> {
        let mut harm = Vec::new();
        let now = look(&[&self.bench.tree(), &self.secret]);
        for path in self.before.keys().chain(now.keys()) {
            if self.before.get(path) != now.get(path) {
                harm.push(format!("the host's {} was changed", path.display()));
            }
        }
        let was_reached = [
            ("TCP port", self.tcp.accept().is_ok()),
            ("UDP port", self.udp.recv(&mut [0; 16]).is_ok()),
            ("abstract socket", self.abstract_socket.accept().is_ok()),
            ("socket", self.socket.accept().is_ok()),
        ];
        harm.extend(
            was_reached
                .iter()
                .filter(|(_, was)| *was)
                .map(|(what, _)| format!("the host's {what} was reached")),
        );
        let processes = self.bench.processes();
        harm.extend(processes.iter().map(|pid| format!("process {pid} is left")));
        let groups = self.bench.control_groups();
        harm.extend(groups.iter().map(|path| format!("control group {} is left", path.display())));
        harm
    }
}

/// What the application tree has besides the program: files that anybody may write, as far as their modes go, and
/// programs that nobody registered or that would give rights away.
fn lay_out(tree: &Path) {
    let program = tree.join("usr/bin/act");
    for open in ["usr/share/open", "data/open"].map(|path| tree.join(path)) {
        fs::create_dir_all(open.join("deep")).unwrap();
        for name in ["file", "doomed", "old", "mapped", "before", "deep/file"] {
            fs::write(open.join(name), name).unwrap();
            fs::set_permissions(open.join(name), fs::Permissions::from_mode(0o666)).unwrap();
        }
        fs::copy(&program, open.join("unregistered")).unwrap();
        for name in ["", "deep", "unregistered"] {
            fs::set_permissions(open.join(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
    }
    for (name, mode) in [("act-setuid", 0o4755), ("act-setgid", 0o2755)] {
        let copy = tree.join("usr/bin").join(name);
        fs::copy(&program, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Everything below some paths.
fn look(paths: &[&Path]) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    while let Some(path) = open.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let content = if stat.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let seen = Seen {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            links: stat.nlink(),
            modified: (stat.mtime(), stat.mtime_nsec()),
            content,
        };
        found.insert(path, seen);
    }
    found
}
