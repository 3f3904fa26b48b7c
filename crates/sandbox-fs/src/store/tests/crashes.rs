//! The power goes at every call there is. Afterwards the store opens at the last checkpoint, exactly, and at the one
//! before as long as that is promised; at nothing else.

use super::simulated::{Fault, Simulated};
use super::world::{Model, World};
use super::*;

const SEEDS: u64 = 8;
const TURNS: usize = 60;

/// Works until the power goes, if it does.
fn run(seed: u64, cut: Option<u64>) -> World {
    let mut world = World::new(seed);
    if let Some(cut) = cut {
        world.disk.fail_at(cut, Fault::PowerCut);
    }
    for _ in 0..TURNS {
        match world.work() {
            Ok(()) if world.disk.has_power() => {}
            _ => break,
        }
    }
    world
}

#[test]
fn the_store_opens_at_its_last_checkpoint_wherever_the_power_went() {
    let (mut cuts, mut opened, mut refused) = (0, 0, 0);
    for seed in 0..SEEDS {
        let calls = run(seed, None).disk.calls();
        for cut in 0..calls {
            let world = run(seed, Some(cut));
            assert!(!world.disk.has_power(), "the power goes at call {cut} of {calls}");
            cuts += 1;
            let image = world.disk.survivor();
            let checkpoints = world.history.len();
            for (index, (root, model)) in world.history.iter().enumerate() {
                match World::open(image.clone(), root, seed) {
                    Ok(survivor) if index + world.good >= checkpoints => {
                        opened += 1;
                        assert!(survivor.model == *model);
                        survivor.check();
                        go_on(survivor, seed);
                    }
                    Err(StoreError::NotExpected) if index + world.good < checkpoints => refused += 1,
                    Ok(survivor) if index + 2 >= checkpoints => {
                        // No longer promised, and its place not yet written over.
                        assert!(survivor.model == *model);
                        right_or_tampered(&survivor);
                    }
                    other => panic!("cut {cut} of seed {seed}, checkpoint {index}: {:?}", other.map(|_| ())),
                }
            }
        }
    }
    println!("{cuts} power cuts: opened {opened} checkpoints, refused {refused}");
    assert!(cuts > 400 && opened > 400 && refused > 400);
}

/// Blocks that only a checkpoint of the past refers to may have been written over.
fn right_or_tampered(world: &World) {
    for (&(file, block), cell) in &world.model {
        let mut out = vec![0; BLOCK];
        match world.store.read(&world.store.file_key(file), block, &[Some(cell.block)], &mut out) {
            Ok(()) => assert!(out == filled(cell.fill)),
            Err(StoreError::Tampered { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A store that was opened after a power cut is as good as any.
fn go_on(mut world: World, seed: u64) {
    for _ in 0..10 {
        world.work().unwrap();
    }
    world.check();
    world.checkpoint().unwrap();
    let (root, model) = world.history.pop().unwrap();
    let world = World::open(world.disk.survivor(), &root, seed).unwrap();
    assert!(world.model == model);
    world.check();
}

#[test]
fn what_a_checkpoint_needs_is_not_written_over() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        for _ in 0..30 {
            world.work().unwrap();
        }
        world.checkpoint().unwrap();
        let before = world.disk.image();
        let (_, model) = world.history.last().unwrap().clone();
        for _ in 0..100 {
            world.write_some().unwrap();
        }
        world.free_all();
        assert_same_blocks(&model, &before.data, &world.disk);
    }
}

fn assert_same_blocks(model: &Model, before: &[u8], disk: &Simulated) {
    let after = disk.image().data;
    for cell in model.values() {
        let start = cell.block.slot.offset() as usize;
        assert!(before[start..start + BLOCK] == after[start..start + BLOCK]);
    }
}
