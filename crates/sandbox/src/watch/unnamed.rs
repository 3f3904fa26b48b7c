//! Space on disk that no listing of the work directory shows: files that a subjob deleted, or made without a
//! name, and holds open or mapped. The kernel keeps their blocks until the last holder lets go.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

use crate::disk::Used;

/// Descriptors and mappings that one look goes through; who has more holds nothing honest.
const MAX_HOLDS: u32 = 500_000;

/// Free space of the file system that holds a work directory, as it was at first: while it has not lost more than
/// the limit, nothing can be hidden, and nobody needs to look at every descriptor.
#[derive(Debug)]
pub(super) struct Unnamed {
    device: u64,
    free_at_first: u64,
}

impl Unnamed {
    pub(super) fn new(work: &Path) -> Self {
        let device = fs::metadata(work).map_or(0, |found| found.dev());
        Unnamed { device, free_at_first: free(work).unwrap_or(0) }
    }

    /// What the processes hold without a name, as far as it could matter to a limit in bytes.
    pub(super) fn space(&self, work: &Path, limit: u64, pids: impl FnOnce() -> Vec<u32>) -> Used {
        let free = free(work).unwrap_or(self.free_at_first);
        if self.free_at_first.saturating_sub(free) <= limit {
            return Used::Bytes(0);
        }
        let mut held = Held { device: self.device, seen: HashSet::new(), bytes: 0, looked: 0 };
        let looked =
            pids().into_iter().try_for_each(|pid| held.add_open(pid).and_then(|()| held.add_mapped(pid)));
        looked.map_or(Used::Unmeasurable, |()| Used::Bytes(held.bytes))
    }
}

fn free(directory: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some(found.f_bfree * found.f_frsize)
}

struct Held {
    device: u64,
    /// Inodes that were counted: several processes may hold the same.
    seen: HashSet<u64>,
    bytes: u64,
    looked: u32,
}

impl Held {
    fn add_open(&mut self, pid: u32) -> Option<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(directory) = openat(CWD, format!("/proc/{pid}/fd"), flags, Mode::empty()) else {
            // It has ended, and with it its descriptors.
            return Some(());
        };
        let Ok(entries) = Dir::read_from(&directory) else {
            return Some(());
        };
        for entry in entries.flatten() {
            self.count()?;
            self.add(&directory, entry.file_name());
        }
        Some(())
    }

    fn add_mapped(&mut self, pid: u32) -> Option<()> {
        let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        for line in text.split(|byte| *byte == b'\n') {
            self.count()?;
            let Some(mapping) = Mapping::read(line, self.device) else { continue };
            let path = format!("/proc/{pid}/map_files/{}", mapping.range);
            // Only root may look at the file itself.
            if !self.add(CWD, path.as_str()) && self.seen.insert(mapping.inode) {
                self.bytes = self.bytes.saturating_add(mapping.end);
            }
        }
        Some(())
    }

    fn count(&mut self) -> Option<()> {
        self.looked += 1;
        (self.looked <= MAX_HOLDS).then_some(())
    }

    /// Counts the file that a magic link leads to, if no name does; false when it can't be looked at.
    fn add(&mut self, at: impl AsFd, name: impl rustix::path::Arg) -> bool {
        let Ok(stat) = statat(at, name, AtFlags::empty()) else { return false };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && stat.st_dev == self.device && stat.st_nlink == 0 && self.seen.insert(stat.st_ino) {
            self.bytes = self.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0) * 512);
        }
        true
    }
}

/// A line of maps in proc(5) about a deleted file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    range: &'a str,
    inode: u64,
    /// Where in the file the mapping ends: a file of at least this size, unless it is past the end.
    end: u64,
}

impl<'a> Mapping<'a> {
    /// `START-END PERMS OFFSET MAJOR:MINOR INODE PATH (deleted)`; the path may hold anything but a line's end.
    fn read(line: &'a [u8], device: u64) -> Option<Self> {
        let head = line.strip_suffix(b" (deleted)")?;
        let mut fields = head.split(|byte| *byte == b' ').map(|field| std::str::from_utf8(field).ok());
        let range = fields.next()??;
        let offset = u64::from_str_radix(fields.nth(1)??, 16).ok()?;
        let (major, minor) = fields.next()??.split_once(':')?;
        let (major, minor) = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
        let inode = fields.next()??.parse().ok()?;
        let (start, end) = range.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        (rustix::fs::makedev(major, minor) == device).then_some(())?;
        Some(Mapping { range, inode, end: offset.saturating_add(end.checked_sub(start)?) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    /// As if the file system had lost everything, so that the look is not spared.
    fn space_in(directory: &Path) -> u64 {
        let unnamed = Unnamed { free_at_first: u64::MAX, ..Unnamed::new(directory) };
        match unnamed.space(directory, 0, || vec![std::process::id()]) {
            Used::Bytes(bytes) => bytes,
            Used::Unmeasurable => panic!("too much to look at"),
        }
    }

    #[test]
    fn a_deleted_file_counts_for_as_long_as_it_is_held() {
        // Memory, where no other test of this process keeps deleted files.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let before = space_in(directory.path());
        let mut file = fs::File::create(directory.path().join("a")).unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        assert_eq!(space_in(directory.path()), before, "it has a name");
        fs::remove_file(directory.path().join("a")).unwrap();
        let second = fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        assert_eq!(space_in(directory.path()), before + (1 << 20), "held twice, counted once");
        drop((file, second));
        assert_eq!(space_in(directory.path()), before);
    }

    #[test]
    fn nobody_looks_while_nothing_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let unnamed = Unnamed { device: 0, free_at_first: 0 };
        let looks = || panic!("it looks");
        assert_eq!(unnamed.space(directory.path(), 0, looks), Used::Bytes(0));
    }

    #[test]
    fn a_mapping_of_a_deleted_file_is_read_whatever_its_name() {
        let device = rustix::fs::makedev(0xfe, 1);
        let check = |line: &str, expect: Option<(u64, u64)>| {
            let found = Mapping::read(line.as_bytes(), device);
            assert_eq!(found.map(|found| (found.inode, found.end)), expect, "{line}");
        };
        let head = "7f00-9f00 rw-s 00001000 fe:01 77 ";
        check(&format!("{head}                  /work/a (deleted)"), Some((77, 0x3000)));
        check(&format!("{head}/work/a b 1-2 (deleted) (deleted)"), Some((77, 0x3000)));
        check(&format!("{head}/work/a"), None);
        check("7f00-9f00 rw-s 00001000 fe:02 77 /work/a (deleted)", None);
        check("9f00-7f00 rw-s 00001000 fe:01 77 /work/a (deleted)", None);
        check(" (deleted)", None);
        check("", None);
    }

    /// Changes a line in 20,000 ways from a fixed seed: nothing panics.
    #[test]
    fn no_line_makes_the_reader_panic() {
        let mut random = crate::testing::random();
        let good = b"7f00-ffffffffffffffff rw-s fffffffffffffff0 fe:01 77 /work/a (deleted)";
        for _ in 0..20_000 {
            let mut line = good.to_vec();
            for _ in 0..=random(4) {
                let (at, byte) = (random(line.len()), u8::try_from(random(256)).unwrap());
                match random(3) {
                    0 => line[at] = byte,
                    1 => line.insert(at, byte),
                    _ => line.drain(..at.min(8)).for_each(drop),
                }
                if line.is_empty() {
                    line.push(byte);
                }
            }
            let _ = Mapping::read(&line, rustix::fs::makedev(0xfe, 1));
        }
    }
}
