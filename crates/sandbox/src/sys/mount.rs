//! Attributes of mounts, set before anybody can see the mount.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::mount::MountAttrFlags;

/// `struct mount_attr` of the kernel.
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Adds attributes to the mount at `path`, which is relative to `directory`; those that it has stay.
///
/// # Errors
/// What the kernel says; `ENOSYS` before Linux 5.12.
pub(crate) fn add_mount_attributes(
    directory: BorrowedFd<'_>,
    path: &Path,
    set: MountAttrFlags,
) -> io::Result<()> {
    let attributes = MountAttributes { set: u64::from(set.bits()), ..MountAttributes::default() };
    set_attributes(directory, path, &attributes)
}

/// Shows the files of a mount that is attached nowhere yet under the ids to which the user namespace maps theirs.
///
/// # Errors
/// `EINVAL` when the file system can't do that; else what the kernel says.
pub(crate) fn map_mount_ids(mount: impl AsFd, user_namespace: impl AsFd) -> io::Result<()> {
    let namespace = user_namespace.as_fd().as_raw_fd();
    let attributes = MountAttributes {
        set: u64::from(MountAttrFlags::MOUNT_ATTR_IDMAP.bits()),
        user_namespace: namespace.try_into().expect("a descriptor that is owned is not negative"),
        ..MountAttributes::default()
    };
    set_attributes(mount.as_fd(), Path::new(""), &attributes)
}

fn set_attributes(directory: BorrowedFd<'_>, path: &Path, attributes: &MountAttributes) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is NUL-terminated and `attributes` has the layout and the size that are announced; both
    // outlive the call, which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
