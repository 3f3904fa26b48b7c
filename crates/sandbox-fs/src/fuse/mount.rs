//! Mounting: what mount(2) is told, and what can be set only afterwards.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

/// Who mounts, as the user namespace knows them in which it is mounted.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountOptions {
    pub uid: u32,
    pub gid: u32,
}

impl MountOptions {
    /// The options of mount(2) for a file system of the type `fuse`, served through a `/dev/fuse` whose number is
    /// `device` in the process that mounts.
    pub fn data(&self, device: i32) -> String {
        let MountOptions { uid, gid, .. } = self;
        // The kernel checks permissions. It sees the root as a directory before it has asked for its attributes.
        let access = format!("user_id={uid},group_id={gid},default_permissions,allow_other");
        format!("fd={device},rootmode=40000,{access},max_read={}", super::abi::MOST_DATA)
    }
}

/// Opens `/dev/fuse`, to be mounted or to be cloned from one that is.
///
/// # Errors
/// If there is none, or it may not be opened.
pub fn open_device() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Mounts at the directory `at`. Whoever looks there waits until a [`super::Session`] serves it.
///
/// # Errors
/// Those of mount(2).
pub fn mount(device: &OwnedFd, at: &Path, options: &MountOptions) -> Result<(), Errno> {
    let data = CString::new(options.data(device.as_raw_fd())).expect("numbers and words hold no zero");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("sandbox-fs", at, "fuse", flags, data.as_c_str())
}

/// What the kernel lets only root set, of a mount that is served.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Kilobytes that are read ahead of a sequential reader. The kernel's 128 is a tenth of a request.
    pub read_ahead_kb: u32,
    /// Share of the memory, in percent, that data which waits to be written may take; the kernel's for FUSE is 1. With much
    /// more, writing back begins only when a program closes its file.
    pub max_ratio: u32,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { read_ahead_kb: 4096, max_ratio: 8 }
    }
}

/// Sets it for the file system mounted at `at`.
///
/// # Errors
/// If sysfs is not there or not ours to write: then the mount works, more slowly.
pub fn tune(at: &Path, tuning: &Tuning) -> std::io::Result<()> {
    // Without a look at the attributes, which would wait for the server.
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(CWD, at, flags, StatxFlags::empty())?;
    let bdi = Path::new("/sys/class/bdi").join(format!("{}:{}", stat.stx_dev_major, stat.stx_dev_minor));
    fs::write(bdi.join("read_ahead_kb"), tuning.read_ahead_kb.to_string())?;
    fs::write(bdi.join("max_ratio"), tuning.max_ratio.to_string())
}

/// Unmounts what is mounted at `at`, as soon as nobody uses it any more.
///
/// # Errors
/// Those of umount2(2).
pub fn unmount(at: &Path) -> Result<(), Errno> {
    rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH)
}
