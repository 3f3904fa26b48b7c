//! A user namespace that nobody lives in: only its map is wanted, to show the user's own files of an application
//! as the subjob's.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::process::WaitOptions;
use rustix::thread::UnshareFlags;

use crate::sys::{self, Fork};

/// Makes the namespace; `map` says which user and group id on the disk are which of the machine's. While the
/// host's `/proc` is still to be seen.
///
/// # Errors
/// What the kernel says at one of the steps.
pub(super) fn mapping(user: (u32, u32), group: (u32, u32)) -> io::Result<OwnedFd> {
    let (mut ours, mut theirs) = UnixStream::pair()?;
    match sys::fork()? {
        Fork::Child => {
            // The closed socket tells of a failure, and the parent's end of it that we may go.
            drop(ours);
            if let Ok(pid) = unshare() {
                let _ = theirs.write_all(pid.as_bytes());
                let _ = theirs.shutdown(std::net::Shutdown::Write);
                let _ = theirs.read(&mut [0]);
            }
            sys::exit_now(0)
        }
        Fork::Parent { child } => {
            drop(theirs);
            let made = map_and_open(&mut ours, user, group);
            drop(ours);
            rustix::process::waitpid(Some(child), WaitOptions::empty())?;
            made
        }
    }
}

/// Enters the namespace. Returns who we are to whoever sees the `/proc` that we see: the parent is in a pid
/// namespace of its own already, and its `/proc` isn't.
fn unshare() -> io::Result<String> {
    sys::unshare(UnshareFlags::NEWUSER)?;
    Ok(fs::read_link("/proc/self")?.to_string_lossy().into_owned())
}

fn map_and_open(child: &mut UnixStream, user: (u32, u32), group: (u32, u32)) -> io::Result<OwnedFd> {
    let mut pid = String::new();
    child.read_to_string(&mut pid)?;
    for (file, (disk, machine)) in [("uid_map", user), ("gid_map", group)] {
        fs::write(format!("/proc/{pid}/{file}"), format!("{disk} {machine} 1"))?;
    }
    Ok(fs::File::open(format!("/proc/{pid}/ns/user"))?.into())
}
