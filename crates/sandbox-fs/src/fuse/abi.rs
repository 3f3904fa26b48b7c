//! Numbers of the kernel's interface (`include/uapi/linux/fuse.h`, version 7.45), under names of ours.

/// Of the interface that is spoken here.
pub(super) const MAJOR: u32 = 7;
/// The newest one known here; an older kernel's is spoken instead.
pub(super) const MINOR: u32 = 45;
/// Linux 5.4 and newer.
pub(super) const OLDEST_MINOR: u32 = 31;

/// Bytes before each request, `struct fuse_in_header`.
pub(super) const REQUEST_HEADER: usize = 40;
/// Bytes before each answer, `struct fuse_out_header`.
pub(super) const ANSWER_HEADER: usize = 16;
/// Bytes of arguments of WRITE, `struct fuse_write_in`.
pub(super) const WRITE_ARGUMENTS: usize = 40;
/// Bytes that one READ or WRITE moves at most: 256 pages, the kernel's own limit.
pub(super) const MOST_DATA: usize = 1 << 20;
/// Bytes of a name.
pub(super) const LONGEST_NAME: usize = 255;

/// What a request asks for. Those that no kernel sends to a mount like ours are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Opcode {
    LookUp = 1,
    Forget = 2,
    GetAttr = 3,
    SetAttr = 4,
    ReadLink = 5,
    SymLink = 6,
    MkNod = 8,
    MkDir = 9,
    Unlink = 10,
    RmDir = 11,
    Rename = 12,
    Link = 13,
    Open = 14,
    Read = 15,
    Write = 16,
    StatFs = 17,
    Release = 18,
    FSync = 20,
    SetXattr = 21,
    GetXattr = 22,
    ListXattr = 23,
    RemoveXattr = 24,
    Flush = 25,
    Init = 26,
    OpenDir = 27,
    ReadDir = 28,
    ReleaseDir = 29,
    FSyncDir = 30,
    GetLk = 31,
    SetLk = 32,
    SetLkW = 33,
    Access = 34,
    Create = 35,
    Interrupt = 36,
    BMap = 37,
    Destroy = 38,
    IoCtl = 39,
    Poll = 40,
    NotifyReply = 41,
    BatchForget = 42,
    FAllocate = 43,
    ReadDirPlus = 44,
    Rename2 = 45,
    LSeek = 46,
    CopyFileRange = 47,
    SyncFs = 50,
    TmpFile = 51,
    StatX = 52,
    CopyFileRange64 = 53,
}

/// All of them, by number.
pub(super) const OPCODES: &[Opcode] = {
    use Opcode::*;
    &[
        LookUp,
        Forget,
        GetAttr,
        SetAttr,
        ReadLink,
        SymLink,
        MkNod,
        MkDir,
        Unlink,
        RmDir,
        Rename,
        Link,
        Open,
        Read,
        Write,
        StatFs,
        Release,
        FSync,
        SetXattr,
        GetXattr,
        ListXattr,
        RemoveXattr,
        Flush,
        Init,
        OpenDir,
        ReadDir,
        ReleaseDir,
        FSyncDir,
        GetLk,
        SetLk,
        SetLkW,
        Access,
        Create,
        Interrupt,
        BMap,
        Destroy,
        IoCtl,
        Poll,
        NotifyReply,
        BatchForget,
        FAllocate,
        ReadDirPlus,
        Rename2,
        LSeek,
        CopyFileRange,
        SyncFs,
        TmpFile,
        StatX,
        CopyFileRange64,
    ]
};

/// More than the number of any opcode.
pub(super) const OPCODE_NUMBERS: usize = 64;

/// Where in [`OPCODES`] the opcode of a number is.
const BY_NUMBER: [Option<Opcode>; OPCODE_NUMBERS] = {
    let mut table = [None; OPCODE_NUMBERS];
    let mut at = 0;
    while at < OPCODES.len() {
        table[OPCODES[at] as usize] = Some(OPCODES[at]);
        at += 1;
    }
    table
};

impl Opcode {
    pub(super) fn of(number: u32) -> Option<Opcode> {
        *BY_NUMBER.get(usize::try_from(number).ok()?)?
    }

    /// Bytes of the structure that follows the header; names and data come behind it.
    pub(super) fn arguments(self) -> usize {
        use Opcode::*;
        match self {
            Forget | MkDir | Rename | Link | SetXattr | GetXattr | ListXattr | Interrupt | BatchForget => 8,
            // INIT has grown; what an older kernel leaves out comes behind.
            GetAttr | MkNod | Rename2 | TmpFile | FSync | Init => 16,
            FAllocate => 32,
            Read | ReadDir | ReadDirPlus => 40,
            Write => WRITE_ARGUMENTS,
            CopyFileRange | CopyFileRange64 => 56,
            SetAttr => 88,
            // A name alone, nothing, or what is refused without a look.
            _ => 0,
        }
    }
}

/// What the kernel offers and the server takes at INIT; the upper half is `flags2`.
pub(super) mod init {
    pub const ASYNC_READ: u64 = 1 << 0;
    pub const BIG_WRITES: u64 = 1 << 5;
    pub const DO_READDIRPLUS: u64 = 1 << 13;
    pub const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub const WRITEBACK_CACHE: u64 = 1 << 16;
    pub const NO_OPEN_SUPPORT: u64 = 1 << 17;
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    pub const MAX_PAGES: u64 = 1 << 22;
    pub const CACHE_SYMLINKS: u64 = 1 << 23;
    pub const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
    pub const EXPLICIT_INVAL_DATA: u64 = 1 << 25;
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    /// There are more than 32.
    pub const INIT_EXT: u64 = 1 << 30;
}

/// What SETATTR says of its fields, `fuse_setattr_in.valid`.
pub(super) mod valid {
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const CTIME: u32 = 1 << 10;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}

/// `FUSE_WRITE_KILL_SUIDGID` in `fuse_write_in.write_flags`.
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;

/// Open flags of an answer to TMPFILE: what the kernel assumes of a file whose OPEN was answered with ENOSYS.
pub(super) const KEEP_CACHE: u32 = 1 << 1;
