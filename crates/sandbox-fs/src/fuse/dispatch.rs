//! From requests to calls of [`Operations`] and from what they return to answers. Knows nothing of how requests come
//! and go.

use std::ffi::OsStr;

use rustix::io::Errno;

use super::abi::{self, init};
use super::reply::{Agreed, Answer, Names};
use super::request::{Offer, Request};
use super::session::{SessionOptions, Writes, Xattrs};
use crate::operations::{Attributes, Caller, Changes, Ino, Listing, Operations, SetTime};

/// Does what is asked. The answer may lie in the buffer of the request.
pub(super) fn perform<'a>(
    operations: &dyn Operations,
    options: &SessionOptions,
    caller: Caller,
    request: Request<'a>,
) -> Answer<'a> {
    try_to_perform(operations, options, caller, request).unwrap_or_else(Answer::Failed)
}

fn try_to_perform<'a>(
    operations: &dyn Operations,
    options: &SessionOptions,
    caller: Caller,
    request: Request<'a>,
) -> Result<Answer<'a>, Errno> {
    let entry = |attributes: Attributes| Answer::entry(&attributes);
    let opened = |attributes: Attributes| Answer::opened(&attributes);
    let attributes = |of: Attributes| Answer::attributes(&of);
    let done = |()| Answer::DONE;
    match request {
        Request::Init(offer) => agree(&offer, options).map(|agreed| Answer::init(&agreed)),
        Request::LookUp { parent, name } => look_up(operations, parent, name),
        Request::Forget(forgotten) => {
            forgotten.each(|ino, count| operations.forget(ino, count));
            Ok(Answer::None)
        }
        Request::Attributes { ino } => operations.attributes(ino).map(attributes),
        Request::Change { ino, changes } => operations.change(caller, ino, &changes).map(attributes),
        Request::ReadSymlink { ino } => operations.read_symlink(ino).map(Answer::Owned),
        Request::MakeSymlink { parent, name, target } => {
            operations.make_symlink(caller, parent, name, target).map(entry)
        }
        Request::MakeNode { parent, name, mode, device } => {
            operations.make_node(caller, parent, name, mode, device).map(entry)
        }
        Request::MakeDirectory { parent, name, mode } => {
            operations.make_directory(caller, parent, name, mode).map(entry)
        }
        Request::MakeUnnamed { parent, mode } => {
            operations.make_unnamed(caller, parent, regular(mode)).map(opened)
        }
        Request::Unlink { parent, name } => operations.unlink(parent, name).map(done),
        Request::RemoveDirectory { parent, name } => operations.remove_directory(parent, name).map(done),
        Request::Rename { parent, name, new_parent, new_name, how } => {
            operations.rename(parent, name, new_parent, new_name, how).map(done)
        }
        Request::Link { ino, parent, name } => operations.link(ino, parent, name).map(entry),
        Request::ReadNames { ino, cookie, listing, buffer } => {
            read_names(operations, ino, cookie, listing, buffer)
        }
        Request::Read { ino, offset, buffer } => {
            operations.read(ino, offset, buffer).map(|length| Answer::Data(&buffer[..length]))
        }
        Request::Write { ino, offset, data, drops_set_id } => {
            operations.write(ino, offset, data, drops_set_id)?;
            if options.writes == Writes::Through {
                // With a writeback cache the kernel sends the time.
                let changes = Changes { modified: Some(SetTime::Now), ..Changes::default() };
                operations.change(caller, ino, &changes)?;
            }
            Ok(Answer::size(data.len() as u32))
        }
        Request::Sync { ino } => operations.sync(ino).map(done),
        Request::Allocate { ino, how, offset, length } => {
            operations.allocate(ino, how, offset, length).map(done)
        }
        Request::Copy { from, from_offset, to, to_offset, length, told } => {
            let copied = operations.copy(from, from_offset, to, to_offset, length)?;
            Ok(Answer::copied(copied, told))
        }
        Request::SetXattr { .. }
        | Request::Xattr { .. }
        | Request::XattrNames { .. }
        | Request::RemoveXattr { .. }
            if options.xattrs == Xattrs::Refused =>
        {
            Err(Errno::NOSYS)
        }
        Request::SetXattr { ino, name, value, how } => operations.set_xattr(ino, name, value, how).map(done),
        Request::Xattr { ino, name, room } => Ok(Answer::value(operations.xattr(ino, name)?, room)),
        Request::XattrNames { ino, room } => Ok(Answer::value(operations.xattr_names(ino)?, room)),
        Request::RemoveXattr { ino, name } => operations.remove_xattr(ino, name).map(done),
        Request::Space => Ok(Answer::space(&operations.space())),
        Request::Done => Ok(Answer::DONE),
        Request::Interrupt { .. } | Request::Ignored => Ok(Answer::None),
        Request::Refused => Err(Errno::NOSYS),
    }
}

/// The mode of a regular file, of which the kernel tells the permissions.
fn regular(mode: u32) -> u32 {
    const S_IFREG: u32 = 0o100_000;
    S_IFREG | mode & 0o7777
}

fn look_up(operations: &dyn Operations, parent: Ino, name: &OsStr) -> Result<Answer<'static>, Errno> {
    match operations.look_up(parent, name) {
        Ok(attributes) => Ok(Answer::entry(&attributes)),
        Err(Errno::NOENT) => Ok(Answer::no_entry()),
        Err(error) => Err(error),
    }
}

fn read_names<'a>(
    operations: &dyn Operations,
    ino: Ino,
    cookie: u64,
    listing: Listing,
    buffer: &'a mut [u8],
) -> Result<Answer<'a>, Errno> {
    let mut names = Names::new(buffer);
    operations.read_names(ino, cookie, listing, &mut |name| match listing {
        Listing::Names => names.plain(&name),
        Listing::LookedUp => names.looked_up(&name),
    })?;
    Ok(names.finish())
}

/// Requests that the kernel sends without waiting, at most: four megabytes and more under way each way.
const MAX_BACKGROUND: u16 = 64;

/// What is taken of what the kernel offers.
const WANTED: &[u64] = &[
    // Several reads of one file at once. Not ASYNC_DIO: who waits for such a read can't be killed.
    init::ASYNC_READ,
    // Requests of a megabyte.
    init::BIG_WRITES | init::MAX_PAGES,
    // Names come with their attributes where a program looks at them.
    init::DO_READDIRPLUS | init::READDIRPLUS_AUTO,
    init::PARALLEL_DIROPS,
    init::CACHE_SYMLINKS,
    // Opening and closing are no requests at all.
    init::NO_OPEN_SUPPORT | init::NO_OPENDIR_SUPPORT,
    // Set-user-id and set-group-id are dropped here, when the request says so. Without it the kernel asks for
    // `security.capability` at every write(2), with it at the first of each inode.
    init::HANDLE_KILLPRIV_V2,
    // Pages stay until we say otherwise, whatever becomes of size and times.
    init::EXPLICIT_INVAL_DATA,
    init::INIT_EXT,
];

fn agree(offer: &Offer, options: &SessionOptions) -> Result<Agreed, Errno> {
    // A newer major version would be tried again by the kernel in ours, but there is none.
    if offer.major != abi::MAJOR || offer.minor < abi::OLDEST_MINOR {
        return Err(Errno::PROTO);
    }
    let writeback = if options.writes == Writes::Back { init::WRITEBACK_CACHE } else { 0 };
    let wanted = WANTED.iter().fold(writeback, |all, flags| all | flags);
    Ok(Agreed {
        minor: offer.minor.min(abi::MINOR),
        max_readahead: offer.max_readahead,
        flags: wanted & offer.flags,
        max_background: MAX_BACKGROUND,
        congestion_threshold: MAX_BACKGROUND / 4 * 3,
    })
}
