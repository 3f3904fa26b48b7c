//! The disk fails or is full, at every call there is: who asked is told, nothing that was there is served wrong, and no
//! slot is lost.

use rustix::io::Errno;

use super::simulated::Fault;
use super::world::World;
use super::*;

#[test]
fn an_error_of_the_disk_is_told_and_harms_nothing_else() {
    let mut told = 0;
    for seed in 0..5 {
        let mut calm = World::new(seed);
        (0..60).for_each(|_| calm.work().unwrap());
        for call in 0..calm.disk.calls() {
            let errno = if call % 2 == 0 { Errno::NOSPC } else { Errno::IO };
            let mut world = World::new(seed);
            world.disk.fail_at(call, Fault::Error(errno));
            for _ in 0..60 {
                let Err(error) = world.work() else { continue };
                told += 1;
                let StoreError::Io { source, .. } = &error else { panic!("{error:?}") };
                assert_eq!(source.raw_os_error(), Some(errno.raw_os_error()));
                world.check();
            }
            world.check();
            world.free_all();
            world.checkpoint().unwrap();
            world.store.settle();
            assert_eq!(world.store.used(), 0, "seed {seed}, call {call}");
        }
    }
    assert!(told > 150, "{told} errors were told");
}

#[test]
fn a_block_that_was_not_written_has_no_reference_and_no_slot() {
    let mut world = World::new(1);
    world.disk.fail_at(0, Fault::Error(Errno::NOSPC));
    world.write(7, 0, 100).unwrap_err();
    assert_eq!(world.store.used(), world.model.len() as u64 * BLOCK as u64);
    assert!(world.model.len() < 100);
    world.check();
    world.write(7, 0, 100).unwrap();
    assert_eq!(world.store.used(), 100 * BLOCK as u64);
    world.check();
}

#[test]
fn a_block_is_lost_rather_than_tampered_with_if_writing_over_it_failed() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut world = World::new(seed);
        world.write(7, 0, 20).unwrap();
        world.disk.fail_at(1, Fault::Error(Errno::IO));
        world.write(7, 0, 20).unwrap_err();
        world.check();
        let key = world.store.file_key(7);
        for (&(_, block), cell) in &world.model {
            let read = world.store.read(&key, block, &[Some(cell.block)], &mut vec![0; BLOCK]);
            lost += usize::from(matches!(read, Err(StoreError::Lost { .. })));
        }
        // Writing it again makes it good.
        world.write(7, 0, 20).unwrap();
        assert!(world.model.values().all(|cell| !cell.doubtful));
        world.check();
    }
    assert!(lost > 50, "{lost}");
}

#[test]
fn an_error_while_reading_is_no_tampering() {
    let mut world = World::new(1);
    world.write(7, 0, 1).unwrap();
    world.disk.fail_at(1, Fault::Error(Errno::IO));
    let block = world.model[&(7, 0)].block;
    let read = world.store.read(&world.store.file_key(7), 0, &[Some(block)], &mut vec![0; BLOCK]);
    assert!(matches!(read, Err(StoreError::Io { .. })), "{read:?}");
    world.check();
}

#[test]
fn a_checkpoint_that_failed_holds_no_space() {
    let mut world = World::new(1);
    world.write(7, 0, 10).unwrap();
    world.disk.fail_at(2, Fault::Error(Errno::IO));
    world.checkpoint().unwrap_err();
    world.write(7, 0, 10).unwrap();
    assert_eq!(world.store.used(), 10 * BLOCK as u64, "written in place");
    world.free_all();
    assert_eq!(world.store.used(), 0);
}

#[test]
fn a_checkpoint_for_which_there_is_no_room_takes_that_of_free_slots() {
    let mut world = World::new(1);
    world.write(7, 0, 10).unwrap();
    world.free_all();
    world.write(7, 0, 1).unwrap();
    world.disk.fail_at(3, Fault::Error(Errno::NOSPC));
    world.checkpoint().unwrap();
    let root = world.history[0].0;
    let image = world.disk.image();
    assert!(image.data[BLOCK..].iter().all(|byte| *byte == 0), "holes");
    World::open(image, &root, 1).unwrap().check();
}

#[test]
fn a_checkpoint_that_failed_leaves_the_last_one() {
    for call in 0..3 {
        let mut world = World::new(call);
        world.write(7, 0, 10).unwrap();
        world.checkpoint().unwrap();
        world.write(7, 0, 10).unwrap();
        world.disk.fail_at(world.disk.calls() + call, Fault::Error(Errno::IO));
        world.checkpoint().unwrap_err();
        world.write(7, 5, 10).unwrap();
        world.check();
        let (root, model) = world.history[0].clone();
        let reopened = World::open(world.disk.survivor(), &root, 1).unwrap();
        assert!(reopened.model == model);
        reopened.check();
        world.checkpoint().unwrap();
        let (root, model) = world.history[1].clone();
        let reopened = World::open(world.disk.survivor(), &root, 1).unwrap();
        assert!(reopened.model == model);
        reopened.check();
    }
}
