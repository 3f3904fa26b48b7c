//! A store, a model of what must be in it, and random work that is done to both.

use std::collections::{BTreeMap, HashSet};

use super::super::block::Version;
use super::simulated::{Image, Simulated};
use super::*;

/// What each block of each file holds: where it is, and what it is filled with.
pub(super) type Model = BTreeMap<(Ino, u64), Cell>;

#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Cell {
    pub(super) block: BlockRef,
    pub(super) fill: u64,
    /// Writing over it failed, so that it may be lost.
    pub(super) doubtful: bool,
}

/// Files that random work is done to, and blocks in each.
const FILES: u64 = 3;
const BLOCKS: u64 = 40;

pub(super) struct World {
    pub(super) store: Store,
    pub(super) disk: Simulated,
    pub(super) model: Model,
    pub(super) numbers: Numbers,
    /// Roots of the checkpoints that were made, and what was in them.
    pub(super) history: Vec<(Root, Model)>,
    /// How many of the last checkpoints must open.
    pub(super) good: usize,
    /// Of this session: none may come twice.
    versions: HashSet<u64>,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let disk = Simulated::new(Image::default(), seed);
        let store = Store::create_on(Box::new(disk.clone()), key(1), Suite::Aes256Gcm).unwrap();
        World::with(store, disk, Model::new(), Numbers::from(seed))
    }

    pub(super) fn with(store: Store, disk: Simulated, model: Model, numbers: Numbers) -> World {
        World { store, disk, model, numbers, history: Vec::new(), good: 0, versions: HashSet::new() }
    }

    /// Opens what is on a disk at `root`, whose checkpoint must have `model` in it.
    pub(super) fn open(image: Image, root: &Root, seed: u64) -> Result<World, StoreError> {
        let disk = Simulated::new(image, seed);
        let (store, state) = Store::open_on(Box::new(disk.clone()), key(1), root)?;
        let cells: Vec<((Ino, u64), Cell)> = postcard::from_bytes(&state).unwrap();
        let model: Model = cells.into_iter().collect();
        store.keep(model.values().map(|cell| cell.block)).unwrap();
        Ok(World::with(store, disk, model, Numbers::from(seed)))
    }

    /// One piece of random work.
    pub(super) fn work(&mut self) -> Result<(), StoreError> {
        match self.numbers.below(20) {
            0..12 => self.write_some(),
            12..16 => {
                self.free_some();
                Ok(())
            }
            16 => self.store.sync(),
            17..19 => self.checkpoint(),
            _ => {
                self.store.settle();
                self.good = self.good.min(1);
                Ok(())
            }
        }
    }

    pub(super) fn write_some(&mut self) -> Result<(), StoreError> {
        let file = 7 + self.numbers.below(FILES);
        let first = self.numbers.below(BLOCKS);
        let count = 1 + self.numbers.below(12);
        self.write(file, first, count)
    }

    pub(super) fn write(&mut self, file: Ino, first: u64, count: u64) -> Result<(), StoreError> {
        let old: Vec<Option<BlockRef>> =
            (first..first + count).map(|n| self.model.get(&(file, n)).map(|cell| cell.block)).collect();
        let fills: Vec<u64> = (0..count).map(|_| self.numbers.next()).collect();
        let mut blocks: Vec<u8> = fills.iter().flat_map(|&fill| filled(fill)).collect();
        let mut refs = old.clone();
        let written = self.store.write(&self.store.file_key(file), first, &mut blocks, &mut refs);
        for (index, number) in (first..first + count).enumerate() {
            if refs[index] == old[index] {
                assert!(written.is_err(), "a write that went well has written all");
                if let Some(cell) = self.model.get_mut(&(file, number)) {
                    cell.doubtful = true;
                }
                continue;
            }
            let block = refs[index].unwrap();
            assert!(self.versions.insert(version(&block)), "a version was used twice");
            self.model.insert((file, number), Cell { block, fill: fills[index], doubtful: false });
        }
        written
    }

    fn free_some(&mut self) {
        let file = 7 + self.numbers.below(FILES);
        let first = self.numbers.below(BLOCKS);
        let last = first + self.numbers.below(20);
        let range = (file, first)..=(file, last);
        let gone: Vec<(Ino, u64)> = self.model.range(range).map(|(place, _)| *place).collect();
        let refs: Vec<BlockRef> = gone.iter().map(|place| self.model.remove(place).unwrap().block).collect();
        self.store.free(refs);
    }

    pub(super) fn free_all(&mut self) {
        self.store.free(std::mem::take(&mut self.model).into_values().map(|cell| cell.block));
    }

    pub(super) fn checkpoint(&mut self) -> Result<(), StoreError> {
        let cells: Vec<_> = self.model.iter().map(|(place, cell)| (*place, *cell)).collect();
        // The place of the one before the last is written over.
        self.good = self.good.min(1);
        let root = self.store.checkpoint(&postcard::to_stdvec(&cells).unwrap())?;
        self.history.push((root, self.model.clone()));
        self.good = (self.good + 1).min(2);
        Ok(())
    }

    /// Every block must read as the model has it, one by one and all of a file at once. If writing over it failed, it
    /// may be lost, and not more.
    pub(super) fn check(&self) {
        for (&(file, block), cell) in &self.model {
            let mut out = vec![0; BLOCK];
            match self.store.read(&self.store.file_key(file), block, &[Some(cell.block)], &mut out) {
                Ok(()) => assert!(out == filled(cell.fill), "block {block} of file {file} is wrong"),
                Err(StoreError::Lost { .. }) if cell.doubtful => {}
                Err(error) => panic!("block {block} of file {file}: {error}"),
            }
        }
        if self.model.values().any(|cell| cell.doubtful) {
            return;
        }
        for file in 7..7 + FILES {
            let cells: Vec<Option<Cell>> =
                (0..BLOCKS + 20).map(|block| self.model.get(&(file, block)).copied()).collect();
            let refs: Vec<Option<BlockRef>> = cells.iter().map(|cell| cell.map(|cell| cell.block)).collect();
            let mut out = vec![1; refs.len() * BLOCK];
            self.store.read(&self.store.file_key(file), 0, &refs, &mut out).unwrap();
            for (cell, out) in cells.iter().zip(out.chunks(BLOCK)) {
                assert!(out == cell.map_or(vec![0; BLOCK], |cell| filled(cell.fill)));
            }
        }
    }
}

pub(super) fn version(block: &BlockRef) -> u64 {
    Version::nonce(block.version)
}
