//! The server's own process: one for each subjob, outside of its sandbox.
//!
//! ```text
//! setup, keys, store ─► files ready ─► device of the mount ─► serves ─► unmounted ─► hands out what is left ─► end
//! ```
//! It has what it was handed and opens nothing else; what it holds in memory is neither swapped nor dumped; and it
//! ends when whoever started it lets go of the socket.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use zeroize::Zeroize as _;

use super::message::{
    self, Found, Layer, LayerEntry, LayerKind, Listed, MAX_READ, Reply, Report, Request, Setup, receive_file,
};
use super::source::{Late, Shelves};
use crate::files::{Files, FilesOptions};
use crate::fuse::{Session, SessionOptions, open_device};
use crate::layer::{Entry, EntryKind};
use crate::limits::Quota;
use crate::operations::{Attributes, Listing, Name, Operations as _, ROOT, Take};
use crate::seal::{StoreKey, Suite};
use crate::store::Store;
use crate::tree::{DIRECTORY, KIND, REGULAR, SYMLINK};

/// Nice value of the server: below what a person waits for, above the subjob, which waits for it.
const NICE: i32 = 10;

/// Bytes of a key.
const KEY: usize = 32;

/// What a program runs that was started with [`super::SERVER_ARGUMENT`]; it must not have started a thread. `confine`
/// takes away all that a process needs no more that only reads and writes what it has open. Failures
/// reach whoever started it through the socket; the exit code only tells a person who typed the command.
pub fn server_main(confine: fn() -> io::Result<()>) -> ExitCode {
    let Some(control) = take_control() else {
        eprintln!(
            "this command is started by the client, to serve a subjob's files; it does nothing by hand"
        );
        return ExitCode::from(2);
    };
    match serve(&control, confine) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody listens there is nobody to tell.
            let _ = message::write(&mut &control, &Reply::Failed { why: error.to_string() });
            ExitCode::FAILURE
        }
    }
}

/// The socket, which came as standard input.
fn take_control() -> Option<UnixStream> {
    let stdin = io::stdin();
    let stat = rustix::fs::fstat(&stdin).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return None;
    }
    let control: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&stdin, 3).ok()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null").ok()?).ok()?;
    Some(control.into())
}

fn serve(control: &UnixStream, confine: fn() -> io::Result<()>) -> io::Result<()> {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    // Before there is a key, and while we may lock as much as we like.
    step("keep its memory out of swap", keep_memory_out_of_swap())?;
    let setup: Setup = message::read(&mut &*control)?;
    let key = receive_key(control)?;
    let store = receive_file(control)?;
    let blobs = match setup.has_blobs {
        true => {
            let key = receive_key(control)?;
            Some((receive_file(control)?, key))
        }
        false => None,
    };
    let directories = (0..setup.directories).map(|_| receive_file(control)).collect::<io::Result<_>>()?;
    let mount = UnixStream::from(receive_file(control)?);
    // One for each thread; opened while we are still who may.
    let devices = (1..setup.threads).map(|_| open_device()).collect::<Result<Vec<_>, _>>();
    let devices = step("open /dev/fuse", devices)?;
    step("give up privileges", give_up_privileges(setup.run_as))?;
    step("bound its memory", bound_memory(setup.quota, setup.threads))?;

    let store = step("make the store", Store::create(store, key, Suite::best()))?;
    // Whose they are is known when they are mounted.
    let options = FilesOptions { owner: (0, 0), mode: 0o755, quota: setup.quota, rate: setup.rate };
    let files = Arc::new(Files::new(store, options));
    let shelves = Arc::new(Shelves { blobs, directories });
    for layer in setup.layers {
        step("lay out the files", files.add_layer(entries(layer, &shelves), (0, 0)))?;
    }
    step("close itself in", confine())?;
    message::write(&mut &*control, &Reply::Ready)?;
    let serving = serve_mount(mount, devices, Arc::clone(&files))?;
    answer(control, &files)?;
    // The subjob may still be there, and its mount with it: it ends as we do.
    drop(serving);
    Ok(())
}

/// A failure with what was tried and all that led to it, as somebody else is to read it.
fn step<T>(tried: &str, result: Result<T, impl Error>) -> io::Result<T> {
    result.map_err(|error| {
        let mut text = format!("can't {tried}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        io::Error::other(text)
    })
}

fn receive_key(control: &UnixStream) -> io::Result<StoreKey> {
    let mut bytes = [0; KEY];
    let read = (&*control).read_exact(&mut bytes);
    let key = read.and_then(|()| StoreKey::take(&mut bytes));
    bytes.zeroize();
    key
}

/// Gives up what the server doesn't need.
fn give_up_privileges(run_as: Option<u32>) -> io::Result<()> {
    rustix::process::nice(NICE)?;
    let files = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum })?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    if let Some(id) = run_as {
        let (user, group) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none)?;
    rustix::thread::set_no_new_privs(true)?;
    // After the ids, whose change forgets it.
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Requests and answers hold the subjob's data. An ordinary user may not lock as much as a process takes: then the keys
/// alone are kept out of swap, as [`StoreKey`] always does.
fn keep_memory_out_of_swap() -> io::Result<()> {
    let unlimited = Rlimit { current: None, maximum: None };
    match rustix::process::setrlimit(Resource::Memlock, unlimited) {
        Ok(()) => {
            let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
            Ok(rustix::mm::mlockall(all)?)
        }
        Err(Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Memory of a server besides what the subjob's files take of it, and for each thread, in bytes.
const OURS: u64 = 256 << 20;
const PER_THREAD: u64 = 16 << 20;

/// Most memory that names and attributes of one inode take, with room for what an allocator wastes.
const PER_INODE: u64 = 2 << 10;

/// Bytes of files that one byte of references stands for: 32 for a block of 4 KiB, and as much while they grow.
const PER_REFERENCE: u64 = 64;

/// A program can have its server hold what its quota allows, and no more. A server that would need more ends, and the
/// subjob with it.
fn bound_memory(quota: Quota, threads: u32) -> io::Result<()> {
    let inodes = quota.inodes.saturating_mul(PER_INODE);
    let references = quota.bytes / PER_REFERENCE;
    let most = OURS.saturating_add(inodes).saturating_add(references) + u64::from(threads) * PER_THREAD;
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    Ok(rustix::process::setrlimit(Resource::Data, limit)?)
}

fn entries(layer: Layer, shelves: &Arc<Shelves>) -> Vec<Entry> {
    let at = PathBuf::from(layer.at);
    let entry = |LayerEntry { path, mode, modified, kind }| Entry {
        path: if path.is_empty() { at.clone() } else { at.join(path) },
        mode,
        modified,
        kind: match kind {
            LayerKind::Directory => EntryKind::Directory,
            LayerKind::Symlink { target } => EntryKind::Symlink(target),
            file => EntryKind::File(Arc::new(Late::new(file, shelves))),
        },
    };
    layer.entries.into_iter().map(entry).collect()
}

/// Waits for the mount's device in a thread of its own, and serves it then. The answer to the device is a byte.
fn serve_mount(
    mount: UnixStream,
    spare: Vec<OwnedFd>,
    files: Arc<Files>,
) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("mount".to_owned()).spawn(move || {
        let serve = || -> io::Result<()> {
            let device = receive_file(&mount)?;
            let mut owner = [0; 4];
            (&mount).read_exact(&mut owner)?;
            let owner = u32::from_le_bytes(owner);
            files.give_to(owner, owner);
            let mut devices = vec![device];
            devices.extend(spare);
            let options = SessionOptions { threads: devices.len(), ..SessionOptions::default() };
            let session = step("serve the mount", Session::start(devices, files.clone(), options))?;
            (&mount).write_all(&[1])?;
            drop(mount);
            step("serve the mount", session.join()).map(drop)
        };
        if let Err(error) = serve() {
            files.fail(error.to_string());
        }
    })
}

/// Answers questions until there are no more.
fn answer(control: &UnixStream, files: &Files) -> io::Result<()> {
    loop {
        let request: Request = match message::read(&mut &*control) {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let reply = match request {
            Request::Usage => {
                Reply::Usage(Report { usage: files.usage(), trouble: files.trouble(), cpu: processor_time() })
            }
            Request::Find { path } => Reply::Found(find(files, Path::new(&path))),
            Request::List { path } => Reply::Listed(list(files, Path::new(&path))),
            Request::Read { ino, offset, length } => {
                let mut bytes = vec![0; length.min(MAX_READ) as usize];
                match files.read(ino, offset, &mut bytes) {
                    Ok(found) => {
                        message::write(&mut &*control, &Reply::Bytes { length: found as u32 })?;
                        (&*control).write_all(&bytes[..found])?;
                        continue;
                    }
                    Err(_) => Reply::Unreadable,
                }
            }
        };
        message::write(&mut &*control, &reply)?;
    }
}

fn list(files: &Files, path: &Path) -> Option<Vec<Listed>> {
    let directory = walk(files, path).ok()??;
    let mut listed = Vec::new();
    let mut take = |name: Name<'_>| {
        if name.name != "." && name.name != ".." {
            let found = found(name.attributes);
            let Attributes { mode, modified, .. } = *name.attributes;
            listed.push(Listed { name: name.name.to_owned(), mode, modified, found });
        }
        Take::More
    };
    files.read_names(directory.ino, 0, Listing::Names, &mut take).ok()?;
    Some(listed)
}

/// What is at a path that the subjob may have made whatever it liked.
fn find(files: &Files, path: &Path) -> Found {
    match walk(files, path) {
        Ok(Some(attributes)) => found(&attributes),
        Ok(None) => Found::Nothing,
        Err(Linked) => Found::Symlink,
    }
}

/// A path goes through a symbolic link.
struct Linked;

/// Follows a path through directories alone; an empty one is the top.
fn walk(files: &Files, path: &Path) -> Result<Option<Attributes>, Linked> {
    let Ok(mut at) = files.attributes(ROOT) else { return Ok(None) };
    for part in path.components() {
        if at.mode & KIND == SYMLINK {
            return Err(Linked);
        }
        let Component::Normal(name) = part else { return Ok(None) };
        let Ok(next) = files.peek(at.ino, name) else { return Ok(None) };
        at = next;
    }
    Ok(Some(at))
}

fn found(attributes: &Attributes) -> Found {
    match attributes.mode & KIND {
        REGULAR => Found::File { ino: attributes.ino, size: attributes.size, links: attributes.links },
        SYMLINK => Found::Symlink,
        DIRECTORY => Found::Directory,
        _ => Found::Other,
    }
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}
