//! The system calls that have no safe wrapper, behind small safe functions. All `unsafe` of this crate is here.
//!
//! One system call per block. Most of these are sound only in a process with one thread, which init is by
//! construction: it is executed for the purpose and starts none; [`fork`] checks it.
#![allow(unsafe_code)]

mod landlock;
mod mount;
mod network;
mod packet;
mod priority;
mod process;
mod seccomp;

pub(crate) use landlock::{Handled, Ruleset, landlock_abi};
pub(crate) use mount::{add_mount_attributes, map_mount_ids};
pub(crate) use network::raise_loopback;
pub(crate) use packet::{attach_filter, detach_filter, open_packet_socket};
pub(crate) use priority::{take_idle_io_class, take_idle_scheduling_class};
pub(crate) use process::{
    ChildSignals, Fork, can_refuse_new_code, children_usage, close_inherited, close_others_on_execute,
    execute, exit_now, fork, fork_into, refuse_new_code, restore_signals, signal_all_others, unshare,
};
pub(crate) use seccomp::install_filter;

use std::io;

/// The result of a libc call that answers -1 and sets errno.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
