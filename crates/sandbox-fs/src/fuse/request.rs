//! What the kernel asks, read from bytes. The kernel is trusted, but nothing here believes it: whatever does not read
//! as a request is EINVAL.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use super::abi::{self, Opcode, valid};
use crate::operations::{Allocate, Changes, Ino, Listing, Rename, SetTime, SetXattr, Time};

/// `struct fuse_in_header`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub opcode: u32,
    /// Names the request; the answer carries it.
    pub unique: u64,
    pub ino: Ino,
    pub uid: u32,
    pub gid: u32,
    /// Bytes at the end that hold extensions. None are asked for at INIT.
    extensions: usize,
}

impl Header {
    /// Nothing if there are too few bytes for a header: then there is nobody to answer.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        Header::read(&mut Fields(bytes)).ok()
    }

    fn read(fields: &mut Fields<'_>) -> Result<Header, Errno> {
        let _length = fields.u32()?;
        let (opcode, unique, ino) = (fields.u32()?, fields.u64()?, fields.u64()?);
        let (uid, gid, _process) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let extensions = usize::from(fields.u16()?) * 8;
        let _padding = fields.u16()?;
        Ok(Header { opcode, unique, ino, uid, gid, extensions })
    }
}

/// A request with all it says. Names and data lie in the buffer that the request was read into.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Init(Offer),
    LookUp {
        parent: Ino,
        name: &'a OsStr,
    },
    Forget(Forgotten<'a>),
    Attributes {
        ino: Ino,
    },
    Change {
        ino: Ino,
        changes: Changes,
    },
    ReadSymlink {
        ino: Ino,
    },
    MakeSymlink {
        parent: Ino,
        name: &'a OsStr,
        target: &'a [u8],
    },
    MakeNode {
        parent: Ino,
        name: &'a OsStr,
        mode: u32,
        device: u32,
    },
    MakeDirectory {
        parent: Ino,
        name: &'a OsStr,
        mode: u32,
    },
    /// Makes a regular file without a name and opens it.
    MakeUnnamed {
        parent: Ino,
        mode: u32,
    },
    Unlink {
        parent: Ino,
        name: &'a OsStr,
    },
    RemoveDirectory {
        parent: Ino,
        name: &'a OsStr,
    },
    Rename {
        parent: Ino,
        name: &'a OsStr,
        new_parent: Ino,
        new_name: &'a OsStr,
        how: Rename,
    },
    Link {
        ino: Ino,
        parent: Ino,
        name: &'a OsStr,
    },
    Read {
        ino: Ino,
        offset: u64,
        buffer: &'a mut [u8],
    },
    Write {
        ino: Ino,
        offset: u64,
        data: &'a mut [u8],
        drops_set_id: bool,
    },
    Sync {
        ino: Ino,
    },
    Allocate {
        ino: Ino,
        how: Allocate,
        offset: u64,
        length: u64,
    },
    Copy {
        from: Ino,
        from_offset: u64,
        to: Ino,
        to_offset: u64,
        length: u64,
        told: Told,
    },
    ReadNames {
        ino: Ino,
        cookie: u64,
        listing: Listing,
        buffer: &'a mut [u8],
    },
    SetXattr {
        ino: Ino,
        name: &'a OsStr,
        value: &'a [u8],
        how: SetXattr,
    },
    /// `room` is how many bytes the value may have; 0 asks for its size.
    Xattr {
        ino: Ino,
        name: &'a OsStr,
        room: usize,
    },
    XattrNames {
        ino: Ino,
        room: usize,
    },
    RemoveXattr {
        ino: Ino,
        name: &'a OsStr,
    },
    Space,
    Interrupt {
        unique: u64,
    },
    /// Closing what was never opened, or the whole mount.
    Done,
    /// Not for us to answer.
    Ignored,
    /// ENOSYS. Where the kernel can do without an answer, it will not ask again.
    Refused,
}

/// What INIT says of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub major: u32,
    pub minor: u32,
    /// Bytes.
    pub max_readahead: u32,
    pub flags: u64,
}

/// How COPY_FILE_RANGE is told how much was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    In32Bits,
    In64Bits,
}

/// Inodes and how many look-ups of each are forgotten.
#[derive(Debug)]
pub(super) enum Forgotten<'a> {
    One(Ino, u64),
    /// Pairs of eight bytes each.
    Many(&'a [u8]),
}

impl Forgotten<'_> {
    pub fn each(&self, mut forget: impl FnMut(Ino, u64)) {
        match *self {
            Forgotten::One(ino, count) => forget(ino, count),
            Forgotten::Many(pairs) => {
                let mut pairs = Fields(pairs);
                while let (Ok(ino), Ok(count)) = (pairs.u64(), pairs.u64()) {
                    forget(ino, count);
                }
            }
        }
    }
}

/// A request in parts, as it came from the kernel.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub opcode: Opcode,
    /// The structure that this opcode has; [`Opcode::arguments`] bytes.
    pub arguments: &'a [u8],
    /// Room for what comes behind it, in either direction: names and data of the request, or the data of the answer.
    pub room: &'a mut [u8],
    /// Bytes of `room` that the request fills.
    pub filled: usize,
}

impl<'a> Parts<'a> {
    /// Of the `length` bytes of a request in a buffer whose rest may be used for the answer.
    pub fn split(header: &Header, buffer: &'a mut [u8], length: usize) -> Result<Parts<'a>, Errno> {
        let opcode = Opcode::of(header.opcode).ok_or(Errno::NOSYS)?;
        let start = abi::REQUEST_HEADER + opcode.arguments();
        let filled = length.checked_sub(start + header.extensions).ok_or(Errno::INVAL)?;
        let (front, room) = buffer.split_at_mut_checked(start).ok_or(Errno::INVAL)?;
        if filled > room.len() {
            return Err(Errno::INVAL);
        }
        Ok(Parts { opcode, arguments: &front[abi::REQUEST_HEADER..], room, filled })
    }

    pub fn parse(self, header: &Header) -> Result<Request<'a>, Errno> {
        let arguments = Fields(self.arguments);
        match self.opcode {
            Opcode::Read | Opcode::ReadDir | Opcode::ReadDirPlus => {
                parse_read(header.ino, self.opcode, arguments, self.room)
            }
            Opcode::Write => parse_write(header.ino, arguments, &mut self.room[..self.filled]),
            _ => {
                let rest = Fields(&self.room[..self.filled]);
                parse_about_names(header.ino, self.opcode, arguments, rest)
            }
        }
    }
}

fn parse_read<'a>(
    ino: Ino,
    opcode: Opcode,
    mut arguments: Fields<'_>,
    room: &'a mut [u8],
) -> Result<Request<'a>, Errno> {
    let (_handle, offset, size) = (arguments.u64()?, arguments.u64()?, arguments.u32()?);
    let buffer = room.get_mut(..size as usize).ok_or(Errno::INVAL)?;
    Ok(match opcode {
        Opcode::ReadDir => Request::ReadNames { ino, cookie: offset, listing: Listing::Names, buffer },
        Opcode::ReadDirPlus => Request::ReadNames { ino, cookie: offset, listing: Listing::LookedUp, buffer },
        _ => Request::Read { ino, offset: within(offset, 0)?, buffer },
    })
}

fn parse_write<'a>(ino: Ino, mut arguments: Fields<'_>, data: &'a mut [u8]) -> Result<Request<'a>, Errno> {
    let (_handle, offset) = (arguments.u64()?, arguments.u64()?);
    let (size, flags) = (arguments.u32()?, arguments.u32()?);
    if data.len() != size as usize {
        return Err(Errno::INVAL);
    }
    let drops_set_id = flags & abi::WRITE_KILL_SUIDGID != 0;
    Ok(Request::Write { ino, offset: within(offset, u64::from(size))?, data, drops_set_id })
}

fn parse_about_names<'a>(
    parent: Ino,
    opcode: Opcode,
    mut arguments: Fields<'_>,
    mut rest: Fields<'a>,
) -> Result<Request<'a>, Errno> {
    Ok(match opcode {
        Opcode::LookUp => Request::LookUp { parent, name: rest.name()? },
        Opcode::Unlink => Request::Unlink { parent, name: rest.name()? },
        Opcode::RmDir => Request::RemoveDirectory { parent, name: rest.name()? },
        Opcode::SymLink => Request::MakeSymlink { parent, name: rest.name()?, target: rest.until_zero()? },
        Opcode::MkNod => {
            let (mode, device) = (arguments.u32()?, arguments.u32()?);
            Request::MakeNode { parent, name: rest.name()?, mode, device }
        }
        Opcode::MkDir => Request::MakeDirectory { parent, mode: arguments.u32()?, name: rest.name()? },
        Opcode::TmpFile => {
            let (_flags, mode) = (arguments.u32()?, arguments.u32()?);
            Request::MakeUnnamed { parent, mode }
        }
        Opcode::Rename => {
            let new_parent = arguments.u64()?;
            let (name, new_name) = (rest.name()?, rest.name()?);
            Request::Rename { parent, name, new_parent, new_name, how: Rename::Replace }
        }
        Opcode::Rename2 => {
            let (new_parent, how) = (arguments.u64()?, how_to_rename(arguments.u32()?)?);
            let (name, new_name) = (rest.name()?, rest.name()?);
            Request::Rename { parent, name, new_parent, new_name, how }
        }
        Opcode::Link => Request::Link { ino: arguments.u64()?, parent, name: rest.name()? },
        _ => return parse_about_inode(parent, opcode, arguments, rest),
    })
}

fn parse_about_inode<'a>(
    ino: Ino,
    opcode: Opcode,
    mut arguments: Fields<'_>,
    mut rest: Fields<'a>,
) -> Result<Request<'a>, Errno> {
    Ok(match opcode {
        Opcode::GetAttr => Request::Attributes { ino },
        Opcode::SetAttr => Request::Change { ino, changes: parse_changes(arguments)? },
        Opcode::ReadLink => Request::ReadSymlink { ino },
        Opcode::FSync => Request::Sync { ino },
        Opcode::FAllocate => {
            let (_handle, offset, length) = (arguments.u64()?, arguments.u64()?, arguments.u64()?);
            let how = how_to_allocate(arguments.u32()?)?;
            Request::Allocate { ino, how, offset: within(offset, length)?, length }
        }
        Opcode::CopyFileRange => parse_copy(ino, arguments, Told::In32Bits)?,
        Opcode::CopyFileRange64 => parse_copy(ino, arguments, Told::In64Bits)?,
        Opcode::SetXattr => {
            let (size, flags) = (arguments.u32()? as usize, arguments.u32()?);
            let name = rest.xattr_name()?;
            let value = rest.0.get(..size).ok_or(Errno::INVAL)?;
            Request::SetXattr { ino, name, value, how: how_to_set(flags)? }
        }
        Opcode::GetXattr => Request::Xattr { ino, name: rest.xattr_name()?, room: arguments.u32()? as usize },
        Opcode::ListXattr => Request::XattrNames { ino, room: arguments.u32()? as usize },
        Opcode::RemoveXattr => Request::RemoveXattr { ino, name: rest.xattr_name()? },
        Opcode::Forget => Request::Forget(Forgotten::One(ino, arguments.u64()?)),
        Opcode::BatchForget => {
            let bytes = arguments.u32()? as usize * 16;
            Request::Forget(Forgotten::Many(rest.0.get(..bytes).ok_or(Errno::INVAL)?))
        }
        Opcode::StatFs => Request::Space,
        Opcode::Init => Request::Init(parse_init(arguments, rest)?),
        Opcode::Interrupt => Request::Interrupt { unique: arguments.u64()? },
        Opcode::Release | Opcode::ReleaseDir | Opcode::Destroy => Request::Done,
        Opcode::NotifyReply => Request::Ignored,
        // CREATE: MKNOD does as well, and what was not opened by a request is not closed by one.
        // OPEN, OPENDIR, FLUSH and FSYNCDIR: nothing is to be done, and the kernel never asks again.
        // LSEEK: holes are only known to the kernel, which has data that was not written yet.
        // Locks, ACCESS, BMAP, POLL, IOCTL and STATX: the kernel does all by itself.
        _ => Request::Refused,
    })
}

fn parse_init(mut arguments: Fields<'_>, mut rest: Fields<'_>) -> Result<Offer, Errno> {
    let (major, minor) = (arguments.u32()?, arguments.u32()?);
    let (max_readahead, flags) = (arguments.u32()?, u64::from(arguments.u32()?));
    let more = if flags & abi::init::INIT_EXT != 0 { u64::from(rest.u32()?) } else { 0 };
    Ok(Offer { major, minor, max_readahead, flags: flags | more << 32 })
}

fn parse_changes(mut arguments: Fields<'_>) -> Result<Changes, Errno> {
    let (flags, _padding, _handle) = (arguments.u32()?, arguments.u32()?, arguments.u64()?);
    let (size, _lock_owner) = (arguments.u64()?, arguments.u64()?);
    let seconds = [arguments.u64()?, arguments.u64()?, arguments.u64()?];
    let nanoseconds = [arguments.u32()?, arguments.u32()?, arguments.u32()?];
    let (mode, _unused, uid, gid) = (arguments.u32()?, arguments.u32()?, arguments.u32()?, arguments.u32()?);
    let has = |bit| flags & bit != 0;
    let time = |which: usize| Time {
        seconds: seconds[which].cast_signed(),
        nanoseconds: nanoseconds[which].min(999_999_999),
    };
    let set = |bit, now, which| {
        let to = || if has(now) { SetTime::Now } else { SetTime::To(time(which)) };
        has(bit).then(to)
    };
    Ok(Changes {
        mode: has(valid::MODE).then_some(mode),
        uid: has(valid::UID).then_some(uid),
        gid: has(valid::GID).then_some(gid),
        size: if has(valid::SIZE) { Some(within(size, 0)?) } else { None },
        accessed: set(valid::ATIME, valid::ATIME_NOW, 0),
        modified: set(valid::MTIME, valid::MTIME_NOW, 1),
        changed: has(valid::CTIME).then(|| time(2)),
        drops_set_id: has(valid::KILL_SUIDGID),
    })
}

fn parse_copy(from: Ino, mut arguments: Fields<'_>, told: Told) -> Result<Request<'static>, Errno> {
    let (_handle, from_offset) = (arguments.u64()?, arguments.u64()?);
    let (to, _to_handle, to_offset) = (arguments.u64()?, arguments.u64()?, arguments.u64()?);
    let (length, flags) = (arguments.u64()?, arguments.u64()?);
    if flags != 0 {
        return Err(Errno::INVAL);
    }
    let length = match told {
        // The answer is bytes in 32 bits; a copy may stop early.
        Told::In32Bits => length.min(u64::from(u32::MAX) & !0xfff),
        Told::In64Bits => length,
    };
    let (from_offset, to_offset) = (within(from_offset, length)?, within(to_offset, length)?);
    Ok(Request::Copy { from, from_offset, to, to_offset, length, told })
}

/// `offset`, if a range of `length` from there on ends where a file can end.
fn within(offset: u64, length: u64) -> Result<u64, Errno> {
    let end = offset.checked_add(length).ok_or(Errno::INVAL)?;
    if end <= i64::MAX.cast_unsigned() { Ok(offset) } else { Err(Errno::INVAL) }
}

fn how_to_rename(flags: u32) -> Result<Rename, Errno> {
    Ok(match flags {
        0 => Rename::Replace,
        1 => Rename::Keep,
        2 => Rename::Exchange,
        _ => return Err(Errno::INVAL),
    })
}

fn how_to_allocate(mode: u32) -> Result<Allocate, Errno> {
    Ok(match mode {
        0x00 => Allocate::Grow,
        0x01 => Allocate::KeepSize,
        0x03 => Allocate::PunchHole,
        0x10 => Allocate::ZeroRange,
        0x11 => Allocate::ZeroRangeKeepSize,
        _ => return Err(Errno::OPNOTSUPP),
    })
}

fn how_to_set(flags: u32) -> Result<SetXattr, Errno> {
    Ok(match flags {
        0 => SetXattr::Any,
        1 => SetXattr::Create,
        2 => SetXattr::Replace,
        _ => return Err(Errno::INVAL),
    })
}

/// Bytes that are read from the front, in the order of this machine.
#[derive(Clone, Copy, Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, Errno> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, Errno> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Errno> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Bytes up to a zero, which is taken as well.
    fn until_zero(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Errno::INVAL)?;
        let (taken, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(taken)
    }

    /// A name in a directory. The kernel sends longer ones than we keep.
    fn name(&mut self) -> Result<&'a OsStr, Errno> {
        let name = self.until_zero()?;
        if name.is_empty() || name.contains(&b'/') {
            return Err(Errno::INVAL);
        }
        if name.len() > abi::LONGEST_NAME {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(OsStr::from_bytes(name))
    }

    fn xattr_name(&mut self) -> Result<&'a OsStr, Errno> {
        let name = self.until_zero()?;
        if name.is_empty() { Err(Errno::INVAL) } else { Ok(OsStr::from_bytes(name)) }
    }
}
