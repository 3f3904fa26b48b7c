//! Requests as bytes: what each reads as, and that no bytes at all make a panic.

use std::ffi::OsStr;
use std::time::Duration;

use rustix::io::Errno;

use super::abi::{self, OPCODES, Opcode};
use super::dispatch::perform;
use super::reply::Answer;
use super::request::{Header, Parts, Request};
use super::session::{SessionOptions, Writes};
use crate::operations::{
    Allocate, Attributes, Caller, Changes, Direction, Ino, Listing, Name, Operations, Rename, SetXattr,
    Space, Take, Time,
};

/// Room of a request and its answer in these tests, in bytes.
const ROOM: usize = 16 << 10;

/// A file system that says yes or no by number, and checks what it is asked.
struct Anything;

impl Anything {
    fn check_name(name: &OsStr) {
        let name = name.as_encoded_bytes();
        assert!(!name.is_empty() && name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0));
    }

    fn check_range(offset: u64, length: u64) {
        assert!(offset.checked_add(length).is_some_and(|end| i64::try_from(end).is_ok()));
    }

    fn about(ino: Ino) -> Result<Attributes, Errno> {
        match ino % 4 {
            0 => Err(Errno::NOENT),
            1 => Err(Errno::ACCESS),
            _ => Ok(Attributes {
                ino,
                mode: 0o100_644,
                links: u32::MAX,
                uid: u32::MAX,
                gid: 0,
                device: u32::MAX,
                size: u64::MAX,
                blocks: u64::MAX,
                accessed: Time { seconds: i64::MIN, nanoseconds: 999_999_999 },
                modified: Time { seconds: i64::MAX, nanoseconds: 0 },
                changed: Time::default(),
            }),
        }
    }

    fn named(ino: Ino, name: &OsStr) -> Result<Attributes, Errno> {
        Anything::check_name(name);
        Anything::about(ino)
    }

    fn done(ino: Ino) -> Result<(), Errno> {
        Anything::about(ino).map(|_| ())
    }
}

impl Operations for Anything {
    fn look_up(&self, parent: Ino, name: &OsStr) -> Result<Attributes, Errno> {
        Anything::named(parent, name)
    }
    fn forget(&self, _ino: Ino, _count: u64) {}
    fn attributes(&self, ino: Ino) -> Result<Attributes, Errno> {
        Anything::about(ino)
    }
    fn change(&self, _caller: Caller, ino: Ino, changes: &Changes) -> Result<Attributes, Errno> {
        Anything::check_range(changes.size.unwrap_or(0), 0);
        Anything::about(ino)
    }
    fn make_node(&self, _: Caller, parent: Ino, name: &OsStr, _: u32, _: u32) -> Result<Attributes, Errno> {
        Anything::named(parent, name)
    }
    fn make_directory(&self, _: Caller, parent: Ino, name: &OsStr, _: u32) -> Result<Attributes, Errno> {
        Anything::named(parent, name)
    }
    fn make_symlink(&self, _: Caller, parent: Ino, name: &OsStr, target: &[u8]) -> Result<Attributes, Errno> {
        assert!(!target.contains(&0));
        Anything::named(parent, name)
    }
    fn make_unnamed(&self, _: Caller, parent: Ino, _: u32) -> Result<Attributes, Errno> {
        Anything::about(parent)
    }
    fn read_symlink(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        Anything::done(ino).map(|()| b"target".to_vec())
    }
    fn link(&self, ino: Ino, _parent: Ino, name: &OsStr) -> Result<Attributes, Errno> {
        Anything::named(ino, name)
    }
    fn unlink(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        Anything::named(parent, name).map(|_| ())
    }
    fn remove_directory(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        Anything::named(parent, name).map(|_| ())
    }
    fn rename(&self, parent: Ino, name: &OsStr, _: Ino, new_name: &OsStr, _: Rename) -> Result<(), Errno> {
        Anything::check_name(new_name);
        Anything::named(parent, name).map(|_| ())
    }
    fn read_names(
        &self,
        ino: Ino,
        cookie: u64,
        _listing: Listing,
        take: &mut dyn FnMut(Name<'_>) -> Take,
    ) -> Result<(), Errno> {
        let attributes = Anything::about(ino)?;
        for length in 1..=255 {
            let name = "n".repeat(length);
            let name = Name { name: name.as_ref(), cookie: cookie.wrapping_add(1), attributes: &attributes };
            if take(name) == Take::Full {
                break;
            }
        }
        Ok(())
    }
    fn read(&self, ino: Ino, _offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        Anything::done(ino).map(|()| buffer.len() / 2)
    }
    fn write(&self, ino: Ino, offset: u64, data: &mut [u8], _drops_set_id: bool) -> Result<(), Errno> {
        Anything::check_range(offset, data.len() as u64);
        data.fill(0);
        Anything::done(ino)
    }
    fn sync(&self, ino: Ino) -> Result<(), Errno> {
        Anything::done(ino)
    }
    fn allocate(&self, ino: Ino, _how: Allocate, offset: u64, length: u64) -> Result<(), Errno> {
        Anything::check_range(offset, length);
        Anything::done(ino)
    }
    fn copy(&self, from: Ino, from_offset: u64, _to: Ino, to_offset: u64, length: u64) -> Result<u64, Errno> {
        Anything::check_range(from_offset, length);
        Anything::check_range(to_offset, length);
        Anything::done(from).map(|()| length)
    }
    fn xattr(&self, ino: Ino, _name: &OsStr) -> Result<Vec<u8>, Errno> {
        Anything::done(ino).map(|()| vec![1; 100])
    }
    fn set_xattr(&self, ino: Ino, name: &OsStr, _value: &[u8], _how: SetXattr) -> Result<(), Errno> {
        assert!(!name.is_empty());
        Anything::done(ino)
    }
    fn xattr_names(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        Anything::done(ino).map(|()| vec![0; 100])
    }
    fn remove_xattr(&self, ino: Ino, name: &OsStr) -> Result<(), Errno> {
        assert!(!name.is_empty());
        Anything::done(ino)
    }
    fn space(&self) -> Space {
        Space { block: 4096, blocks: u64::MAX, free: 0, inodes: u64::MAX, free_inodes: 0 }
    }
    fn pace(&self, _direction: Direction, _bytes: usize) -> Duration {
        Duration::ZERO
    }
}

/// The bytes of a request, of a header that `ino` is in and what follows it.
fn request(opcode: u32, ino: Ino, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(abi::REQUEST_HEADER + body.len()).unwrap();
    let mut bytes = [length, opcode].map(u32::to_ne_bytes).concat();
    bytes.extend(7_u64.to_ne_bytes());
    bytes.extend(ino.to_ne_bytes());
    bytes.extend([1000, 1000, 1, 0_u32].map(u32::to_ne_bytes).concat());
    bytes.extend(body);
    bytes
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// What a session does with a request; `length` bytes of the buffer are its.
fn serve<'a>(buffer: &'a mut [u8], length: usize, options: &SessionOptions) -> Option<Answer<'a>> {
    let header = Header::parse(&buffer[..length])?;
    let request = match Parts::split(&header, buffer, length).and_then(|parts| parts.parse(&header)) {
        Ok(request) => request,
        Err(error) => return Some(Answer::Failed(error)),
    };
    Some(perform(&Anything, options, Caller { uid: header.uid, gid: header.gid }, request))
}

/// A whole request of each kind, as the kernel would send it.
fn whole(opcode: Opcode) -> Vec<u8> {
    let mut body = vec![0; opcode.arguments()];
    match opcode {
        Opcode::Init => {
            body = words(&[abi::MAJOR, abi::MINOR, 1 << 17, u32::MAX, u32::MAX]);
            body.extend([0; 44]);
        }
        Opcode::Read | Opcode::ReadDir | Opcode::ReadDirPlus => body[16..20].copy_from_slice(&words(&[4096])),
        Opcode::Write => {
            body[16..20].copy_from_slice(&words(&[1000]));
            body.extend([1; 1000]);
        }
        Opcode::BatchForget => {
            body[..4].copy_from_slice(&words(&[3]));
            body.extend(words(&[4, 0, 1, 0, 5, 0, 1, 0, 6, 0, 2, 0]));
        }
        Opcode::SetXattr => {
            body[..4].copy_from_slice(&words(&[5]));
            body.extend(b"user.name\0value");
        }
        Opcode::Link => {
            body[0] = 3;
            body.extend(b"name\0");
        }
        Opcode::SetAttr => body[..4].copy_from_slice(&words(&[u32::MAX])),
        Opcode::GetXattr | Opcode::ListXattr => {
            body[..4].copy_from_slice(&words(&[200]));
            body.extend(b"user.name\0");
        }
        _ => body.extend(b"name\0other name\0"),
    }
    request(opcode as u32, 2, &body)
}

#[test]
fn a_whole_request_of_each_kind_is_served() {
    use Opcode::*;
    const REFUSED: &[Opcode] = &[
        Create, Open, Flush, OpenDir, FSyncDir, GetLk, SetLk, SetLkW, Access, BMap, IoCtl, Poll, LSeek,
        SyncFs, StatX,
    ];
    for opcode in OPCODES {
        let bytes = whole(*opcode);
        let mut buffer = vec![0; ROOM];
        buffer[..bytes.len()].copy_from_slice(&bytes);
        let answer = serve(&mut buffer, bytes.len(), &SessionOptions::default()).unwrap();
        match (opcode, answer) {
            (Forget | BatchForget | Interrupt | NotifyReply, Answer::None) => {}
            (opcode, Answer::Failed(Errno::NOSYS)) if REFUSED.contains(opcode) => {}
            (opcode, Answer::Failed(error)) => panic!("{opcode:?}: {error}"),
            (opcode, _) => assert!(!REFUSED.contains(opcode), "{opcode:?}"),
        }
    }
}

#[test]
fn requests_that_are_cut_anywhere_are_refused() {
    for opcode in OPCODES {
        let bytes = whole(*opcode);
        for length in 0..bytes.len() {
            let mut buffer = vec![0; ROOM];
            buffer[..bytes.len()].copy_from_slice(&bytes);
            let answer = serve(&mut buffer, length, &SessionOptions::default());
            assert_eq!(answer.is_none(), length < abi::REQUEST_HEADER, "{opcode:?}");
            let Some(answer) = answer else { continue };
            if length < abi::REQUEST_HEADER + opcode.arguments() {
                assert!(matches!(answer, Answer::Failed(Errno::INVAL)), "{opcode:?} of {length}: {answer:?}");
            }
        }
    }
}

#[test]
fn requests_of_any_bytes_are_answered() {
    const REQUESTS: u32 = 50_000;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut served = 0;
    let mut buffer = vec![0; ROOM];
    for _ in 0..REQUESTS {
        let bytes = whole(OPCODES[random(OPCODES.len())]);
        let mut length = bytes.len();
        buffer[..length].copy_from_slice(&bytes);
        for _ in 0..random(6) {
            match random(5) {
                0 => buffer[random(length.max(1))] = random(256) as u8,
                1 => buffer[random(length.max(1))] ^= 1 << random(8),
                2 => length = random(length + 1),
                3 => length = (length + random(64)).min(ROOM),
                // Whole fields of what is rarely met.
                _ => {
                    let extreme = [0, 1, u64::MAX, 1 << 63, u64::from(u32::MAX), ROOM as u64][random(6)];
                    let at = random(length / 8 + 1) * 8;
                    buffer[at..at + 8].copy_from_slice(&extreme.to_ne_bytes());
                }
            }
        }
        let writes = if random(2) == 0 { Writes::Back } else { Writes::Through };
        let options = SessionOptions { writes, ..SessionOptions::default() };
        let Some(answer) = serve(&mut buffer, length, &options) else { continue };
        let header = answer.header(7);
        let told = u32::from_ne_bytes(*header.first_chunk().unwrap());
        assert_eq!(told as usize, abi::ANSWER_HEADER + answer.bytes().len());
        served += u32::from(!matches!(answer, Answer::Failed(_)));
    }
    assert!(served > REQUESTS / 10, "most mutations leave nothing: {served}");
}

#[test]
fn names_are_packed_until_there_is_no_room() {
    for (opcode, front) in [(Opcode::ReadDir, 0), (Opcode::ReadDirPlus, 128)] {
        let bytes = whole(opcode);
        let mut buffer = vec![0xff; ROOM];
        buffer[..bytes.len()].copy_from_slice(&bytes);
        let answer = serve(&mut buffer, bytes.len(), &SessionOptions::default()).unwrap();
        let mut records = answer.bytes();
        assert!(records.len() <= 4096 && records.len() > 4096 - front - 24 - 256);
        let mut length = 0;
        while !records.is_empty() {
            length += 1;
            let told = u32::from_ne_bytes(*records[front + 16..].first_chunk().unwrap()) as usize;
            assert_eq!(told, length);
            let (record, rest) = records.split_at((front + 24 + length).next_multiple_of(8));
            let (name, padding) = record[front + 24..].split_at(length);
            assert!(name.iter().all(|byte| *byte == b'n') && padding.iter().all(|byte| *byte == 0));
            records = rest;
        }
        assert!(length > 10);
    }
}

#[test]
fn init_takes_what_is_known_of_what_is_offered() {
    let init = |major, minor, flags, more, options: &SessionOptions| {
        let mut buffer = vec![0; ROOM];
        let bytes = request(Opcode::Init as u32, 0, &words(&[major, minor, 1 << 17, flags, more]));
        buffer[..bytes.len()].copy_from_slice(&bytes);
        let answer = serve(&mut buffer, bytes.len(), options).unwrap();
        let fields =
            answer.bytes().chunks_exact(4).map(|field| u32::from_ne_bytes(field.try_into().unwrap()));
        fields.collect::<Vec<_>>()
    };
    let back = SessionOptions::default();
    let all = init(7, 99, u32::MAX, u32::MAX, &back);
    assert_eq!((all[0], all[1], all[2]), (7, abi::MINOR, 1 << 17));
    assert_eq!(u64::from(all[3]) & abi::init::WRITEBACK_CACHE, abi::init::WRITEBACK_CACHE);
    // Openings would have to be requests again, and truncating by them as well.
    assert_eq!(all[3] & 1 << 3, 0, "ATOMIC_O_TRUNC");
    assert_eq!(all[8], 0, "nothing of the upper half is used");
    let through = SessionOptions { writes: Writes::Through, ..back };
    assert_eq!(u64::from(init(7, 45, u32::MAX, 0, &through)[3]) & abi::init::WRITEBACK_CACHE, 0);
    assert_eq!(init(7, 31, 1 << 5, 0, &back)[1..4], [31, 1 << 17, 1 << 5]);
    assert!(init(7, 30, u32::MAX, 0, &back).is_empty(), "refused");
    assert!(init(8, 0, u32::MAX, 0, &back).is_empty(), "refused");
}

#[test]
fn a_read_fills_the_buffer_behind_its_arguments() {
    let bytes = whole(Opcode::Read);
    let mut buffer = vec![0; abi::REQUEST_HEADER + abi::WRITE_ARGUMENTS + 4096];
    let data = buffer[abi::REQUEST_HEADER + abi::WRITE_ARGUMENTS..].as_ptr();
    buffer[..bytes.len()].copy_from_slice(&bytes);
    let header = Header::parse(&buffer).unwrap();
    let parts = Parts::split(&header, &mut buffer, bytes.len()).unwrap();
    let Ok(Request::Read { buffer, .. }) = parts.parse(&header) else { panic!("not a READ") };
    // Where the session has a page begin.
    assert_eq!((buffer.as_ptr(), buffer.len()), (data, 4096));
}
