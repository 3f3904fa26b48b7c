//! One ELF file, as far as the loader looks at it before it runs: architecture, interpreter, needed libraries and
//! where they are to be searched.
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

fn parse<'data, R: ReadRef<'data>>(data: R) -> Result<Elf, ElfError> {
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
    for segment in segments {
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
        assert_eq!(parse(&TestElf::default().bytes()[..]).unwrap(), Elf::default(), "a static program");
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
