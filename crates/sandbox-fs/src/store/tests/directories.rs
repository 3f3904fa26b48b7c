//! The same on directories of a real file system, whose files are changed from outside, and which is really full.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::*;

const BLOCKS: usize = 64;

fn store_with_blocks(place: &Path) -> (Store, Vec<Option<BlockRef>>) {
    let store = Store::create(directory(place), key(1), Suite::Aes256Gcm).unwrap();
    let mut refs = vec![None; BLOCKS];
    let mut blocks: Vec<u8> = (0..BLOCKS as u64).flat_map(filled).collect();
    store.write(&store.file_key(7), 0, &mut blocks, &mut refs).unwrap();
    (store, refs)
}

/// Numbers of the blocks that are told to be tampered with; the others must read right.
fn told(store: &Store, refs: &[Option<BlockRef>]) -> Vec<u64> {
    let mut told = Vec::new();
    for (number, block) in (0..).zip(refs) {
        let mut out = vec![0; BLOCK];
        match store.read(&store.file_key(7), number, &[*block], &mut out) {
            Ok(()) => assert!(out == filled(number)),
            Err(StoreError::Tampered { file: 7, block }) if block == number => told.push(number),
            Err(error) => panic!("{error}"),
        }
    }
    told
}

#[test]
fn what_is_changed_in_the_file_is_told() {
    let place = tempfile::tempdir().unwrap();
    let (store, refs) = store_with_blocks(place.path());
    let data = File::options().read(true).write(true).open(place.path().join("data")).unwrap();
    assert_eq!(told(&store, &refs), []);
    data.write_all_at(b"x", 5 * BLOCK as u64 + 17).unwrap();
    assert_eq!(told(&store, &refs), [5]);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&data, punch, 9 * BLOCK as u64, 2 * BLOCK as u64).unwrap();
    assert_eq!(told(&store, &refs), [5, 9, 10]);
    data.set_len(60 * BLOCK as u64 + 1).unwrap();
    assert_eq!(told(&store, &refs), [5, 9, 10, 60, 61, 62, 63]);
    data.set_len(0).unwrap();
    assert_eq!(told(&store, &refs).len(), BLOCKS);
    // Who takes the name away takes nothing: the file is open.
    fs::remove_file(place.path().join("data")).unwrap();
    let mut refs = refs;
    store.write(&store.file_key(7), 0, &mut filled(0), &mut refs[..1]).unwrap();
    assert_eq!(told(&store, &refs).len(), BLOCKS - 1);
}

#[test]
fn space_goes_back_to_the_disk() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::create(directory(place.path()), key(1), Suite::Aes256Gcm).unwrap();
    let mut refs = vec![None; 8_000];
    store.write(&store.file_key(7), 0, &mut vec![1; 8_000 * BLOCK], &mut refs).unwrap();
    store.free(refs.into_iter().flatten());
    let left = rustix::fs::stat(place.path().join("data")).unwrap().st_blocks * 512;
    assert!(left <= 1 << 20, "{left} bytes are still on the disk");
}

#[test]
fn what_is_in_the_place_of_the_files_is_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let (store, _) = store_with_blocks(place.path());
    let root = store.checkpoint(b"").unwrap();
    drop(store);
    let open = || Store::open(directory(place.path()), key(1), &root).map(|_| ());
    open().unwrap();
    for name in ["checkpoint.a", "data"] {
        let (file, aside) = (place.path().join(name), place.path().join("aside"));
        fs::rename(&file, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &file).unwrap();
        let opened = open();
        assert!(matches!(opened, Err(StoreError::Io { .. })), "{name}: {opened:?}");
        fs::remove_file(&file).unwrap();
        fs::rename(&aside, &file).unwrap();
    }
    open().unwrap();
    fs::remove_file(place.path().join("checkpoint.a")).unwrap();
    assert!(matches!(open(), Err(StoreError::NotExpected)));
}

/// A memory file system of its own, gone in the end.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Result<Small, Errno> {
        let place = tempfile::tempdir().unwrap();
        rustix::mount::mount("none", place.path(), "tmpfs", MountFlags::empty(), c"size=1m")?;
        Ok(Small(place))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_told_and_can_be_cleared() {
    let place = match Small::mount() {
        Ok(place) => place,
        Err(error) => {
            eprintln!("skipped: a_full_disk_is_told_and_can_be_cleared: can't mount: {error}");
            return;
        }
    };
    let (store, mut refs) = store_with_blocks(place.0.path());
    let key = store.file_key(8);
    let mut more = vec![None; 300];
    let written = store.write(&key, 0, &mut vec![1; 300 * BLOCK], &mut more);
    let Err(StoreError::Io { source, .. }) = written else { panic!("{written:?}") };
    assert_eq!(source.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    let there = more.iter().flatten().count();
    assert_eq!(store.used(), (BLOCKS + there) as u64 * BLOCK as u64);
    assert_eq!(told(&store, &refs), []);

    assert!(matches!(store.checkpoint(&vec![0; 1 << 20]), Err(StoreError::Io { .. })));
    store.free(more.into_iter().flatten());
    store.free(refs.drain(10..).flatten());
    let root = store.checkpoint(&postcard::to_stdvec(&refs).unwrap()).unwrap();
    drop(store);
    let (store, state) = Store::open(directory(place.0.path()), super::key(1), &root).unwrap();
    let refs: Vec<Option<BlockRef>> = postcard::from_bytes(&state).unwrap();
    store.keep(refs.iter().flatten().copied()).unwrap();
    assert_eq!((told(&store, &refs), refs.len()), (vec![], 10));
}
