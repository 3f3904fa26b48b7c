//! `/dev/fuse`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Setter, ioctl, opcode};

/// `FUSE_DEV_IOC_CLONE`
const CLONE: rustix::ioctl::Opcode = opcode::read::<u32>(229, 0);

/// Makes `device`, a `/dev/fuse` that was just opened, serve the same mount as `mounted`.
///
/// Each has its own list of requests that wait for an answer: what is read from one is answered there.
pub(crate) fn clone_fuse_device(device: &OwnedFd, mounted: &OwnedFd) -> Result<(), Errno> {
    let mounted = u32::try_from(mounted.as_raw_fd()).map_err(|_| Errno::BADF)?;
    // SAFETY: the call reads a u32 behind the pointer it is given, the number of a descriptor that is open as long as
    // `mounted` is borrowed, and changes nothing in this process's memory.
    unsafe { ioctl(device.as_fd(), Setter::<CLONE, u32>::new(mounted)) }
}
