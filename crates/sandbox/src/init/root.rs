//! The root directory of a subjob, built from nothing: an empty memory file system into which the application's
//! own directories, a few devices, and `/work` are mounted. Nothing is ever written into the application's tree.
//!
//! The new root covers the application tree's own place on the host while it is built; what it is built from is
//! held open by descriptor, so that covered paths and paths that somebody changes meanwhile don't matter.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, StatVfsMountFlags, Uid};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};

use super::places::{DEVICE_LINKS, DEVICES, ETC_FILES, MASKED, Mask, NO_INTERFACES, RESERVED, SEEN};
use super::step::{StepError, step, step_at};
use crate::message::Setup;

/// Size of the root itself: room for mount points and the files of /etc.
const ROOT_OPTIONS: &str = "mode=0755,size=4m";

/// Inodes of `/tmp` and `/dev/shm`, each: they take kernel memory that a size doesn't bound.
const SCRATCH_INODES: u32 = 100_000;

/// For places that hold no programs.
const DATA: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// For the application: programs, but nothing that could be changed or raise privileges.
const APPLICATION: MountFlags = MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV);

/// What the root is built from, held open.
struct Sources {
    tree: OwnedFd,
    work: OwnedFd,
    stdin: Option<OwnedFd>,
}

/// Builds the root and makes it the only one this mount namespace has. Returns the program's standard input.
pub(super) fn build(setup: &Setup) -> Result<Option<File>, StepError> {
    keep_mounts_private()?;
    let sources = open_sources(setup)?;
    cover(&setup.root)?;
    mount_application(&sources.tree)?;
    mount_proc()?;
    mount_sys()?;
    mount_dev(setup)?;
    mount_scratch(setup)?;
    mount_work(&sources.work)?;
    let stdin = sources.stdin.map(|file| open_read_only(&file)).transpose()?;
    pivot()?;
    Ok(stdin)
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

/// Mounts the empty root over the application tree and steps into it.
fn cover(tree: &OsStr) -> Result<(), StepError> {
    mount_new("tmpfs", Path::new(tree), DATA, ROOT_OPTIONS)?;
    step_at("enter", tree, rustix::process::chdir(tree))
}

/// Mounts each top-level directory and file of the tree, and makes its links again. `/etc` is opened one level
/// further when it lacks a file that libraries need.
fn mount_application(tree: &OwnedFd) -> Result<(), StepError> {
    let mut etc = None;
    for (name, kind) in list(tree, Path::new("/"))? {
        let is_ours = RESERVED.iter().any(|reserved| name == OsStr::new(reserved));
        if name == OsStr::new("etc") && kind == FileType::Directory {
            etc = Some(name);
        } else if !is_ours {
            mount_entry(tree, &name, kind, Path::new(&name))?;
        }
    }
    mount_etc(tree, etc)
}

fn mount_etc(tree: &OwnedFd, etc: Option<OsString>) -> Result<(), StepError> {
    let Some(name) = etc else {
        make_directory("etc", 0o755)?;
        return ETC_FILES.iter().try_for_each(|(name, text)| write_etc(name, text));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = step_at("open", "/etc", rustix::fs::openat(tree, &name, flags, Mode::empty()))?;
    let entries = list(&opened, Path::new("/etc"))?;
    let has = |wanted: &str| entries.iter().any(|(name, _)| name == OsStr::new(wanted));
    if ETC_FILES.iter().all(|(name, _)| has(name)) {
        return mount_entry(tree, &name, FileType::Directory, Path::new("etc"));
    }
    make_directory("etc", 0o755)?;
    for (name, kind) in &entries {
        mount_entry(&opened, name, *kind, &Path::new("etc").join(name))?;
    }
    ETC_FILES.iter().filter(|(name, _)| !has(name)).try_for_each(|(name, text)| write_etc(name, text))
}

fn write_etc(name: &str, text: &str) -> Result<(), StepError> {
    let path = Path::new("etc").join(name);
    step_at("write", &path, fs::write(&path, text))
}

fn list(directory: &OwnedFd, path: &Path) -> Result<Vec<(OsString, FileType)>, StepError> {
    let mut entries = Vec::new();
    for entry in step_at("list the application's", path, Dir::read_from(directory))? {
        let entry = step_at("list the application's", path, entry)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let stat = step_at(
            "look at the application's",
            path.join(name),
            rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW),
        )?;
        entries.push((name.to_owned(), FileType::from_raw_mode(stat.st_mode)));
    }
    Ok(entries)
}

/// One entry of the application at its place in the new root. Devices, sockets and the like are left out: an
/// application has none.
fn mount_entry(from: &OwnedFd, name: &OsStr, kind: FileType, to: &Path) -> Result<(), StepError> {
    match kind {
        FileType::Directory => make_directory(to, 0o755)?,
        FileType::RegularFile => make_file(to)?,
        FileType::Symlink => {
            let target = step_at("read the link", to, rustix::fs::readlinkat(from, name, Vec::new()))?;
            return step_at("link", to, symlink(OsStr::from_bytes(target.to_bytes()), to));
        }
        _ => return Ok(()),
    }
    bind(from, name, to)?;
    restrict(to, APPLICATION)
}

/// The processes of the subjob, without those that belong to the sandbox, and little of the machine.
fn mount_proc() -> Result<(), StepError> {
    make_directory("proc", 0o755)?;
    mount_new("proc", Path::new("proc"), DATA, "hidepid=2")?;
    for masked in MASKED {
        let path = Path::new(masked.path);
        if !path.exists() {
            continue;
        }
        match masked.mask {
            Mask::ReadOnly => {
                bind(CWD, path.as_os_str(), path)?;
                restrict(path, DATA | MountFlags::RDONLY)?;
            }
            Mask::EmptyFile => bind(CWD, OsStr::new("/dev/null"), path)?,
            Mask::EmptyDirectory => {
                mount_new("tmpfs", path, DATA | MountFlags::RDONLY, "mode=0555,size=0,nr_inodes=1")?;
            }
        }
    }
    Ok(())
}

/// What programs need to know of the machine's processors, and nothing else.
fn mount_sys() -> Result<(), StepError> {
    make_directories(Path::new(NO_INTERFACES))?;
    for seen in SEEN {
        let host = Path::new("/").join(seen.path);
        // A kernel without memory nodes, a container without /sys: programs cope.
        if host.is_dir() {
            let path = Path::new(seen.path);
            make_directories(path)?;
            bind(CWD, host.as_os_str(), path)?;
            restrict(path, DATA | MountFlags::RDONLY)?;
        }
    }
    Ok(())
}

fn mount_dev(setup: &Setup) -> Result<(), StepError> {
    make_directory("dev", 0o755)?;
    let dev = Path::new("dev");
    mount_new("tmpfs", dev, MountFlags::NOSUID | MountFlags::NOEXEC, "mode=0755,size=64k")?;
    for device in DEVICES {
        let path = dev.join(device.name);
        make_file(&path)?;
        bind(CWD, Path::new("/dev").join(device.name).as_os_str(), &path)?;
        restrict(&path, MountFlags::NOSUID | MountFlags::NOEXEC)?;
    }
    for (name, target) in DEVICE_LINKS {
        step_at("link", dev.join(name), symlink(target, dev.join(name)))?;
    }
    make_directory("dev/pts", 0o755)?;
    let pts_flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_new("devpts", Path::new("dev/pts"), pts_flags, "newinstance,ptmxmode=0666,mode=0620")?;
    make_directory("dev/shm", 0o1777)?;
    mount_new("tmpfs", Path::new("dev/shm"), DATA, &scratch_options(setup))?;
    restrict(dev, MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::RDONLY)
}

fn mount_scratch(setup: &Setup) -> Result<(), StepError> {
    make_directory("tmp", 0o1777)?;
    mount_new("tmpfs", Path::new("tmp"), DATA, &scratch_options(setup))?;
    make_directory("tmp/home", 0o700)?;
    match setup.identity.slot() {
        Some(id) => {
            let (user, group) = (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
            step_at("give away", "/tmp/home", rustix::fs::chown("tmp/home", user, group))
        }
        None => Ok(()),
    }
}

fn scratch_options(setup: &Setup) -> String {
    format!("mode=1777,size={},nr_inodes={SCRATCH_INODES}", setup.scratch)
}

fn mount_work(work: &OwnedFd) -> Result<(), StepError> {
    make_directory("work", 0o755)?;
    bind_opened(work, Path::new("work"))?;
    restrict(Path::new("work"), DATA)
}

/// Opens a host's file for reading through a mount of its own that is read-only and then nowhere to be found: a
/// program may open `/dev/stdin` again for writing, and who owns the file is allowed to write it.
fn open_read_only(file: &OwnedFd) -> Result<File, StepError> {
    let place = Path::new("stdin");
    make_file(place)?;
    bind_opened(file, place)?;
    restrict(place, DATA | MountFlags::RDONLY)?;
    let opened = step("open the standard input", File::open(place))?;
    step("unmount the standard input", unmount(place, UnmountFlags::DETACH))?;
    step("remove the place of the standard input", fs::remove_file(place))?;
    Ok(opened)
}

/// Makes the directory we stand in the root, read-only, and lets go of the host's.
fn pivot() -> Result<(), StepError> {
    step("change the root", rustix::process::pivot_root(".", "."))?;
    // The old root now lies on top of the new one.
    step("let go of the old root", unmount(".", UnmountFlags::DETACH))?;
    step("enter the new root", rustix::process::chdir("/"))?;
    restrict(Path::new("/"), DATA | MountFlags::RDONLY)
}

fn make_directory(path: impl AsRef<Path>, mode: u32) -> Result<(), StepError> {
    let path = path.as_ref();
    step_at("make the directory", path, DirBuilder::new().mode(mode).create(path))
}

/// As [`make_directory`], with those above it.
fn make_directories(path: &Path) -> Result<(), StepError> {
    step_at("make the directory", path, DirBuilder::new().recursive(true).mode(0o755).create(path))
}

fn make_file(path: &Path) -> Result<(), StepError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path);
    step_at("make the file", path, created).map(|_| ())
}

fn mount_new(kind: &str, at: &Path, flags: MountFlags, options: &str) -> Result<(), StepError> {
    let options = std::ffi::CString::new(options).expect("options are made of numbers and our own words");
    step_at("mount", at, mount(kind, at, kind, flags, Some(options.as_c_str())))
}

/// Mounts what lies at `name` below `from` also at `to`; a link there is not followed.
fn bind(from: impl AsFd, name: &OsStr, to: &Path) -> Result<(), StepError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(from, name, flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW);
    attach(&step_at("copy the mount of", name, copy)?, to)
}

/// Mounts what was opened also at `to`.
fn bind_opened(from: &OwnedFd, to: &Path) -> Result<(), StepError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(from, "", flags | OpenTreeFlags::AT_EMPTY_PATH);
    attach(&step_at("copy the mount for", to, copy)?, to)
}

fn attach(copy: &OwnedFd, to: &Path) -> Result<(), StepError> {
    step_at("mount", to, move_mount(copy, "", CWD, to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH))
}

/// Sets the flags of a mount. Those that it has from the host stay: an ordinary user may not lift them.
fn restrict(path: &Path, flags: MountFlags) -> Result<(), StepError> {
    let found = step_at("look at the mount of", path, rustix::fs::statvfs(path))?.f_flag;
    let kept = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ];
    let kept = kept.into_iter().filter(|(has, _)| found.contains(*has)).map(|(_, flag)| flag);
    let flags = kept.fold(flags | MountFlags::BIND, |all, flag| all | flag);
    step_at("restrict the mount of", path, mount_remount(path, flags, ""))
}
