//! Requests that wait for the throttle, are interrupted, or will never be answered.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Resource, Rlimit};
use sandbox_fs::fuse::{Opcode, SessionOptions};
use sandbox_fs::operations::Time;
use sandbox_fs::{Entry, EntryKind, Rate, Source, SourceError};
use tempfile::TempDir;

use crate::harness::{Mount, has, serve, skip};
use crate::sealed;

const FILE: usize = 64 << 10;

/// Bytes per second at which the file takes the better part of a second, after what may be moved at once.
const SLOW: Option<u64> = Some(4 * FILE as u64);
const LEAST: Duration = Duration::from_millis(150);

/// At which it takes an hour.
const FOREVER: Option<u64> = Some(FILE as u64 / 3600);

/// With one thread only, which must never wait.
fn mount(rate: Rate) -> Option<Mount> {
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    let mount = Mount::paced(rate, options)?;
    fs::write(mount.at("file"), vec![7; FILE]).unwrap();
    Some(mount)
}

fn read_directly(mount: &Mount) -> Vec<u8> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(mount.at("file")).unwrap();
    let mut data = Vec::new();
    file.read_to_end(&mut data).unwrap();
    data
}

#[test]
fn a_throttled_read_waits_and_nobody_else() {
    let Some(mut mount) = mount(Rate { read: SLOW, write: None }) else { return };
    let begin = Instant::now();
    let requests = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_directly(&mount));
        let mut requests = 0;
        while !reader.is_finished() {
            // A request, because the name is new.
            assert!(!fs::exists(mount.at(&requests.to_string())).unwrap());
            requests += 1;
        }
        assert!(reader.join().unwrap() == vec![7; FILE]);
        requests
    });
    assert!(begin.elapsed() >= LEAST);
    assert!(requests > 20, "{requests} look-ups while a read waited");
    mount.end();
}

#[test]
fn a_throttled_write_is_answered_late() {
    let Some(mut mount) = mount(Rate { read: None, write: SLOW }) else { return };
    let begin = Instant::now();
    let mut file = File::create(mount.at("new")).unwrap();
    file.write_all(&[7; FILE]).unwrap();
    assert!(begin.elapsed() < LEAST, "write(2) itself goes to the cache");
    file.sync_all().unwrap();
    assert!(begin.elapsed() >= LEAST);
    drop(file);
    mount.end();
}

#[test]
fn a_reader_that_waits_can_be_killed() {
    if !has("dd") {
        return;
    }
    let Some(mut mount) = mount(Rate { read: FOREVER, write: None }) else { return };
    let read = |signal| {
        let reads = || mount.count(Opcode::Read);
        let before = reads();
        let mut reader = Command::new("dd")
            .args(["if=file", "iflag=direct", "of=/dev/null", "bs=64k"])
            .current_dir(mount.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while reads() == before {
            std::thread::yield_now();
        }
        let process = rustix::process::Pid::from_child(&reader);
        rustix::process::kill_process(process, signal).unwrap();
        assert_eq!(reader.wait().unwrap().signal(), Some(signal.as_raw()));
    };
    read(rustix::process::Signal::KILL);
    read(rustix::process::Signal::TERM);
    mount.end();
}

#[test]
fn a_mount_ends_while_a_request_waits() {
    if !has("cat") {
        return;
    }
    let Some(mut mount) = mount(Rate { read: FOREVER, write: None }) else { return };
    // So that reading asks again.
    let drop_pages =
        || rustix::fs::fadvise(File::open(mount.at("file")).unwrap(), 0, None, rustix::fs::Advice::DontNeed);
    drop_pages().unwrap();
    let before = mount.count(Opcode::Read);
    let mut reader = Command::new("cat").arg(mount.at("file")).stdout(Stdio::null()).spawn().unwrap();
    while mount.count(Opcode::Read) == before {
        std::thread::yield_now();
    }
    reader.kill().unwrap();
    reader.wait().unwrap();
    mount.end();
}

/// Where the process mounts that is to abort.
const DIRECTORY: &str = "SANDBOX_FS_TEST_PANIC";

const SERVING: &str = "the mount is served";

#[test]
fn a_panic_leaves_nobody_waiting() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return serve_with_a_bug(directory.as_ref());
    }
    let directory = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["waiting::a_panic_leaves_nobody_waiting", "--exact", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if !lines.any(|line| line.unwrap().contains(SERVING)) {
        child.wait().unwrap();
        return skip("no mount in the child");
    }
    let read = fs::read(directory.path().join("file")).unwrap_err();
    let status = child.wait().unwrap();
    let after = fs::read_dir(directory.path()).map(|_| ()).unwrap_err();
    rustix::mount::unmount(directory.path(), UnmountFlags::DETACH).unwrap();
    assert_eq!(status.signal(), Some(rustix::process::Signal::ABORT.as_raw()));
    let aborted = [Errno::CONNABORTED, Errno::NOTCONN, Errno::IO].map(|error| Some(error.raw_os_error()));
    assert!(aborted.contains(&read.raw_os_error()), "{read}");
    assert_eq!(after.raw_os_error(), Some(Errno::NOTCONN.raw_os_error()));
}

/// Contents of a file of a lower layer that can't be read without a panic.
#[derive(Debug)]
struct Bug;

impl Source for Bug {
    fn size(&self) -> u64 {
        100
    }

    fn read(&self, _offset: u64, _buffer: &mut [u8]) -> Result<(), SourceError> {
        panic!("as if a bug were there");
    }

    fn identity(&self) -> [u8; 32] {
        [0; 32]
    }
}

fn serve_with_a_bug(directory: &Path) {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).unwrap();
    let store = TempDir::new().unwrap();
    let files = sealed::files(store.path(), Rate::default());
    let kind = EntryKind::File(Arc::new(Bug));
    let entry = Entry { path: "file".into(), mode: 0o644, modified: Time::default(), kind };
    files.add_layer([entry], (0, 0)).unwrap();
    // The process ends without clearing up.
    store.close().unwrap();
    let Some(session) = serve(directory, Arc::new(files), SessionOptions::default()) else { return };
    println!("{SERVING}");
    session.join().unwrap();
}
