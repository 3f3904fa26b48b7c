//! One file of an application as a backtrace needs it: its symbols, and its rules for getting from a function to its
//! caller (.eh_frame).

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, UnwindContext, UnwindSection};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::read::{Object, ObjectSection, ObjectSymbol, ReadCache};
use object::{Endianness, SymbolKind, elf};
use rustix::fs::{CWD, FileType, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, openat, openat2};

use super::mappings::Mapping;
use super::unwind::{REGISTERS, Rule, Rules};
use crate::served::{MAX_MODULE, Tree};

/// Largest file that is looked into.
const MAX_FILE: u64 = 1 << 30;

/// Largest table of rules that is read.
const MAX_RULES: u64 = 64 << 20;

/// Largest one that is searched from its beginning, for want of an index.
const MAX_UNSORTED: u64 = 4 << 20;

/// Longest name of a function in a file, and in a report.
const MAX_NAME: usize = 4_096;
const MAX_SHOWN: usize = 160;

const PAGE: u64 = 4_096;

/// A file of the application that the host has nowhere.
fn in_memory(bytes: &[u8]) -> Option<File> {
    let mut file = File::from(memfd_create("module", MemfdFlags::CLOEXEC).ok()?);
    file.write_all(bytes).ok()?;
    Some(file)
}

pub(super) struct Module {
    file: ReadCache<File>,
}

type Elf<'a> = ElfFile64<'a, Endianness, &'a ReadCache<File>>;
type Bytes<'a> = EndianSlice<'a, LittleEndian>;

impl Module {
    /// Opens a file by its path inside the application's tree, out of which no link can lead.
    pub fn open(tree: &Tree, path: &str) -> Option<Self> {
        let file = match tree {
            Tree::Directory(root) => Module::open_inside(root, path)?,
            Tree::Served { server, root } => {
                let path = root.join(path.trim_start_matches('/'));
                in_memory(&server.load(&path, MAX_MODULE)?)?
            }
        };
        Some(Module { file: ReadCache::new(file) })
    }

    fn open_inside(root: &Path, path: &str) -> Option<File> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty()).ok()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = openat2(root, path, flags, Mode::empty(), inside).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_small = u64::try_from(stat.st_size).is_ok_and(|size| size <= MAX_FILE);
        (is_file && is_small).then(|| File::from(file))
    }

    fn elf(&self) -> Option<Elf<'_>> {
        ElfFile64::parse(&self.file).ok()
    }

    /// What was added to the file's addresses when `mapping` was made.
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        let header = elf::FileHeader64::<Endianness>::parse(&self.file).ok()?;
        let little = Endianness::Little;
        let segments = header.program_headers(little, &self.file).ok()?;
        let address = segments.iter().find_map(|segment| {
            let (offset, size) = (segment.p_offset(little), segment.p_filesz(little));
            let page = offset - offset % PAGE;
            let is_it = segment.p_type(little) == elf::PT_LOAD
                && segment.p_flags(little).0 & elf::PF_X.0 != 0
                && (page..offset.saturating_add(size)).contains(&mapping.offset);
            is_it.then(|| segment.p_vaddr(little).wrapping_add(mapping.offset).wrapping_sub(offset))
        })?;
        Some(mapping.begin.wrapping_sub(address))
    }

    /// The function at an address of the file, and where it begins.
    pub fn symbol(&self, address: u64) -> Option<(String, u64)> {
        let elf = self.elf()?;
        let holds = |symbol: &object::read::elf::ElfSymbol64<'_, '_, Endianness, &ReadCache<File>>| {
            let is_code = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown);
            let into = address.checked_sub(symbol.address());
            is_code && symbol.is_definition() && into.is_some_and(|into| into < symbol.size().max(1))
        };
        let symbol = elf.symbols().find(holds).or_else(|| elf.dynamic_symbols().find(holds))?;
        let name = symbol.name_bytes().ok().filter(|name| !name.is_empty() && name.len() <= MAX_NAME)?;
        Some((readable(&String::from_utf8_lossy(name)), symbol.address()))
    }

    /// The rules at an address of the file.
    pub fn rules(&self, address: u64) -> Option<Rules> {
        let elf = self.elf()?;
        let section = |name| {
            let section = elf.section_by_name(name)?;
            let data = (section.size() <= MAX_RULES).then(|| section.data().ok())??;
            Some((section.address(), data))
        };
        let (frames_at, frames) = section(".eh_frame")?;
        let mut bases = BaseAddresses::default().set_eh_frame(frames_at);
        let eh_frame = EhFrame::new(frames, LittleEndian);
        let found = match section(".eh_frame_hdr") {
            Some((at, index)) => {
                bases = bases.set_eh_frame_hdr(at);
                let index = EhFrameHdr::new(index, LittleEndian).parse(&bases, 8).ok()?;
                index.table()?.fde_for_address(&eh_frame, &bases, address, EhFrame::cie_from_offset)
            }
            None if frames.len() as u64 > MAX_UNSORTED => return None,
            None => eh_frame.fde_for_address(&bases, address, EhFrame::cie_from_offset),
        };
        let description = found.ok()?;
        let mut context = Box::new(UnwindContext::new());
        let row = description.unwind_info_for_address(&eh_frame, &bases, &mut context, address).ok()?;
        let gimli::CfaRule::RegisterAndOffset { register, offset } = row.cfa() else { return None };
        let mut rules = Rules {
            base: (usize::from(register.0), *offset),
            registers: [Rule::Same; REGISTERS],
            return_address: usize::from(description.cie().return_address_register().0),
        };
        for (register, rule) in row.registers() {
            if let Some(to) = rules.registers.get_mut(usize::from(register.0)) {
                *to = plain(rule);
            }
        }
        Some(rules)
    }
}

/// Rules that are little programs are not followed: only assembler code has them.
fn plain(rule: &gimli::RegisterRule<<Bytes<'_> as gimli::Reader>::Offset>) -> Rule {
    match rule {
        gimli::RegisterRule::SameValue => Rule::Same,
        gimli::RegisterRule::Offset(offset) => Rule::Saved(*offset),
        gimli::RegisterRule::ValOffset(offset) => Rule::Is(*offset),
        gimli::RegisterRule::Register(other) => Rule::In(usize::from(other.0)),
        _ => Rule::Unknown,
    }
}

/// A symbol as it was written in the source, where that can be told, and short enough to be read.
fn readable(symbol: &str) -> String {
    let name = match rustc_demangle::try_demangle(symbol) {
        Ok(name) => format!("{name:#}"),
        Err(_) => {
            let name = cpp_demangle::Symbol::new(symbol).ok();
            name.and_then(|name| name.demangle().ok()).unwrap_or_else(|| symbol.to_owned())
        }
    };
    let plain = name.chars().filter(|c| !c.is_control());
    let mut shown: String = plain.take(MAX_SHOWN + 1).collect();
    if let Some((end, _)) = shown.char_indices().nth(MAX_SHOWN) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn names_are_as_in_the_source() {
        assert_eq!(readable("main"), "main");
        assert_eq!(readable("_ZN4grid5shareEi"), "grid::share(int)");
        assert_eq!(readable("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(readable("_ZN"), "_ZN");
        assert_eq!(readable("a\nb"), "ab");
        assert_eq!(readable(&"x".repeat(4_000)).chars().count(), 161);
    }
}
