//! Mounts the file system that somebody outside serves, and hands them its device.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::mount::{MountFlags, mount};

use super::step::{StepError, step, step_at};
use crate::identity::{INSIDE_ID, Identity};
use crate::message;

/// How long the server may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// Largest read that the kernel asks for at once, in bytes.
const MAX_READ: u32 = 1 << 20;

/// Kilobytes that the kernel reads ahead of a program, and percent of the memory that may wait to be written. For a file
/// system in user space it allows little of both, unless root says more; with much more to wait, writing back begins only
/// when the program closes its file, and the two no longer work at once.
const READ_AHEAD: (&str, &str) = ("read_ahead_kb", "4096");
const WAITING: (&str, &str) = ("max_ratio", "8");

/// Mounts at the directory `at`. Whoever is to be the subjob owns the files.
pub(super) fn mount_served(identity: Identity, at: &OsStr, server: &UnixStream) -> Result<(), StepError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let opened = rustix::fs::open("/dev/fuse", flags, Mode::empty());
    let device = step_at("open", "/dev/fuse", opened)?;
    // As we are known where we mount, and as the subjob will be.
    let (us, subjob) = match identity {
        Identity::Slot { id } => (0, id),
        Identity::Own { .. } => (INSIDE_ID, INSIDE_ID),
    };
    let options = format!(
        "fd={},rootmode=40000,user_id={us},group_id={us},default_permissions,allow_other,max_read={MAX_READ}\0",
        device.as_raw_fd()
    );
    let options =
        std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).expect("it ends with its only zero");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    step_at("mount the files at", at, mount("files", at, "fuse", flags, options))?;
    let handed =
        message::send_file(server, &device).and_then(|()| (&*server).write_all(&subjob.to_le_bytes()));
    step("hand over the files' device", handed)?;
    step("wait for the file server", wait(server))?;
    tune(Path::new(at));
    Ok(())
}

fn wait(mut server: &UnixStream) -> io::Result<()> {
    server.set_read_timeout(Some(PATIENCE))?;
    server.read_exact(&mut [0])
}

/// An ordinary user may not, and a kernel without sysfs doesn't offer it: then it is only slower.
fn tune(at: &Path) {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let Ok(found) = rustix::fs::statx(CWD, at, flags, StatxFlags::empty()) else { return };
    let settings =
        Path::new("/sys/class/bdi").join(format!("{}:{}", found.stx_dev_major, found.stx_dev_minor));
    for (name, value) in [READ_AHEAD, WAITING] {
        let _ = fs::write(settings.join(name), value);
    }
}
