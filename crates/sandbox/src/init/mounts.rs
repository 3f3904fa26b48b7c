//! The handful of things that are done with mounts, as steps. All copies of mounts get their attributes before
//! they are attached, so that nothing is ever there with more rights than it is meant to have.

use std::ffi::{CString, OsStr};
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree,
};

use super::step::{StepError, step, step_at};
use crate::sys;

pub(super) const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// For devices that the host lends.
pub(super) const DEVICE: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// For places that hold no programs.
pub(super) const DATA: MountAttrFlags = DEVICE.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// For programs, which can't be changed and raise no privileges.
pub(super) const PROGRAMS: MountAttrFlags =
    READ_ONLY.union(MountAttrFlags::MOUNT_ATTR_NOSUID).union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Looks for one path inside the root before the machine is too busy for us.
const MAX_LOOKS: u32 = 1_000;

/// A directory as in `mkdir -m`, whatever the mask.
pub(super) fn make_directory(path: impl AsRef<Path>, mode: u32) -> Result<(), StepError> {
    let path = path.as_ref();
    step_at("make the directory", path, DirBuilder::new().mode(mode).create(path))?;
    step_at(
        "open the directory to others",
        path,
        std::fs::set_permissions(path, Permissions::from_mode(mode)),
    )
}

/// A directory with those above it, for all to enter.
pub(super) fn make_directories(path: impl AsRef<Path>) -> Result<(), StepError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(&path);
    step_at("make the directory", path, made)
}

pub(super) fn make_file(path: impl AsRef<Path>) -> Result<(), StepError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
    step_at("make the file", path, created).map(|_| ())
}

/// Mounts a new file system; `options` are our own words and numbers.
pub(super) fn mount_new(
    kind: &str,
    at: impl AsRef<Path>,
    attributes: MountAttrFlags,
    options: &str,
) -> Result<(), StepError> {
    step_at("mount", &at, try_mount_new(kind, at.as_ref(), attributes, options))
}

/// As [`mount_new`], for kinds and options that not every kernel has.
pub(super) fn try_mount_new(
    kind: &str,
    at: &Path,
    attributes: MountAttrFlags,
    options: &str,
) -> Result<(), Errno> {
    // The attributes of the new interface are those of the old one.
    let flags = MountFlags::from_bits_retain(attributes.bits());
    let options = CString::new(options).expect("options are made of numbers and our own words");
    mount(kind, at, kind, flags, Some(options.as_c_str()))
}

/// A copy of what is mounted at `name` below `from`, attached nowhere; a link there is not followed.
pub(super) fn copy(from: impl AsFd, name: &OsStr, attributes: MountAttrFlags) -> Result<OwnedFd, StepError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_EMPTY_PATH;
    let copy = step_at("copy the mount of", name, open_tree(from, name, flags))?;
    let restricted = sys::add_mount_attributes(copy.as_fd(), Path::new(""), attributes);
    step_at("restrict the mount of", name, restricted)?;
    Ok(copy)
}

pub(super) fn attach(copy: &OwnedFd, to: impl AsRef<Path>) -> Result<(), StepError> {
    let to = to.as_ref();
    step_at("mount", to, move_mount(copy, "", CWD, to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH))
}

/// Attaches to what was opened, wherever that is; `name` is for people.
pub(super) fn attach_to_opened(copy: &OwnedFd, to: &OwnedFd, name: &Path) -> Result<(), StepError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    step_at("mount", name, move_mount(copy, "", to, "", flags))
}

/// Mounts what lies at `name` below `from` also at `to`.
pub(super) fn bind(
    from: impl AsFd,
    name: &OsStr,
    to: impl AsRef<Path>,
    attributes: MountAttrFlags,
) -> Result<(), StepError> {
    attach(&copy(from, name, attributes)?, to)
}

/// Adds attributes to the mount at `path`.
pub(super) fn restrict(path: impl AsRef<Path>, attributes: MountAttrFlags) -> Result<(), StepError> {
    let restricted = sys::add_mount_attributes(CWD, path.as_ref(), attributes);
    step_at("restrict the mount of", path, restricted)
}

/// Opens what a program would find at the absolute `path` if `root` were its root directory: links, also those
/// that begin with `/` or lead up, end inside. Nothing when it isn't there.
pub(super) fn find_inside(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, StepError> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let look = || rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    // On a way with `..` the kernel gives up when anything on the machine was renamed or mounted meanwhile.
    let found = (1..MAX_LOOKS).map(|_| look()).find(|found| !matches!(found, Err(Errno::AGAIN)));
    match found.unwrap_or_else(look) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        found => step_at("look for", path, found).map(Some),
    }
}

/// Opens a directory to be looked into, without following a link.
pub(super) fn open_directory(from: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(from, name, flags, Mode::empty()).map_err(Into::into)
}

/// Goes into a directory, from which all that follows starts.
pub(super) fn enter(path: impl AsRef<Path>) -> Result<(), StepError> {
    step_at("enter", &path, rustix::process::chdir(path.as_ref()))
}

/// Makes the directory we stand in the root, and lets go of the one before.
pub(super) fn pivot() -> Result<(), StepError> {
    step("change the root", rustix::process::pivot_root(".", "."))?;
    // The old root now lies on top of the new one.
    let flags = rustix::mount::UnmountFlags::DETACH;
    step("let go of the old root", rustix::mount::unmount(".", flags))?;
    enter("/")
}
