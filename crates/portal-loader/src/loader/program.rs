//! Where the kernel has put the program and what it says of it: the auxiliary vector on the stack (getauxval(3)),
//! the program's headers, and the path by which the program names the loader.

use core::slice;

const AT_NULL: usize = 0;
const AT_PHDR: usize = 3;
const AT_PHNUM: usize = 5;
const AT_BASE: usize = 7;
const AT_ENTRY: usize = 9;

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;

/// Longest path by which `wrap` names the loader.
const MAX_PATH: usize = 32;

/// A program header, as it is in every ELF file of 64 bits.
#[repr(C)]
pub struct Header {
    pub kind: u32,
    pub flags: u32,
    pub offset: usize,
    pub address: usize,
    _physical: usize,
    pub in_file: usize,
    pub in_memory: usize,
    _align: usize,
}

impl Header {
    pub fn is_load(&self) -> bool {
        self.kind == PT_LOAD
    }
}

/// What the kernel passes to a new program.
pub struct Begin {
    pub headers: usize,
    count: usize,
    pub entry: usize,
    /// The vector's word with the address of the interpreter; null when there is none.
    base: *mut usize,
}

impl Begin {
    /// # Safety
    /// `stack` is the stack pointer at the entry of a new program.
    pub unsafe fn read(stack: *mut usize) -> Self {
        let mut begin = Begin { headers: 0, count: 0, entry: 0, base: core::ptr::null_mut() };
        // SAFETY: there lie the count of arguments, their pointers, a null, those of the environment, a null, and
        // then pairs of words up to one that begins with AT_NULL.
        unsafe {
            let mut next = stack.add(*stack + 2);
            while *next != 0 {
                next = next.add(1);
            }
            next = next.add(1);
            while *next != AT_NULL {
                let value = next.add(1);
                match *next {
                    AT_PHDR => begin.headers = *value,
                    AT_PHNUM => begin.count = *value,
                    AT_ENTRY => begin.entry = *value,
                    AT_BASE => begin.base = value,
                    _ => {}
                }
                next = next.add(2);
            }
        }
        begin
    }

    /// Tells the program that its interpreter is at `base`.
    ///
    /// # Safety
    /// The stack is still as it was read.
    pub unsafe fn set_base(&self, base: usize) {
        if !self.base.is_null() {
            // SAFETY: it points into the auxiliary vector, which is ours to write.
            unsafe { *self.base = base };
        }
    }
}

/// The program as `wrap` has left it.
pub struct Program {
    /// The path by which it names the loader, without the NUL at its end.
    path: &'static [u8],
}

impl Program {
    /// # Safety
    /// The kernel has mapped a program as `begin` says.
    pub unsafe fn find(begin: &Begin) -> Option<Self> {
        if begin.headers == 0 {
            return None;
        }
        // SAFETY: AT_PHDR and AT_PHNUM are the address and number of the headers, which stay mapped.
        let headers = unsafe { slice::from_raw_parts(begin.headers as *const Header, begin.count) };
        let interpreter = headers.iter().find(|header| header.kind == PT_INTERP)?;
        let bias = bias(headers, begin.headers)?;
        if !(2..=MAX_PATH).contains(&interpreter.in_file) {
            return None;
        }
        let at = bias.wrapping_add(interpreter.address) as *const u8;
        // SAFETY: `wrap` names only bytes that the kernel maps with the program, and the kernel has read the same
        // bytes from the file as our path.
        let path = unsafe { slice::from_raw_parts(at, interpreter.in_file) };
        let (end, path) = path.split_last()?;
        (*end == 0 && path.first() == Some(&b'/')).then_some(Program { path })
    }

    pub fn path(&self) -> &[u8] {
        self.path
    }

    /// Whether the program may make code while it runs: the loader's name begins with a `j`.
    pub fn makes_code(&self) -> bool {
        let name = self.path.rsplit(|byte| *byte == b'/').next();
        name.and_then(<[u8]>::first) == Some(&b'j')
    }
}

/// How far the program lies from the addresses in its headers. Programs that were linked to lie anywhere have a
/// header for the headers themselves; in others they follow the file's own header, in the first segment.
fn bias(headers: &[Header], at: usize) -> Option<usize> {
    const SIZE_OF_FILE_HEADER: usize = 64;
    if let Some(header) = headers.iter().find(|header| header.kind == PT_PHDR) {
        return Some(at.wrapping_sub(header.address));
    }
    let first = headers.iter().find(|header| header.is_load() && header.offset == 0)?;
    Some(at.wrapping_sub(SIZE_OF_FILE_HEADER).wrapping_sub(first.address))
}
