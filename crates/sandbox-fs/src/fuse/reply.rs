//! What the kernel is answered, in its structures.

use rustix::io::Errno;

use super::abi;
use super::request::Told;
use crate::operations::{Attributes, Name, Space, Take, Time};

/// How long the kernel may keep names and attributes, in seconds: for good. Nobody but this mount changes the files.
const FOREVER: u64 = 1 << 30;

/// Bytes of `st_blksize`.
const BLOCK: u32 = 4096;

/// An answer, without its header.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// Nobody waits for one.
    None,
    Failed(Errno),
    Fixed(Fixed),
    /// Data in the buffer of the request.
    Data(&'a [u8]),
    Owned(Vec<u8>),
}

impl Answer<'_> {
    /// The answer that says no more than that it is done.
    pub const DONE: Answer<'static> = Answer::Fixed(Fixed { bytes: [0; Fixed::MOST], length: 0 });

    pub fn bytes(&self) -> &[u8] {
        match self {
            Answer::None | Answer::Failed(_) => &[],
            Answer::Fixed(fixed) => &fixed.bytes[..fixed.length],
            Answer::Data(data) => data,
            Answer::Owned(data) => data,
        }
    }

    /// `struct fuse_out_header`
    pub fn header(&self, unique: u64) -> [u8; abi::ANSWER_HEADER] {
        let length = abi::ANSWER_HEADER + self.bytes().len();
        let error = if let Answer::Failed(error) = self { -error.raw_os_error() } else { 0 };
        let length = u32::try_from(length).expect("no answer is longer than a megabyte and some");
        Packed::new().u32(length).u32(error.cast_unsigned()).u64(unique).finish()
    }

    fn fixed<const N: usize>(bytes: &[u8; N]) -> Answer<'static> {
        const { assert!(N <= Fixed::MOST) };
        let mut fixed = Fixed { bytes: [0; Fixed::MOST], length: N };
        fixed.bytes[..N].copy_from_slice(bytes);
        Answer::Fixed(fixed)
    }

    /// A name that is there, and of which the kernel has looked up once more what it names.
    pub fn entry(attributes: &Attributes) -> Answer<'static> {
        Answer::fixed(&entry(attributes))
    }

    /// A name that is not there; the kernel remembers that as well.
    pub fn no_entry() -> Answer<'static> {
        let nobody: [u8; ENTRY] = Packed::new().u64(0).u64(0).u64(FOREVER).zeros(ENTRY - 24).finish();
        Answer::fixed(&nobody)
    }

    /// A file that was made and opened. It has no handle.
    pub fn opened(attributes: &Attributes) -> Answer<'static> {
        let packed = Packed::new().bytes(&entry(attributes));
        Answer::fixed::<{ ENTRY + 16 }>(&packed.u64(0).u32(abi::KEEP_CACHE).u32(0).finish())
    }

    pub fn attributes(of: &Attributes) -> Answer<'static> {
        let packed = Packed::new().u64(FOREVER).u32(0).u32(0);
        Answer::fixed::<104>(&packed.bytes(&attributes(of)).finish())
    }

    /// How many bytes were written, or a value has.
    pub fn size(bytes: u32) -> Answer<'static> {
        Answer::fixed::<8>(&Packed::new().u32(bytes).u32(0).finish())
    }

    pub fn copied(bytes: u64, told: Told) -> Answer<'static> {
        match told {
            Told::In32Bits => Answer::size(u32::try_from(bytes).unwrap_or(u32::MAX)),
            Told::In64Bits => Answer::fixed(&bytes.to_ne_bytes()),
        }
    }

    /// The value of an extended attribute, or the list of their names: itself, or its size if there is no room asked.
    pub fn value(value: Vec<u8>, room: usize) -> Answer<'static> {
        match u32::try_from(value.len()) {
            Ok(size) if room == 0 => Answer::size(size),
            Ok(_) if value.len() <= room => Answer::Owned(value),
            _ => Answer::Failed(Errno::RANGE),
        }
    }

    /// `struct fuse_statfs_out`
    pub fn space(space: &Space) -> Answer<'static> {
        let packed = Packed::new().u64(space.blocks).u64(space.free).u64(space.free);
        let packed = packed.u64(space.inodes).u64(space.free_inodes);
        let packed = packed.u32(space.block).u32(abi::LONGEST_NAME as u32).u32(space.block).u32(0);
        Answer::fixed::<80>(&packed.zeros(24).finish())
    }

    /// `struct fuse_init_out`
    pub fn init(agreed: &Agreed) -> Answer<'static> {
        let packed = Packed::new().u32(abi::MAJOR).u32(agreed.minor).u32(agreed.max_readahead);
        let packed =
            packed.u32(agreed.flags as u32).u16(agreed.max_background).u16(agreed.congestion_threshold);
        // Times are kept to the nanosecond; map_alignment is of no use here.
        let packed = packed.u32(abi::MOST_DATA as u32).u32(1).u16((abi::MOST_DATA >> 12) as u16).u16(0);
        Answer::fixed::<64>(&packed.u32((agreed.flags >> 32) as u32).zeros(28).finish())
    }
}

/// What INIT agrees upon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreed {
    pub minor: u32,
    pub max_readahead: u32,
    pub flags: u64,
    pub max_background: u16,
    pub congestion_threshold: u16,
}

/// An answer of a fixed size.
#[derive(Debug)]
pub(super) struct Fixed {
    bytes: [u8; Fixed::MOST],
    length: usize,
}

impl Fixed {
    /// Bytes of the longest, that to TMPFILE.
    const MOST: usize = ENTRY + 16;
}

/// The names of a directory, packed into the buffer of a READDIR or READDIRPLUS.
#[derive(Debug)]
pub(super) struct Names<'a> {
    buffer: &'a mut [u8],
    filled: usize,
}

impl<'a> Names<'a> {
    pub fn new(buffer: &'a mut [u8]) -> Names<'a> {
        Names { buffer, filled: 0 }
    }

    /// `struct fuse_dirent`
    pub fn plain(&mut self, name: &Name<'_>) -> Take {
        self.push(&[], name)
    }

    /// `struct fuse_direntplus`
    pub fn looked_up(&mut self, name: &Name<'_>) -> Take {
        // `.` and `..` are not looked up: an inode number of zero says so.
        let dots = matches!(name.name.as_encoded_bytes(), b"." | b"..");
        let entry = if dots { [0; ENTRY] } else { entry(name.attributes) };
        self.push(&entry, name)
    }

    pub fn finish(self) -> Answer<'a> {
        Answer::Data(&self.buffer[..self.filled])
    }

    fn push(&mut self, entry: &[u8], name: &Name<'_>) -> Take {
        const FRONT: usize = 24;
        let text = name.name.as_encoded_bytes();
        let length = (entry.len() + FRONT + text.len()).next_multiple_of(8);
        let Some(record) = self.buffer.get_mut(self.filled..self.filled + length) else { return Take::Full };
        let kind = name.attributes.mode >> 12 & 0xf;
        let front: [u8; FRONT] =
            Packed::new().u64(name.attributes.ino).u64(name.cookie).u32(text.len() as u32).u32(kind).finish();
        let (to_entry, record) = record.split_at_mut(entry.len());
        let (to_front, record) = record.split_at_mut(FRONT);
        let (to_text, padding) = record.split_at_mut(text.len());
        to_entry.copy_from_slice(entry);
        to_front.copy_from_slice(&front);
        to_text.copy_from_slice(text);
        padding.fill(0);
        self.filled += length;
        Take::More
    }
}

/// Bytes of `struct fuse_entry_out`.
const ENTRY: usize = 128;
/// Bytes of `struct fuse_attr`.
const ATTRIBUTES: usize = 88;

fn entry(of: &Attributes) -> [u8; ENTRY] {
    // Numbers are not used again, so all are of generation 0.
    let packed = Packed::new().u64(of.ino).u64(0).u64(FOREVER).u64(FOREVER).u32(0).u32(0);
    packed.bytes(&attributes(of)).finish()
}

fn attributes(of: &Attributes) -> [u8; ATTRIBUTES] {
    let seconds = |time: Time| time.seconds.cast_unsigned();
    Packed::new()
        .u64(of.ino)
        .u64(of.size)
        .u64(of.blocks)
        .u64(seconds(of.accessed))
        .u64(seconds(of.modified))
        .u64(seconds(of.changed))
        .u32(of.accessed.nanoseconds)
        .u32(of.modified.nanoseconds)
        .u32(of.changed.nanoseconds)
        .u32(of.mode)
        .u32(of.links)
        .u32(of.uid)
        .u32(of.gid)
        .u32(of.device)
        .u32(BLOCK)
        .u32(0)
        .finish()
}

/// A structure of `N` bytes, filled from the front in the order of this machine.
struct Packed<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Packed<N> {
    fn new() -> Packed<N> {
        Packed { bytes: [0; N], filled: 0 }
    }

    fn bytes(mut self, bytes: &[u8]) -> Packed<N> {
        let end = self.filled + bytes.len();
        self.bytes[self.filled..end].copy_from_slice(bytes);
        self.filled = end;
        self
    }

    fn u16(self, value: u16) -> Packed<N> {
        self.bytes(&value.to_ne_bytes())
    }

    fn u32(self, value: u32) -> Packed<N> {
        self.bytes(&value.to_ne_bytes())
    }

    fn u64(self, value: u64) -> Packed<N> {
        self.bytes(&value.to_ne_bytes())
    }

    fn zeros(mut self, count: usize) -> Packed<N> {
        self.filled += count;
        self
    }

    fn finish(self) -> [u8; N] {
        debug_assert_eq!(self.filled, N, "a structure that is not filled");
        self.bytes
    }
}
