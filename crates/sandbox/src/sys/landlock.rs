//! Landlock: rules that a process lays on itself and all that it will start, for ever.
//!
//! Three calls with plain numbers; the `landlock` crate would wrap them in two crates and a macro more.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// The Landlock ABI of this kernel; nothing when it has none or it is switched off.
pub(crate) fn landlock_abi() -> Option<u32> {
    const CREATE_RULESET_VERSION: libc::c_ulong = 1;
    // SAFETY: with a null attribute, size 0 and this flag the kernel reads no memory and only answers a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(abi).ok().filter(|abi| *abi > 0)
}

/// What is forbidden unless a rule allows it: `struct landlock_ruleset_attr`. A kernel that doesn't know a later
/// field takes it when it is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handled {
    pub files: u64,
    pub network: u64,
    pub scopes: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// Rules that are not in force yet.
#[derive(Debug)]
pub(crate) struct Ruleset {
    descriptor: OwnedFd,
}

impl Ruleset {
    /// # Errors
    /// `EINVAL` for a right that this kernel doesn't know; else what it says.
    pub(crate) fn new(handled: Handled) -> io::Result<Self> {
        // SAFETY: `handled` has the kernel's layout and the announced size, and outlives the call, which only
        // reads it.
        let raw = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                ptr::from_ref(&handled),
                size_of::<Handled>(),
                0_u32,
            )
        };
        let raw = i32::try_from(raw).expect("a descriptor or -1");
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nothing else owns it.
        Ok(Ruleset { descriptor: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    /// Allows `rights` on what was opened and, if it is a directory, on all below it.
    ///
    /// # Errors
    /// `EINVAL` for rights that are not handled or don't fit a file; else what the kernel says.
    pub(crate) fn allow(&self, beneath: impl AsFd, rights: u64) -> io::Result<()> {
        const RULE_PATH_BENEATH: libc::c_int = 1;
        let rule = PathBeneath { allowed: rights, parent: beneath.as_fd().as_raw_fd() };
        // SAFETY: `rule` has the kernel's layout for this kind of rule and outlives the call, which only reads it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.descriptor.as_raw_fd(),
                RULE_PATH_BENEATH,
                ptr::from_ref(&rule),
                0_u32,
            )
        };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Puts the rules in force. The thread must have `no_new_privs`.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn restrict_self(&self) -> io::Result<()> {
        // SAFETY: two integers.
        let result =
            unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.descriptor.as_raw_fd(), 0_u32) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
