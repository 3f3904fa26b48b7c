//! What the helpers give up before they do anything.

use std::io;

use rustix::fs::{Gid, Uid};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::broker::MAX_CONNECTIONS;
use crate::filter;
use crate::identity::Identity;
use crate::sys;

/// Two sockets and two pipes of two ends for each connection, and a listener for each endpoint, with room.
const BROKER_FILES: u64 = (MAX_CONNECTIONS * 6 + model::network::MAX_ENDPOINTS) as u64 + 64;

/// For both: no way to more rights, and none to outlive init.
pub(super) fn give_up_privileges(identity: Identity) -> io::Result<()> {
    silence()?;
    // What they do is the subjob's work, and waits for the desktop as the subjob does.
    rustix::process::nice(19)?;
    sys::take_idle_scheduling_class()?;
    if let Identity::Slot { id } = identity {
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none)?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // After the ids, whose change forgets it. Whoever starts after init has ended sees the end of its socket.
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Neither may write into the subjob's output, nor hold it open.
fn silence() -> io::Result<()> {
    let nothing = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}

/// For the broker, which needs nothing but the sockets that it makes and the memory that it has: it opens no file,
/// starts nothing, and signals nobody.
pub(super) fn close_in() -> io::Result<()> {
    for (resource, most) in [
        (Resource::Nofile, BROKER_FILES),
        (Resource::Nproc, 0),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Memlock, 0),
    ] {
        // What bounds us already stays: a limit can't be raised.
        let most = most.min(rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    filter::install(&filter::compile_broker())
}
