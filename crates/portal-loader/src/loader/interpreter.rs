//! Maps the program's own loader, ld.so, as the kernel would have done.
//!
//! No mapping is ever writable and executable, nor becomes executable later.

use core::mem::MaybeUninit;
use core::slice;

use crate::program::{Header, Program};
use crate::sys::{self, File};

/// Room for the file's header and for the program headers after it: ld.so has about ten.
const HEAD: usize = 1_024;

const PAGE: usize = 4_096;

const FLAG_X: u32 = 1;
const FLAG_W: u32 = 2;
const FLAG_R: u32 = 4;

/// What an ELF file of 64 bits for x86-64 begins with.
const MAGIC: &[u8] = b"\x7fELF\x02\x01\x01";
const SHARED_OBJECT: u16 = 3;
const X86_64: u16 = 62;

/// The header of an ELF file.
#[repr(C)]
struct FileHeader {
    magic: [u8; 16],
    kind: u16,
    machine: u16,
    _version: u32,
    entry: usize,
    headers: usize,
    _sections: usize,
    _flags: u32,
    _size: u16,
    size_of_header: u16,
    count: u16,
}

/// Longest path, with `.next` and a NUL after it.
const MAX_PATH: usize = 64;

/// The link beside the loader that leads to the program's own one; nothing when the program is static.
pub fn open(program: &Program) -> Result<Option<File>, ()> {
    const NEXT: &[u8] = b".next\0";
    let mut path = [0; MAX_PATH];
    let parts = program.path().iter().chain(NEXT);
    // The path of a program has at most half of the room.
    for (to, from) in path.iter_mut().zip(parts) {
        *to = *from;
    }
    match File::open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(sys::ENOENT) => Ok(None),
        Err(_) => Err(()),
    }
}

/// Aligned as its headers must be.
#[repr(C, align(8))]
struct Head([MaybeUninit<u8>; HEAD]);

/// Maps `file` and gives its address and that of its entry.
pub fn map(file: File) -> Option<(usize, usize)> {
    let mut head = Head([const { MaybeUninit::uninit() }; HEAD]);
    let head = file.read(&mut head.0);
    if head.len() < size_of::<FileHeader>() || !head.starts_with(MAGIC) {
        return None;
    }
    // SAFETY: long enough, aligned as the buffer is, and every value of these integers is valid.
    let header = unsafe { &*head.as_ptr().cast::<FileHeader>() };
    let size = usize::from(header.count) * size_of::<Header>();
    let is_ours = header.kind == SHARED_OBJECT
        && header.machine == X86_64
        && usize::from(header.size_of_header) == size_of::<Header>()
        && header.headers % align_of::<Header>() == 0;
    let end = header.headers.checked_add(size)?;
    if !is_ours || end > head.len() {
        return None;
    }
    // SAFETY: inside what was read, aligned, and every value of these integers is valid.
    let headers = unsafe {
        let at = head.as_ptr().add(header.headers).cast::<Header>();
        slice::from_raw_parts(at, usize::from(header.count))
    };
    let base = map_segments(&file, headers)?;
    Some((base, base.wrapping_add(header.entry)))
}

/// Maps all segments at a place that the kernel chooses, and gives what is to be added to their addresses.
fn map_segments(file: &File, headers: &[Header]) -> Option<usize> {
    let loads = || headers.iter().filter(|header| header.is_load());
    let begin = loads().map(|load| down(load.address)).min()?;
    let mut end = 0;
    for load in loads() {
        end = end.max(up(load.address.checked_add(load.in_memory)?)?);
    }
    let base = sys::reserve(end.checked_sub(begin)?)?.wrapping_sub(begin);
    for load in loads() {
        map_segment(file, load, base)?;
    }
    Some(base)
}

fn map_segment(file: &File, load: &Header, base: usize) -> Option<()> {
    if load.flags & FLAG_W != 0 && load.flags & FLAG_X != 0 || load.in_file > load.in_memory {
        return None;
    }
    let protection = [(FLAG_R, sys::PROT_READ), (FLAG_W, sys::PROT_WRITE), (FLAG_X, sys::PROT_EXEC)]
        .iter()
        .filter(|(flag, _)| load.flags & flag != 0)
        .fold(0, |all, (_, protection)| all | protection);
    let into = load.address % PAGE;
    let at = base.wrapping_add(load.address - into);
    let from_file = up(into.checked_add(load.in_file)?)?;
    if load.in_file > 0 {
        // SAFETY: inside the range that was reserved for this.
        unsafe { file.map_at(at, from_file, protection, load.offset.checked_sub(into)?)? };
    }
    if load.in_memory > load.in_file {
        let begin = at + into + load.in_file;
        let end = at.checked_add(up(into.checked_add(load.in_memory)?)?)?;
        let pages = if load.in_file > 0 { at + from_file } else { at };
        if load.in_file > 0 && load.flags & FLAG_W != 0 {
            // SAFETY: the rest of the segment's last page, just mapped for writing, and nobody else's.
            unsafe { core::ptr::write_bytes(begin as *mut u8, 0, pages - begin) };
        }
        if end > pages {
            // SAFETY: as above.
            unsafe { sys::map_zeros_at(pages, end - pages, protection)? };
        }
    }
    Some(())
}

fn down(address: usize) -> usize {
    address - address % PAGE
}

fn up(address: usize) -> Option<usize> {
    address.checked_add(PAGE - 1).map(down)
}
