//! Who a subjob is: outside of its sandbox an id that nobody else has, inside always the user `subjob`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Uid};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::error::SandboxError;

/// User and group id that a program sees itself as.
pub(crate) const INSIDE_ID: u32 = 1_000;

/// The subjob's home directory, in memory.
pub(crate) const HOME: &str = "/tmp/home";

/// First id of the slots. Above what systemd, shadow and container tools hand out, below 2³¹, where some file
/// systems and tools stop.
const FIRST_SLOT: u32 = 2_000_000_000;

/// Slots on one machine: more than subjobs that one could run.
const SLOTS: u32 = 4_096;

/// Capabilities without which a client can't act as root here.
const NEEDED: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::KILL);

/// User and group id of the grid's own processes that need no rights, when the client is root: next to the slots, and
/// none of them.
const SERVICE: u32 = FIRST_SLOT - 1;

/// The id that helpers of the client give up root for; nothing when the client is an ordinary user.
pub fn service_id() -> Option<u32> {
    is_privileged().then_some(SERVICE)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Identity {
    /// The client is root: the subjob has a user and group id of its own.
    Slot { id: u32 },
    /// The client is an ordinary user: the subjob is that user, in a user namespace.
    Own { uid: u32, gid: u32 },
}

/// An identity, with the claim on its slot for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Claim {
    pub identity: Identity,
    /// A socket with the slot's name in it: the kernel keeps such names apart and lets go of them when we die,
    /// and they leave no file behind.
    _slot: Option<UnixDatagram>,
}

impl Claim {
    /// Finds out what this process may be and takes a slot if it is root.
    ///
    /// # Errors
    /// When every slot is taken.
    pub(crate) fn take() -> Result<Self, SandboxError> {
        if !is_privileged() {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            return Ok(Claim { identity: Identity::Own { uid, gid }, _slot: None });
        }
        let taken = (0..SLOTS).find_map(|slot| {
            let address = SocketAddr::from_abstract_name(format!("dcgrid/slot/{slot}")).ok()?;
            Some((slot, UnixDatagram::bind_addr(&address).ok()?))
        });
        let (slot, socket) = taken.ok_or(SandboxError::NoSlot { slots: SLOTS })?;
        Ok(Claim { identity: Identity::Slot { id: FIRST_SLOT + slot }, _slot: Some(socket) })
    }
}

/// Whether this process may build a sandbox as root: it has the capabilities, and the slots' ids exist in its
/// user namespace. Root in a container with few ids is an ordinary user.
pub(crate) fn is_privileged() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(NEEDED))
        && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| maps_slots(&map))
        && fs::read_to_string("/proc/self/gid_map").is_ok_and(|map| maps_slots(&map))
}

/// Whether a user namespace's map (`inside outside count` per line) holds all slots.
fn maps_slots(map: &str) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(inside)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        inside <= u64::from(FIRST_SLOT) && inside + count >= u64::from(FIRST_SLOT + SLOTS)
    })
}

impl Identity {
    /// Makes the subjob the owner of a directory and all below it. Links are not followed.
    ///
    /// # Errors
    /// When something can't be read or changed, or is a file that is hard-linked from elsewhere: the subjob
    /// could write into that other place through it.
    pub(crate) fn own_tree(self, directory: &Path) -> Result<(), SandboxError> {
        self.own_file(directory)?;
        let failed = |source| SandboxError::Own { path: directory.to_owned(), source };
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let stat = rustix::fs::lstat(&path)
                .map_err(|e| SandboxError::Own { path: path.clone(), source: e.into() })?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => self.own_tree(&path)?,
                FileType::RegularFile if stat.st_nlink > 1 => return Err(SandboxError::HardLink { path }),
                _ => self.own_file(&path)?,
            }
        }
        Ok(())
    }

    /// Makes the subjob the owner of one file. As an ordinary user it is that already.
    ///
    /// # Errors
    /// When it can't be changed.
    pub(crate) fn own_file(self, path: &Path) -> Result<(), SandboxError> {
        match self {
            Identity::Slot { id } => own(path, id),
            Identity::Own { .. } => Ok(()),
        }
    }

    /// As [`Identity::own_file`], for a pipe.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn own_opened(self, pipe: &OwnedFd) -> io::Result<()> {
        let Some(id) = self.slot() else { return Ok(()) };
        Ok(rustix::fs::fchown(pipe, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?)
    }

    /// The id by which init, before it has become the subjob, gives files to it.
    pub(crate) fn slot(self) -> Option<u32> {
        match self {
            Identity::Slot { id } => Some(id),
            Identity::Own { .. } => None,
        }
    }
}

fn own(path: &Path, id: u32) -> Result<(), SandboxError> {
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    rustix::fs::chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| SandboxError::Own { path: path.to_owned(), source: e.into() })
}

/// What a program finds in its environment unless the spec says otherwise.
pub(crate) fn default_environment() -> [(&'static str, OsString); 6] {
    [
        ("HOME", HOME.into()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
        ("TMPDIR", "/tmp".into()),
        ("USER", "subjob".into()),
        ("LOGNAME", "subjob".into()),
        ("XDG_RUNTIME_DIR", format!("/run/user/{INSIDE_ID}").into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_need_a_map_that_holds_them() {
        assert!(maps_slots("         0          0 4294967295\n"));
        assert!(maps_slots("0 100000 1000\n1000 200000 2100000000\n"));
        assert!(!maps_slots("         0     100000      65536\n"));
        assert!(!maps_slots("0 0\n"));
        assert!(!maps_slots(""));
    }

    #[test]
    fn a_work_directory_must_not_lead_to_files_elsewhere() {
        let (own, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let identity = Claim::take().unwrap().identity;
        fs::create_dir(own.path().join("d")).unwrap();
        fs::write(own.path().join("d/a"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", own.path().join("link")).unwrap();
        identity.own_tree(own.path()).unwrap();
        fs::hard_link(own.path().join("d/a"), elsewhere.path().join("a")).unwrap();
        match identity.own_tree(own.path()) {
            Err(SandboxError::HardLink { path }) => assert_eq!(path, own.path().join("d/a")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_subjobs_never_share_a_slot() {
        let (one, two) = (Claim::take().unwrap(), Claim::take().unwrap());
        match (one.identity, two.identity) {
            (Identity::Slot { id: one }, Identity::Slot { id: two }) => assert_ne!(one, two),
            (one, two) => assert_eq!(one, two),
        }
    }
}
