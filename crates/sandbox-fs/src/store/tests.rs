//! Blocks come back, through checkpoints and new sessions.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::*;

fn key(byte: u8) -> StoreKey {
    StoreKey::take(&mut [byte; 32]).unwrap()
}

fn directory(path: &Path) -> OwnedFd {
    std::fs::File::open(path).unwrap().into()
}

fn block(byte: u8) -> Vec<u8> {
    vec![byte; BLOCK]
}

#[test]
fn blocks_come_back_over_checkpoints() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::create(directory(place.path()), key(1), Suite::Aes256Gcm).unwrap();
    let file = store.file_key(7);
    let mut refs = vec![None; 300];
    let mut data: Vec<u8> = (0..300).flat_map(|n| block(n as u8)).collect();
    store.write(&file, 0, &mut data, &mut refs).unwrap();
    let mut out = vec![0; 300 * BLOCK];
    store.read(&file, 0, &refs, &mut out).unwrap();
    assert!(out == (0..300).flat_map(|n| block(n as u8)).collect::<Vec<u8>>());
    let state = postcard::to_stdvec(&refs).unwrap();
    let root = store.checkpoint(&state).unwrap();
    store.write(&file, 3, &mut block(99), &mut refs[3..4]).unwrap();
    store.read(&file, 3, &refs[3..4], &mut out[..BLOCK]).unwrap();
    assert_eq!(out[0], 99);
    assert_eq!(store.used(), 301 * BLOCK as u64);
    assert!(matches!(Store::open(directory(place.path()), key(1), &root), Err(StoreError::InUse)));
    drop(store);

    let (store, state) = Store::open(directory(place.path()), key(1), &root).unwrap();
    let mut refs: Vec<Option<BlockRef>> = postcard::from_bytes(&state).unwrap();
    store.keep(refs.iter().flatten().copied()).unwrap();
    let file = store.file_key(7);
    store.read(&file, 0, &refs, &mut out).unwrap();
    assert!(out == (0..300).flat_map(|n| block(n as u8)).collect::<Vec<u8>>());
    store.write(&file, 4, &mut block(98), &mut refs[4..5]).unwrap();
    store.read(&file, 4, &refs[4..5], &mut out[..BLOCK]).unwrap();
    assert_eq!(out[..BLOCK], block(98));
    drop(store);
    let wrong = Root::from_bytes([0; 32]);
    assert!(matches!(Store::open(directory(place.path()), key(1), &wrong), Err(StoreError::NotExpected)));
    assert!(matches!(Store::open(directory(place.path()), key(2), &root), Err(StoreError::WrongKey)));
}
