//! Blocks come back: over checkpoints and sessions, after much random work, and with several threads at work.

use std::collections::BTreeSet;

use super::simulated::Image;
use super::world::World;
use super::*;

fn write(store: &Store, file: Ino, first: u64, fills: &[u64], refs: &mut [Option<BlockRef>]) {
    let mut blocks: Vec<u8> = fills.iter().flat_map(|&fill| filled(fill)).collect();
    store.write(&store.file_key(file), first, &mut blocks, refs).unwrap();
}

fn assert_reads(store: &Store, file: Ino, first: u64, refs: &[Option<BlockRef>], fills: &[u64]) {
    let mut out = vec![1; refs.len() * BLOCK];
    store.read(&store.file_key(file), first, refs, &mut out).unwrap();
    for (out, &fill) in out.chunks(BLOCK).zip(fills) {
        assert!(out == filled(fill));
    }
}

#[test]
fn blocks_come_back_over_checkpoints_and_sessions() {
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let place = tempfile::tempdir().unwrap();
        let store = Store::create(directory(place.path()), key(1), suite).unwrap();
        // More than are written at once.
        let fills: Vec<u64> = (0..300).collect();
        let mut refs = vec![None; 300];
        write(&store, 7, 0, &fills, &mut refs);
        assert_reads(&store, 7, 0, &refs, &fills);
        let root = store.checkpoint(&postcard::to_stdvec(&refs).unwrap()).unwrap();
        write(&store, 7, 3, &[1003], &mut refs[3..4]);
        assert_reads(&store, 7, 3, &refs[3..4], &[1003]);
        assert_eq!(store.used(), 301 * BLOCK as u64, "the checkpoint needs the old block");
        let in_use = Store::open(directory(place.path()), key(1), &root);
        assert!(matches!(in_use, Err(StoreError::InUse)));
        drop(store);

        let mut root = root;
        for session in 0..3 {
            let (store, state) = Store::open(directory(place.path()), key(1), &root).unwrap();
            assert_eq!(store.suite(), suite);
            let mut refs: Vec<Option<BlockRef>> = postcard::from_bytes(&state).unwrap();
            store.keep(refs.iter().flatten().copied()).unwrap();
            let fills: Vec<u64> =
                (0..300).map(|block| if (4..4 + session).contains(&block) { 2000 } else { block }).collect();
            assert_reads(&store, 7, 0, &refs, &fills);
            write(&store, 7, 4 + session, &[2000], &mut refs[4 + session as usize..][..1]);
            root = store.checkpoint(&postcard::to_stdvec(&refs).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_new_store_wants_an_empty_directory() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("other"), "").unwrap();
    let created = Store::create(directory(place.path()), key(1), Suite::Aes256Gcm);
    assert!(matches!(created, Err(StoreError::NotEmpty)));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn only_the_account_that_runs_us_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let store = Store::create(directory(place.path()), key(1), Suite::Aes256Gcm).unwrap();
    store.checkpoint(b"").unwrap();
    for entry in std::fs::read_dir(place.path()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_large_write_is_one_write_and_a_large_read_one_read() {
    let mut world = World::new(1);
    world.write(7, 0, 256).unwrap();
    assert_eq!(world.disk.calls(), 1);
    let refs: Vec<Option<BlockRef>> = world.model.values().map(|cell| Some(cell.block)).collect();
    let mut out = vec![0; 256 * BLOCK];
    world.store.read(&world.store.file_key(7), 0, &refs, &mut out).unwrap();
    assert_eq!(world.disk.calls(), 2);
}

#[test]
fn what_is_the_same_in_plain_is_not_on_the_disk() {
    let mut world = World::new(1);
    let fills = vec![5; 20];
    write(&world.store, 7, 0, &fills, &mut [None; 20]);
    write(&world.store, 8, 0, &fills, &mut [None; 20]);
    let image = world.disk.image();
    let blocks: BTreeSet<&[u8]> = image.data.chunks(BLOCK).collect();
    assert_eq!(blocks.len(), 40);
    assert!(!blocks.contains(&filled(5)[..]));
    world.write(9, 0, 1).unwrap();
}

/// 100,000 blocks and more, with checkpoints, and the store opened anew now and then.
#[test]
fn random_work_leaves_what_the_model_has() {
    let mut world = World::new(42);
    for turn in 1..=20_000 {
        world.work().unwrap();
        if turn % 500 == 0 {
            world.check();
        }
        if turn % 2_000 == 0 {
            world.checkpoint().unwrap();
            let (root, model) = world.history.pop().unwrap();
            world = World::open(world.disk.image(), &root, turn).unwrap();
            assert!(world.model == model);
            world.check();
        }
    }
}

#[test]
fn space_is_used_again_and_given_back() {
    let mut world = World::new(3);
    for _ in 0..5 {
        for file in 0..4 {
            world.write(file, 0, 2_000).unwrap();
        }
        assert_eq!(world.store.used(), 8_000 * BLOCK as u64);
        world.free_all();
        assert_eq!(world.store.used(), 0);
    }
    assert_eq!(world.disk.image().slots(), 8_000, "the file does not grow while it has room");
    let left =
        world.disk.image().data.chunks(BLOCK).filter(|block| block.iter().any(|byte| *byte != 0)).count();
    assert!(left <= 4096, "{left} blocks of nobody are still on the disk");
}

#[test]
fn the_space_of_old_checkpoints_is_given_back() {
    let mut world = World::new(3);
    for _ in 0..10 {
        world.write(7, 0, 100).unwrap();
        world.checkpoint().unwrap();
    }
    assert_eq!(world.store.used(), 200 * BLOCK as u64, "the last two");
    world.store.settle();
    assert_eq!(world.store.used(), 100 * BLOCK as u64, "the last");
    assert!(world.disk.image().slots() <= 300);
}

#[test]
fn a_file_full_of_holes_does_not_grow_for_ever() {
    let mut world = World::new(5);
    // Every other block goes: no large write finds room in one piece.
    for round in 0..8 {
        world.write(7 + round, 0, 4_000).unwrap();
        let odd = |&(file, block): &(Ino, u64)| file == 7 + round && block % 2 == 1;
        let gone: Vec<(Ino, u64)> = world.model.keys().copied().filter(odd).collect();
        let gone: Vec<BlockRef> = gone.iter().map(|place| world.model.remove(place).unwrap().block).collect();
        world.store.free(gone);
    }
    assert_eq!(world.store.used(), 16_000 * BLOCK as u64);
    let slots = world.disk.image().slots();
    assert!(slots <= 16_000 + 4_000 + 4_096, "{slots} slots for 16,000 blocks");
    world.check();
}

#[test]
fn threads_that_work_on_files_of_their_own_do_not_meet() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::create(directory(place.path()), key(1), Suite::Aes256Gcm).unwrap();
    std::thread::scope(|scope| {
        for file in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let mut numbers = Numbers::from(file);
                let (mut refs, mut fills) = ([None; 64], [0; 64]);
                for _ in 0..500 {
                    let first = numbers.below(60) as usize;
                    let range = first..64.min(first + 1 + numbers.below(8) as usize);
                    if numbers.below(4) == 0 {
                        store.free(refs[range].iter_mut().filter_map(Option::take));
                        continue;
                    }
                    fills[range.clone()].fill_with(|| numbers.next());
                    write(store, file, first as u64, &fills[range.clone()], &mut refs[range]);
                    let there = numbers.below(64) as usize;
                    if refs[there].is_some() {
                        assert_reads(store, file, there as u64, &refs[there..=there], &fills[there..=there]);
                    }
                }
                store.free(refs.into_iter().flatten());
            });
        }
    });
    assert_eq!(store.used(), 0);
}

#[test]
fn a_state_that_contradicts_itself_is_refused() {
    let mut world = World::new(1);
    world.write(7, 0, 2).unwrap();
    world.checkpoint().unwrap();
    let (root, model) = world.history.pop().unwrap();
    let blocks: Vec<BlockRef> = model.values().map(|cell| cell.block).collect();
    let image: Image = world.disk.image();
    let store = World::open(image, &root, 1).unwrap().store;
    let twice = store.keep([blocks[0], blocks[1], blocks[0]]);
    assert!(matches!(twice, Err(StoreError::Senseless { .. })), "{twice:?}");
    world.write(7, 2, 1).unwrap();
    let beyond = store.keep([world.model[&(7, 2)].block]);
    assert!(matches!(beyond, Err(StoreError::Senseless { .. })), "{beyond:?}");
}

#[test]
fn a_session_ends_before_it_uses_a_version_twice() {
    let world = World::new(1);
    world.store.sealed.store(SEALINGS - 2, Ordering::Relaxed);
    let mut refs = [None; 3];
    let key = world.store.file_key(7);
    let written = world.store.write(&key, 0, &mut vec![0; 3 * BLOCK], &mut refs);
    assert!(matches!(written, Err(StoreError::Exhausted)));
    assert_eq!((refs, world.store.used()), ([None; 3], 0));
    world.store.write(&key, 0, &mut vec![0; 2 * BLOCK], &mut refs[..2]).unwrap();
    assert!(matches!(world.store.checkpoint(b""), Err(StoreError::Exhausted)));
}
