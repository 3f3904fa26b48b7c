//! What a file system does, in words of ours: [`crate::fuse`] turns the kernel's requests into calls of
//! [`Operations`], so that the file system itself knows nothing of how it is mounted.
//!
//! Numbers and rules are those of inode(7), and of the request of the same name in the kernel's
//! `include/uapi/linux/fuse.h`. The kernel checks permissions by the attributes it is given (`default_permissions`),
//! and keeps names, attributes and pages until it forgets them: nobody else changes the files of a subjob.

use std::ffi::OsStr;
use std::time::Duration;

use rustix::io::Errno;

/// An inode's number, never used twice in the life of a store.
pub type Ino = u64;

/// The directory at the top.
pub const ROOT: Ino = 1;

/// A point in time, as signed seconds since 1970 and nanoseconds after them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Time {
    pub seconds: i64,
    /// Less than 1,000,000,000.
    pub nanoseconds: u32,
}

/// What stat(2) tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub ino: Ino,
    /// Kind and permissions, as in `st_mode`.
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of a device file.
    pub device: u32,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
}

/// What setattr is to change; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Permissions; the kind in it is ignored.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<SetTime>,
    pub modified: Option<SetTime>,
    /// Sent by a kernel that keeps times itself.
    pub changed: Option<Time>,
    /// Whether set-user-id and set-group-id end with this change, because somebody without the right to keep them
    /// makes it (`FATTR_KILL_SUIDGID`).
    pub drops_set_id: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    Now,
    To(Time),
}

/// On whose behalf something is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

/// What to do if the new name of a rename is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    Replace,
    /// `RENAME_NOREPLACE`
    Keep,
    /// `RENAME_EXCHANGE`
    Exchange,
}

/// What setxattr does about an attribute that is there, or that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetXattr {
    Any,
    /// `XATTR_CREATE`
    Create,
    /// `XATTR_REPLACE`
    Replace,
}

/// What fallocate(2) does to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Reserves space; the file grows if the range ends behind it.
    Grow,
    /// Reserves space; the size stays.
    KeepSize,
    /// `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`
    PunchHole,
    /// `FALLOC_FL_ZERO_RANGE`; the file grows if the range ends behind it.
    ZeroRange,
    /// `FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE`
    ZeroRangeKeepSize,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    pub name: &'a OsStr,
    /// Where reading goes on after this name; stays true while names come and go. 0 is the beginning.
    pub cookie: u64,
    pub attributes: &'a Attributes,
}

/// Whether [`Operations::read_names`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// The name was taken; give the next one.
    More,
    /// There was no room for the name: it was not taken.
    Full,
}

/// How many names readdir returns are also looked up (READDIRPLUS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Names alone.
    Names,
    /// Each name that is taken, other than `.` and `..`, counts as looked up once.
    LookedUp,
}

/// Size and use of the whole, as statfs(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes of a block, in which the next three are counted.
    pub block: u32,
    pub blocks: u64,
    pub free: u64,
    pub inodes: u64,
    pub free_inodes: u64,
}

/// Which way data goes, for the throttle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

/// A file system. Called from several threads at once; no call waits for the kernel.
///
/// Each function returns what the system call of its name would fail with. Every call that returns attributes of a
/// name (`look_up`, `make_*`, `link`, and `read_names` with [`Listing::LookedUp`]) counts as one look-up, and the
/// inode lives until as many are forgotten, whatever becomes of its names. There are no handles: the kernel holds
/// an inode for as long as a file of it is open.
pub trait Operations: Send + Sync {
    fn look_up(&self, parent: Ino, name: &OsStr) -> Result<Attributes, Errno>;
    fn forget(&self, ino: Ino, count: u64);

    fn attributes(&self, ino: Ino) -> Result<Attributes, Errno>;
    fn change(&self, caller: Caller, ino: Ino, changes: &Changes) -> Result<Attributes, Errno>;

    /// A regular file, named pipe, socket or device, by the kind in `mode`. `mode` has the umask applied already.
    fn make_node(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        device: u32,
    ) -> Result<Attributes, Errno>;
    fn make_directory(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
    ) -> Result<Attributes, Errno>;
    fn make_symlink(
        &self,
        caller: Caller,
        parent: Ino,
        name: &OsStr,
        target: &[u8],
    ) -> Result<Attributes, Errno>;
    /// A regular file without a name (`O_TMPFILE`).
    fn make_unnamed(&self, caller: Caller, parent: Ino, mode: u32) -> Result<Attributes, Errno>;
    fn read_symlink(&self, ino: Ino) -> Result<Vec<u8>, Errno>;
    fn link(&self, ino: Ino, parent: Ino, name: &OsStr) -> Result<Attributes, Errno>;
    fn unlink(&self, parent: Ino, name: &OsStr) -> Result<(), Errno>;
    fn remove_directory(&self, parent: Ino, name: &OsStr) -> Result<(), Errno>;
    fn rename(
        &self,
        parent: Ino,
        name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
        how: Rename,
    ) -> Result<(), Errno>;
    /// Names behind `cookie`, `.` and `..` first, until `take` says [`Take::Full`] or there are no more.
    fn read_names(
        &self,
        ino: Ino,
        cookie: u64,
        listing: Listing,
        take: &mut dyn FnMut(Name<'_>) -> Take,
    ) -> Result<(), Errno>;

    /// Fills `buffer` from the byte `offset` on and returns how many bytes there were.
    fn read(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno>;
    /// Writes all of `data` from the byte `offset` on. `data` is scratch space afterwards.
    fn write(&self, ino: Ino, offset: u64, data: &mut [u8], drops_set_id: bool) -> Result<(), Errno>;
    /// Returns when what was written is where the store keeps it.
    fn sync(&self, ino: Ino) -> Result<(), Errno>;
    fn allocate(&self, ino: Ino, how: Allocate, offset: u64, length: u64) -> Result<(), Errno>;
    /// Copies at most `length` bytes and returns how many.
    fn copy(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, length: u64) -> Result<u64, Errno>;

    fn xattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>, Errno>;
    fn set_xattr(&self, ino: Ino, name: &OsStr, value: &[u8], how: SetXattr) -> Result<(), Errno>;
    /// Names, each ended by a zero byte.
    fn xattr_names(&self, ino: Ino) -> Result<Vec<u8>, Errno>;
    fn remove_xattr(&self, ino: Ino, name: &OsStr) -> Result<(), Errno>;

    fn space(&self) -> Space;
    /// How long a request that moves `bytes` has to wait for its turn; the bytes count as moved.
    fn pace(&self, direction: Direction, bytes: usize) -> Duration;
}
