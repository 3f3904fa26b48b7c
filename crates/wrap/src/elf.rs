//! One ELF file, as far as the loader looks at it before it runs: architecture, interpreter, needed libraries and
//! where they are to be searched, and whether it asks for memory that is writable and executable.
//!
//! Only the ranges that matter are read, so a library of a gigabyte costs no more than a small one. Files come from
//! anywhere, so a damaged one must end in an error and never in a panic.

use std::fs::File;

use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef, StringTable};
use object::{Endianness, elf::ProgramHeader64};

/// What an ELF file asks of the loader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elf {
    /// PT_INTERP: the loader to be started with it. A static program or a library has none.
    pub interpreter: Option<String>,
    /// DT_NEEDED, in order.
    pub needed: Vec<String>,
    pub soname: Option<String>,
    /// DT_RPATH, left out when there is a DT_RUNPATH, as ld.so does.
    pub rpath: Option<String>,
    pub runpath: Option<String>,
    /// Whether a process can begin with it. A library may have an interpreter too: glibc's tells its version.
    pub is_program: bool,
    pub hazard: Option<Hazard>,
}

/// A wish for memory that is both writable and executable, which a subjob is not given unless its programs make code
/// while they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hazard {
    /// PT_GNU_STACK with the X flag.
    ExecutableStack,
    /// No PT_GNU_STACK at all: the kernel doesn't mind, but the loader takes it for a wish for an executable stack.
    NoStackHeader,
    /// A PT_LOAD with W and X.
    WritableCode,
    /// DT_TEXTREL or DF_TEXTREL: the loader would have to write into code.
    TextRelocations,
}

impl Hazard {
    /// What the file asks for, and how to be rid of it.
    pub fn text(self) -> &'static str {
        match self {
            Hazard::ExecutableStack => "it asks for an executable stack: link it with -z noexecstack",
            Hazard::NoStackHeader => {
                "it doesn't say that its stack need not be executable: link it with -z noexecstack"
            }
            Hazard::WritableCode => {
                "it has a segment that is writable and executable: link it without -N or omagic"
            }
            Hazard::TextRelocations => "its code must be changed to be loaded: compile it with -fPIC",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ElfError {
    /// The file does not begin with the ELF magic.
    NotElf,
    /// A sound file for another kind of processor or for 32 bits.
    Architecture(String),
    Malformed(&'static str),
}

/// Reads the ELF file `file`.
pub(crate) fn read(file: File) -> Result<Elf, ElfError> {
    parse(&ReadCache::new(file))
}

pub(crate) fn parse<'data, R: ReadRef<'data>>(data: R) -> Result<Elf, ElfError> {
    let ident = data.read_bytes_at(0, 20).map_err(|()| ElfError::NotElf)?;
    if ident[..4] != elf::ELFMAG {
        return Err(ElfError::NotElf);
    }
    check_architecture(ident)?;
    let header = FileHeader64::<Endianness>::parse(data).map_err(|_| ElfError::Malformed("bad header"))?;
    let endian = Endianness::Little;
    match header.e_type(endian) {
        elf::ET_EXEC | elf::ET_DYN => {}
        _ => return Err(ElfError::Malformed("neither an executable nor a shared library")),
    }
    let segments =
        header.program_headers(endian, data).map_err(|_| ElfError::Malformed("bad program headers"))?;
    let mut found = Elf::default();
    let mut stack = None;
    for segment in segments {
        let has = |flag: elf::ProgramFlags| segment.p_flags(endian).0 & flag.0 != 0;
        match segment.p_type(endian) {
            elf::PT_GNU_STACK => stack = Some(has(elf::PF_X)),
            elf::PT_LOAD if has(elf::PF_W) && has(elf::PF_X) => {
                found.hazard = Some(Hazard::WritableCode);
            }
            _ => {}
        }
        if let Some(path) = segment
            .interpreter(endian, data)
            .map_err(|_| ElfError::Malformed("the interpreter's name lies outside the file"))?
        {
            found.interpreter = Some(text(path)?);
        }
        if let Some(dynamic) = segment
            .dynamic(endian, data)
            .map_err(|_| ElfError::Malformed("the dynamic section lies outside the file"))?
        {
            read_dynamic(&mut found, dynamic, segments, data)?;
        }
    }
    if found.runpath.is_some() {
        found.rpath = None;
    }
    found.is_program |=
        header.e_type(endian) == elf::ET_EXEC || (found.interpreter.is_some() && found.soname.is_none());
    let is_loaded = found.interpreter.is_some() || !found.is_program;
    found.hazard = match stack {
        Some(true) => Some(Hazard::ExecutableStack),
        None if is_loaded => found.hazard.or(Some(Hazard::NoStackHeader)),
        _ => found.hazard,
    };
    Ok(found)
}

/// Looks at class, byte order and machine, whose places are the same in every ELF file. They are read by hand,
/// because a header of another class can't be parsed as ours.
fn check_architecture(ident: &[u8]) -> Result<(), ElfError> {
    let machine = match ident[5] {
        2 => u16::from_be_bytes([ident[18], ident[19]]),
        _ => u16::from_le_bytes([ident[18], ident[19]]),
    };
    let machine_name = match machine {
        3 => "x86",
        8 => "MIPS",
        20 | 21 => "PowerPC",
        22 => "S/390",
        40 => "ARM",
        62 => "x86-64",
        183 => "ARM64",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => "an unknown processor",
    };
    let bits = match ident[4] {
        1 => 32,
        2 => 64,
        _ => return Err(ElfError::Malformed("neither of 32 nor of 64 bits")),
    };
    if (machine_name, bits, ident[5]) == ("x86-64", 64, 1) {
        Ok(())
    } else {
        Err(ElfError::Architecture(format!("{machine_name} with {bits} bits")))
    }
}

fn read_dynamic<'data, R: ReadRef<'data>>(
    found: &mut Elf,
    dynamic: &[elf::Dyn64<Endianness>],
    segments: &[ProgramHeader64<Endianness>],
    data: R,
) -> Result<(), ElfError> {
    let endian = Endianness::Little;
    let before_end = || dynamic.iter().take_while(|entry| entry.tag(endian) != elf::DT_NULL);
    let value =
        |tag| before_end().find(|entry| entry.tag(endian) == tag).map(|entry| entry.d_val.get(endian));
    let Some(address) = value(elf::DT_STRTAB) else {
        return Ok(());
    };
    let start = file_offset(address, segments)
        .ok_or(ElfError::Malformed("the dynamic string table lies outside the file"))?;
    let strings: StringTable<'_, R> =
        StringTable::new(data, start, start.saturating_add(value(elf::DT_STRSZ).unwrap_or(0)));
    for entry in before_end() {
        let string = || {
            entry
                .string(endian, strings)
                .map_err(|_| ElfError::Malformed("a dynamic string lies outside its table"))
                .and_then(text)
        };
        match entry.tag(endian) {
            elf::DT_NEEDED => found.needed.push(string()?),
            elf::DT_SONAME => found.soname = Some(string()?),
            elf::DT_RPATH => found.rpath = Some(string()?),
            elf::DT_RUNPATH => found.runpath = Some(string()?),
            elf::DT_TEXTREL => found.hazard = Some(Hazard::TextRelocations),
            elf::DT_FLAGS if entry.d_val.get(endian) & elf::DF_TEXTREL.0 != 0 => {
                found.hazard = Some(Hazard::TextRelocations);
            }
            elf::DT_FLAGS_1 => found.is_program = entry.d_val.get(endian) & elf::DF_1_PIE.0 != 0,
            _ => {}
        }
    }
    Ok(())
}

/// Where in the file an address of the loaded image comes from.
fn file_offset(address: u64, segments: &[ProgramHeader64<Endianness>]) -> Option<u64> {
    let endian = Endianness::Little;
    segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD).find_map(|segment| {
        let into = address.checked_sub(segment.p_vaddr(endian))?;
        (into < segment.p_filesz(endian)).then(|| segment.p_offset(endian).checked_add(into))?
    })
}

fn text(bytes: &[u8]) -> Result<String, ElfError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ElfError::Malformed("a name in it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestElf;

    const SAMPLE: TestElf<'static> = TestElf {
        interpreter: Some("/lib64/ld.so"),
        needed: &["liba.so.1", "libb.so.2"],
        soname: Some("libself.so"),
        rpath: Some("/r"),
        runpath: None,
        executable_stack: false,
    };

    #[test]
    fn the_loader_s_wishes_are_read() {
        let found = parse(&SAMPLE.bytes()[..]).unwrap();
        assert_eq!(found.interpreter.as_deref(), Some("/lib64/ld.so"));
        assert_eq!(found.needed, ["liba.so.1", "libb.so.2"]);
        assert_eq!(found.soname.as_deref(), Some("libself.so"));
        assert_eq!(found.rpath.as_deref(), Some("/r"));
        let both = TestElf { runpath: Some("/u"), ..SAMPLE };
        let found = parse(&both.bytes()[..]).unwrap();
        assert_eq!((found.rpath, found.runpath.as_deref()), (None, Some("/u")), "RUNPATH overrides RPATH");
        assert_eq!(parse(&TestElf::default().bytes()[..]).unwrap(), Elf::default(), "a plain library");
    }

    #[test]
    fn programs_are_told_from_libraries() {
        let check = |sample: TestElf<'_>, change: &[(usize, u8)], expect: bool| {
            let mut bytes = sample.bytes();
            change.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            assert_eq!(parse(&bytes[..]).unwrap().is_program, expect, "{change:?}");
        };
        let program = TestElf { soname: None, ..SAMPLE };
        check(program, &[], true);
        check(SAMPLE, &[], false);
        check(TestElf { interpreter: None, ..program }, &[], false);
        check(TestElf { interpreter: None, ..program }, &[(16, 2)], true);
        // The first entry of the dynamic section becomes DT_FLAGS_1 with DF_1_PIE.
        let pie: Vec<(usize, u8)> = [0xfb, 0xff, 0xff, 0x6f, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]
            .into_iter()
            .enumerate()
            .map(|(at, byte)| (64 + 4 * 56 + at, byte))
            .collect();
        check(TestElf { interpreter: None, ..program }, &pie, true);
    }

    #[test]
    fn wishes_for_writable_code_are_seen() {
        const FIRST_FLAGS: usize = 64 + 4;
        const STACK_TYPE: usize = 64 + 3 * 56;
        const FIRST_DYNAMIC: usize = 64 + 4 * 56;
        let check = |sample: TestElf<'_>, change: &[(usize, u8)], expect: Option<Hazard>| {
            let mut bytes = sample.bytes();
            change.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            assert_eq!(parse(&bytes[..]).unwrap().hazard, expect, "{change:?}");
        };
        let program = TestElf { soname: None, ..SAMPLE };
        check(program, &[], None);
        check(TestElf { executable_stack: true, ..program }, &[], Some(Hazard::ExecutableStack));
        check(program, &[(FIRST_FLAGS, 7)], Some(Hazard::WritableCode));
        check(program, &[(STACK_TYPE, 0)], Some(Hazard::NoStackHeader));
        check(SAMPLE, &[(STACK_TYPE, 0)], Some(Hazard::NoStackHeader));
        check(TestElf { interpreter: None, ..program }, &[(16, 2), (STACK_TYPE, 0)], None);
        check(program, &[(FIRST_DYNAMIC, 22)], Some(Hazard::TextRelocations));
        check(program, &[(FIRST_DYNAMIC, 30), (FIRST_DYNAMIC + 8, 4)], Some(Hazard::TextRelocations));
        check(program, &[(FIRST_DYNAMIC, 30), (FIRST_DYNAMIC + 8, 8)], None);
    }

    #[test]
    fn other_machines_are_told_apart() {
        let check = |changes: &[(usize, u8)], expect: &str| {
            let mut bytes = SAMPLE.bytes();
            changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            assert_eq!(parse(&bytes[..]), Err(ElfError::Architecture(expect.into())));
        };
        check(&[(18, 183)], "ARM64 with 64 bits");
        check(&[(4, 1), (18, 3)], "x86 with 32 bits");
        check(&[(4, 1)], "x86-64 with 32 bits");
        check(&[(5, 2), (18, 0), (19, 22)], "S/390 with 64 bits");
        check(&[(18, 250)], "an unknown processor with 64 bits");
        assert_eq!(parse(&b"#!/bin/sh\necho a long enough script"[..]), Err(ElfError::NotElf));
        assert_eq!(parse(&b""[..]), Err(ElfError::NotElf));
    }

    #[test]
    fn a_damaged_file_is_an_error_at_worst() {
        let sound = SAMPLE.bytes();
        for end in 0..sound.len() {
            let cut = parse(&sound[..end]);
            assert!(cut.is_err(), "cut at {end}");
        }
        for at in 0..sound.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff, sound[at] ^ 1, sound[at].wrapping_add(8)] {
                let mut damaged = sound.clone();
                damaged[at] = byte;
                // Whatever it finds, it ends, and reads nothing beyond the file; read piece by piece or at once,
                // it finds the same.
                let cache = ReadCache::new(std::io::Cursor::new(&damaged));
                assert_eq!(parse(&damaged[..]), parse(&cache), "byte {at} as {byte}");
                for next in [0, 0xff] {
                    if let Some(second) = damaged.get_mut(at + 7) {
                        *second = next;
                    }
                    let _ = parse(&damaged[..]);
                }
            }
        }
    }
}
