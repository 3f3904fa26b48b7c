//! The root directory of a subjob, built from nothing: the application ([`application`]), and around it places to
//! write, a few devices, `/proc`, and `/work`. Nothing of it reaches the host, and of the host there is only what
//! [`super::places`] names.
//!
//! It is built in a memory file system that covers the application tree's own place on the host; what it is built
//! from is held open by descriptor, so that covered paths and paths that somebody changes meanwhile don't matter.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

use super::application::{self, VIEW, give_to_subjob};
use super::mounts::{
    DATA, DEVICE, READ_ONLY, bind, copy, enter, make_directory, make_file, mount_new, pivot, restrict,
    try_mount_new,
};
use super::places::{DEVICE_LINKS, DEVICES, FREE, MASKED, Mask, SEEN};
use super::served::mount_served;
use super::step::{StepError, step, step_at};
use crate::identity::HOME;
use crate::message::Setup;

/// Inodes of the memory that can be written, and of `/dev/shm`: they take kernel memory that a size doesn't bound.
const MAX_INODES: u32 = 100_000;

/// Room for what we put into the memory that can be written ourselves, in bytes.
const OURS: u64 = 256 << 10;

/// What the root is built from, held open.
struct Sources {
    tree: OwnedFd,
    work: OwnedFd,
    stdin: Option<OwnedFd>,
}

/// What the program's process must know of the root that was built.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) stdin: Option<File>,
    /// Directories that the subjob can write to.
    pub(super) writable: Vec<PathBuf>,
}

/// Builds the root and makes it the only one this mount namespace has.
pub(super) fn build(setup: &Setup, server: Option<UnixStream>) -> Result<Root, StepError> {
    keep_mounts_private()?;
    if let (Some(at), Some(server)) = (&setup.served, server) {
        mount_served(setup.identity, at, &server)?;
        open_served_outputs(setup)?;
    }
    let sources = open_sources(setup)?;
    let stdin = sources.stdin.as_ref().map(open_read_only).transpose()?;
    if let Some(file) = open_nameless(io::stdout())? {
        step("set the standard output", rustix::stdio::dup2_stdout(file))?;
    }
    if let Some(file) = open_nameless(io::stderr())? {
        step("set the standard error", rustix::stdio::dup2_stderr(file))?;
    }
    mount_memory(setup, Path::new(&setup.root))?;
    enter(&setup.root)?;
    let mut writable = application::mount(setup, &sources.tree)?;
    mount_free(setup)?;
    enter(VIEW)?;
    mount_proc()?;
    mount_sys()?;
    mount_dev(setup)?;
    bind(&sources.work, OsStr::new(""), "work", DATA)?;
    pivot()?;
    writable.extend(FREE.iter().map(|free| Path::new("/").join(free.path)));
    writable.extend(["/work", "/dev/shm"].map(PathBuf::from));
    Ok(Root { stdin, writable })
}

/// From here on no mount reaches the host, nor does one of the host reach us.
fn keep_mounts_private() -> Result<(), StepError> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step("make mounts private", mount_change("/", flags))
}

fn open_sources(setup: &Setup) -> Result<Sources, StepError> {
    let open = |step_name, path: &OsString, flags| {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        step_at(step_name, path, rustix::fs::openat(CWD, path, flags, Mode::empty()))
    };
    Ok(Sources {
        tree: open("open the application tree", &setup.root, OFlags::RDONLY | OFlags::DIRECTORY)?,
        work: open("open the work directory", &setup.work, OFlags::RDONLY | OFlags::DIRECTORY)?,
        stdin: setup
            .stdin
            .as_ref()
            .map(|path| open("open the standard input", path, OFlags::PATH))
            .transpose()?,
    })
}

/// Makes the files that the streams go to where they are not the host's.
fn open_served_outputs(setup: &Setup) -> Result<(), StepError> {
    let open = |path: &OsString| {
        let opened = fs::OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let file = step_at("make the output", path, opened)?;
        // A program that opens /dev/stdout is asked for its permission anew.
        if let Some(id) = setup.identity.slot() {
            step_at("give away", path, std::os::unix::fs::fchown(&file, Some(id), Some(id)))?;
        }
        Ok(file)
    };
    let [stdout, stderr] = &setup.outputs;
    if let Some(file) = stdout.as_ref().map(open).transpose()? {
        step("set the standard output", rustix::stdio::dup2_stdout(file))?;
    }
    if let Some(file) = stderr.as_ref().map(open).transpose()? {
        step("set the standard error", rustix::stdio::dup2_stderr(file))?;
    }
    Ok(())
}

/// Opens a host's file for reading through a mount of its own that is read-only and nowhere to be found: a program
/// may open `/dev/stdin` again for writing, and who owns the file is allowed to write it.
fn open_read_only(file: &OwnedFd) -> Result<File, StepError> {
    let copy = copy(file, OsStr::new(""), DATA | READ_ONLY)?;
    step("open the standard input", File::open(format!("/proc/self/fd/{}", copy.as_raw_fd())))
}

/// A file of the host that is being appended to, once more, through a mount of its own that is nowhere to be found:
/// a link in /proc would tell the file's place. Nothing for what has no name, or none that leads back to it.
fn open_nameless(output: impl AsFd) -> Result<Option<File>, StepError> {
    let stat = step("look at the output", rustix::fs::fstat(&output))?;
    let flags = step("look at the output", rustix::fs::fcntl_getfl(&output))?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || !flags.contains(OFlags::APPEND) {
        return Ok(None);
    }
    let Ok(name) = fs::read_link(format!("/proc/self/fd/{}", output.as_fd().as_raw_fd())) else {
        return Ok(None);
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(named) = rustix::fs::openat(CWD, &name, flags, Mode::empty()) else { return Ok(None) };
    let found = step("look at the output", rustix::fs::fstat(&named))?;
    if (found.st_dev, found.st_ino) != (stat.st_dev, stat.st_ino) {
        return Ok(None);
    }
    let copy = copy(&named, OsStr::new(""), DATA)?;
    let opened = fs::OpenOptions::new().append(true).open(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    step("open the output", opened).map(Some)
}

/// Memory for all that the subjob can write outside of `/work`, and for the mount points.
fn mount_memory(setup: &Setup, at: &Path) -> Result<(), StepError> {
    let options = format!("mode=0755,size={},nr_inodes={MAX_INODES}", setup.scratch.saturating_add(OURS));
    // Memory that is counted shall stay memory, and what was deleted leave no trace on the disk. Kernels before
    // 6.4 can't, and an ordinary user may not.
    match try_mount_new("tmpfs", at, DATA, &format!("{options},noswap")) {
        Err(Errno::INVAL) => mount_new("tmpfs", at, DATA, &options),
        result => step_at("mount", at, result),
    }
}

/// The places that every user of a machine can write to.
fn mount_free(setup: &Setup) -> Result<(), StepError> {
    for (number, free) in FREE.iter().enumerate() {
        let directory = format!("free{number}");
        make_directory(&directory, free.mode)?;
        give_to_subjob(setup, &directory)?;
        if free.path == "tmp" {
            let home = Path::new(&directory).join(HOME.trim_start_matches("/tmp/"));
            make_directory(&home, 0o700)?;
            give_to_subjob(setup, &home)?;
        }
        bind(CWD, OsStr::new(&directory), Path::new(VIEW).join(free.path), DATA)?;
    }
    Ok(())
}

/// The processes of the subjob, without those that belong to the sandbox, and little of the machine.
fn mount_proc() -> Result<(), StepError> {
    mount_new("proc", "proc", DATA, "hidepid=2")?;
    for (number, masked) in MASKED.iter().enumerate() {
        let path = Path::new(masked.path);
        match masked.mask {
            _ if !path.exists() => (),
            Mask::ReadOnly => bind(CWD, path.as_os_str(), path, DATA | READ_ONLY)?,
            Mask::EmptyFile => bind(CWD, OsStr::new("/dev/null"), path, DEVICE | READ_ONLY)?,
            Mask::EmptyDirectory => {
                mount_new("tmpfs", path, DATA | READ_ONLY, "mode=0555,size=0,nr_inodes=1")?;
            }
            Mask::Text(make) => {
                // Beside the view, where nobody will see it.
                let file = format!("../proc{number}");
                let text = step_at("read", path, make())?;
                step_at("write", path, fs::write(&file, text))?;
                bind(CWD, OsStr::new(&file), path, DATA | READ_ONLY)?;
            }
        }
    }
    Ok(())
}

/// What programs need to know of the machine's processors, and nothing else.
fn mount_sys() -> Result<(), StepError> {
    for seen in SEEN {
        let host = Path::new("/").join(seen.path);
        // A kernel without memory nodes, a container without /sys: programs cope.
        if host.is_dir() {
            bind(CWD, host.as_os_str(), seen.path, DATA | READ_ONLY)?;
        }
    }
    Ok(())
}

fn mount_dev(setup: &Setup) -> Result<(), StepError> {
    let dev = Path::new("dev");
    mount_new("tmpfs", dev, DEVICE, "mode=0755,size=64k")?;
    for device in DEVICES {
        let path = dev.join(device.name);
        make_file(&path)?;
        bind(CWD, Path::new("/dev").join(device.name).as_os_str(), &path, DEVICE)?;
    }
    for (name, target) in DEVICE_LINKS {
        step_at("link", dev.join(name), symlink(target, dev.join(name)))?;
    }
    make_directory("dev/pts", 0o755)?;
    mount_new("devpts", "dev/pts", DEVICE, "newinstance,ptmxmode=0666,mode=0620")?;
    // Its files are opened through a mount of the kernel's own, which only a rule for this one lets be written.
    make_directory("dev/mqueue", 0o755)?;
    mount_new("mqueue", "dev/mqueue", DATA, "")?;
    make_directory("dev/shm", 0o1777)?;
    let options = format!("mode=1777,size={},nr_inodes={MAX_INODES}", setup.scratch.max(4_096));
    mount_new("tmpfs", "dev/shm", DATA, &options)?;
    restrict(dev, DEVICE | READ_ONLY)
}
