//! Binary modification (§4.1.1): has the kernel start the portal loader before a program, by changing the name of
//! the interpreter in its ELF file.
//!
//! A dynamic program has such a name, and its loader reads it again in memory, so ours is written over it, which is
//! shorter than any other. A static program gets one: the header of something that nobody needs at run time is
//! reused, and the name is put into the zeros that fill the last page of a segment, or over a note.

use object::read::ReadRef;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, elf, elf::FileHeader64, elf::ProgramHeader64};

/// Bytes to be written over those of a file, from an offset on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// Why a program is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept(pub &'static str);

const MALFORMED: Kept = Kept("its headers are not as those of programs are");

const LITTLE: Endianness = Endianness::Little;

const PAGE: u64 = 4_096;

const SIZE_OF_FILE_HEADER: u64 = 64;
const SIZE_OF_HEADER: u64 = 56;

/// Where a header's sizes in the file and in memory are.
const SIZES_IN_HEADER: u64 = 32;

/// Longest name of an interpreter that the kernel takes.
const MAX_NAME: u64 = 4_096;

/// A note that old kernels with the PaX patches looked at. Go writes it, empty.
const PT_PAX_FLAGS: elf::ProgramType = elf::ProgramType(0x6504_1580);

/// Kinds of headers that a static program can do without, the best first: one that is unused already, what says
/// which processor features the code could use, and names of the build.
const REUSABLE: [elf::ProgramType; 4] = [elf::PT_NULL, elf::PT_GNU_PROPERTY, PT_PAX_FLAGS, elf::PT_NOTE];

/// The patches after which the kernel starts `loader` for the program `data`.
pub(crate) fn redirect<'data, R: ReadRef<'data>>(data: R, loader: &str) -> Result<Vec<Patch>, Kept> {
    let header = FileHeader64::<Endianness>::parse(data).map_err(|_| MALFORMED)?;
    let headers = header.program_headers(LITTLE, data).map_err(|_| MALFORMED)?;
    let program = Program { data, header, headers };
    program.check_headers()?;
    let mut name = loader.as_bytes().to_vec();
    name.push(0);
    let mut named = headers.iter().enumerate().filter(|(_, h)| h.p_type(LITTLE) == elf::PT_INTERP);
    let patches = match (named.next(), named.next()) {
        (Some((index, _)), None) => program.rename(index, name)?,
        (None, None) => program.add(name)?,
        _ => return Err(MALFORMED),
    };
    // A header may promise more than the file has.
    let length = data.len().map_err(|()| MALFORMED)?;
    let is_inside =
        |patch: &Patch| patch.offset.checked_add(patch.bytes.len() as u64).is_some_and(|end| end <= length);
    if patches.iter().all(is_inside) { Ok(patches) } else { Err(MALFORMED) }
}

struct Program<'data, R> {
    data: R,
    header: &'data FileHeader64<Endianness>,
    headers: &'data [ProgramHeader64<Endianness>],
}

/// A range of a file, and the address at which it is mapped.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    address: u64,
}

impl<'data, R: ReadRef<'data>> Program<'data, R> {
    /// The portal loader finds the program by its headers in memory, so they must be there.
    fn check_headers(&self) -> Result<(), Kept> {
        let at = self.header.e_phoff.get(LITTLE);
        let of_headers = self.headers.iter().find(|header| header.p_type(LITTLE) == elf::PT_PHDR);
        let is_found = match of_headers {
            Some(own) => self.address_of(at, SIZE_OF_HEADER) == Some(own.p_vaddr(LITTLE)),
            None => at == SIZE_OF_FILE_HEADER && self.loads().any(|load| load.p_offset(LITTLE) == 0),
        };
        let length = SIZE_OF_HEADER * self.headers.len() as u64;
        let is_mapped = self.address_of(at, length).is_some();
        if is_found && is_mapped { Ok(()) } else { Err(Kept("its headers are not mapped")) }
    }

    fn rename(&self, index: usize, mut name: Vec<u8>) -> Result<Vec<Patch>, Kept> {
        let header = &self.headers[index];
        let (offset, room) = (header.p_offset(LITTLE), header.p_filesz(LITTLE));
        if self.address_of(offset, room) != Some(header.p_vaddr(LITTLE)) {
            return Err(Kept("the name of its interpreter is not mapped"));
        }
        let length = name.len() as u64;
        if !(length..=MAX_NAME).contains(&room) {
            return Err(Kept("the name of its interpreter is too short to be changed"));
        }
        name.resize(usize::try_from(room).map_err(|_| MALFORMED)?, 0);
        let sizes = [length, length].map(u64::to_le_bytes).concat();
        Ok(vec![
            Patch { offset, bytes: name },
            Patch { offset: self.offset_of(index) + SIZES_IN_HEADER, bytes: sizes },
        ])
    }

    fn add(&self, name: Vec<u8>) -> Result<Vec<Patch>, Kept> {
        let length = name.len() as u64;
        let of_kind = |kind| self.headers.iter().position(|header| header.p_type(LITTLE) == kind);
        let index =
            REUSABLE.into_iter().find_map(of_kind).ok_or(Kept("it has no header that could be reused"))?;
        let place = self.padding(length).or_else(|| self.note(length));
        let place = place.ok_or(Kept("it has no room for the name of an interpreter"))?;
        let mut bytes = Vec::new();
        bytes.extend(elf::PT_INTERP.0.to_le_bytes());
        bytes.extend(elf::PF_R.0.to_le_bytes());
        for word in [place.offset, place.address, place.address, length, length, 1] {
            bytes.extend(word.to_le_bytes());
        }
        Ok(vec![Patch { offset: place.offset, bytes: name }, Patch { offset: self.offset_of(index), bytes }])
    }

    /// Zeros at the end of a read-only segment's last page, which the kernel maps along with it and which belong to
    /// nothing else.
    fn padding(&self, length: u64) -> Option<Place> {
        self.loads().find_map(|load| {
            let is_plain = load.p_flags(LITTLE).0 & elf::PF_W.0 == 0
                && load.p_flags(LITTLE).0 & elf::PF_R.0 != 0
                && load.p_filesz(LITTLE) == load.p_memsz(LITTLE);
            let size = load.p_filesz(LITTLE);
            let place = Place {
                offset: load.p_offset(LITTLE).checked_add(size)?,
                address: load.p_vaddr(LITTLE).checked_add(size)?,
            };
            let fits = |at: u64| !at.is_multiple_of(PAGE) && at % PAGE + length <= PAGE;
            let is_free = is_plain
                && fits(place.offset)
                && fits(place.address)
                && self.is_unused(place.offset, length)
                && self.is_in_one_segment(place.address);
            let bytes = self.data.read_bytes_at(place.offset, length).ok()?;
            (is_free && bytes.iter().all(|byte| *byte == 0)).then_some(place)
        })
    }

    /// The last bytes of a note: part of what identifies the build.
    fn note(&self, length: u64) -> Option<Place> {
        /// Sizes, kind and a name such as `GNU`: what must stay for the note to be one.
        const HEAD: u64 = 16;
        self.headers.iter().filter(|header| header.p_type(LITTLE) == elf::PT_NOTE).find_map(|note| {
            let spare = note.p_filesz(LITTLE).checked_sub(HEAD + length)?;
            let offset = note.p_offset(LITTLE).checked_add(HEAD + spare)?;
            let address = self.address_of(offset, length)?;
            Some(Place { offset, address })
        })
    }

    fn loads(&self) -> impl Iterator<Item = &ProgramHeader64<Endianness>> {
        self.headers.iter().filter(|header| header.p_type(LITTLE) == elf::PT_LOAD)
    }

    /// Where in memory a range of the file is.
    fn address_of(&self, offset: u64, length: u64) -> Option<u64> {
        self.loads().find_map(|load| {
            let into = offset.checked_sub(load.p_offset(LITTLE))?;
            let end = into.checked_add(length)?;
            (end <= load.p_filesz(LITTLE)).then(|| load.p_vaddr(LITTLE).checked_add(into))?
        })
    }

    /// Whether no segment and no section has a byte of the range.
    fn is_unused(&self, offset: u64, length: u64) -> bool {
        let is_apart = |from: u64, size: u64| {
            size == 0 || from >= offset.saturating_add(length) || from.saturating_add(size) <= offset
        };
        let Ok(sections) = self.header.section_headers(LITTLE, self.data) else { return false };
        let table = (self.header.e_shoff.get(LITTLE), 64 * sections.len() as u64);
        is_apart(table.0, table.1)
            && self.headers.iter().all(|h| is_apart(h.p_offset(LITTLE), h.p_filesz(LITTLE)))
            && sections.iter().all(|section| {
                section.sh_type(LITTLE) == elf::SHT_NOBITS
                    || is_apart(section.sh_offset(LITTLE), section.sh_size(LITTLE))
            })
    }

    /// Whether the page of an address belongs to one segment only; else the later one is mapped over the other.
    fn is_in_one_segment(&self, address: u64) -> bool {
        let page = address / PAGE;
        let covers = |load: &&ProgramHeader64<Endianness>| {
            let begin = load.p_vaddr(LITTLE);
            let end = begin.saturating_add(load.p_memsz(LITTLE).max(1) - 1);
            (begin / PAGE..=end / PAGE).contains(&page)
        };
        self.loads().filter(covers).count() == 1
    }

    fn offset_of(&self, index: usize) -> u64 {
        self.header.e_phoff.get(LITTLE).saturating_add(SIZE_OF_HEADER * index as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf;
    use crate::testing::{Random, TestElf};

    const LOADER: &str = "/.evm/0";

    /// `bytes` after its patches, which must lie inside of it.
    fn patched(bytes: &[u8], patches: &[Patch]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for patch in patches {
            let at = usize::try_from(patch.offset).unwrap();
            bytes[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
        }
        bytes
    }

    fn dynamic() -> Vec<u8> {
        let interpreter = Some("/lib64/ld-linux-x86-64.so.2");
        TestElf { interpreter, needed: &["libc.so.6"], ..TestElf::default() }.bytes()
    }

    /// With zeros to the end of its page and an empty note.
    fn static_program() -> Vec<u8> {
        let mut bytes = TestElf::default().bytes();
        bytes.resize(4_096, 0);
        bytes
    }

    #[test]
    fn the_kernel_and_the_program_itself_find_our_name() {
        for before in [dynamic(), static_program()] {
            let patches = redirect(&before[..], LOADER).unwrap();
            let after = patched(&before, &patches);
            let found = elf::parse(&after[..]).unwrap();
            assert_eq!(found.interpreter.as_deref(), Some(LOADER));
            assert_eq!(found.needed, elf::parse(&before[..]).unwrap().needed);
            let changed: usize = patches.iter().map(|patch| patch.bytes.len()).sum();
            assert!(changed <= 64, "{changed} bytes changed");
        }
    }

    #[test]
    fn a_name_without_room_or_a_program_without_a_header_to_spare_is_left_alone() {
        let short = TestElf { interpreter: Some("/l.so"), ..TestElf::default() }.bytes();
        assert!(redirect(&short[..], LOADER).is_err());
        // The note, the only header to spare, becomes a second dynamic section.
        let mut bare = static_program();
        bare[64 + 2 * 56] = 2;
        assert_eq!(redirect(&bare[..], LOADER), Err(Kept("it has no header that could be reused")));
        // What follows the segment is something.
        let mut full = static_program();
        full.iter_mut().skip(TestElf::default().bytes().len()).for_each(|byte| *byte = 1);
        assert_eq!(redirect(&full[..], LOADER), Err(Kept("it has no room for the name of an interpreter")));
    }

    /// Mutates programs in 20,000 ways from a fixed seed: there may be no way to redirect one, but no panic, and
    /// what is to be patched lies inside of the file.
    #[test]
    fn no_bytes_make_it_panic_or_write_beyond_the_file() {
        let mut random = Random::default();
        let (mut redirected, samples) = (0, [dynamic(), static_program()]);
        for turn in 0..20_000 {
            let mut bytes = samples[turn % 2].clone();
            for _ in 0..=random.below(4) {
                // Mostly in the headers, where it matters.
                let end = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(64 + 4 * 56) };
                let at = random.below(end);
                bytes[at] = match random.below(3) {
                    0 => u8::try_from(random.below(256)).unwrap(),
                    1 => 0xff,
                    _ => bytes[at] ^ 1 << random.below(8),
                };
            }
            if random.below(8) == 0 {
                bytes.truncate(1 + random.below(bytes.len()));
            }
            if let Ok(patches) = redirect(&bytes[..], LOADER) {
                let after = patched(&bytes, &patches);
                assert!(elf::parse(&after[..]).is_err() || after.len() == bytes.len());
                redirected += 1;
            }
            let _ = elf::parse(&bytes[..]);
        }
        assert!(redirected > 1_000, "only {redirected} were still programs");
    }
}
