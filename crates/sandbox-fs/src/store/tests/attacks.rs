//! Somebody who has the disk changes what is on it, in every way of a table. Each block that was touched must be told to
//! be tampered with; every other must still read right; nothing wrong is ever returned.

use super::simulated::{Image, Simulated};
use super::world::{Model, World};
use super::*;

/// Changes something of what the attacker has in hand.
type Way = fn(&mut Attack);

/// Changes of the data file while the store is open.
const WAYS: &[(&str, Way)] = &[
    ("flip a bit", |attack| {
        let byte = attack.any_byte();
        attack.now.data[byte] ^= 1 << attack.numbers.below(8);
    }),
    ("overwrite some bytes", |attack| {
        let (start, length) = (attack.any_byte(), 1 + attack.numbers.below(9000) as usize);
        let end = (start + length).min(attack.now.data.len());
        let value = attack.numbers.next() as u8;
        attack.now.data[start..end].fill(value);
    }),
    ("zero a block", |attack| {
        let range = attack.any_block();
        attack.now.data[range].fill(0);
    }),
    ("swap two blocks of one file", |attack| {
        let (one, two) = attack.two_of(|one, two| one == two);
        attack.swap(&one, &two);
    }),
    ("swap blocks of two files", |attack| {
        let (one, two) = attack.two_of(|one, two| one != two);
        attack.swap(&one, &two);
    }),
    ("swap blocks of the same number in two files", |attack| {
        let (mut one, mut two) = (None, None);
        for (&(file, number), cell) in attack.model {
            if number == attack.model.keys().next().unwrap().1 {
                *(if file == 7 { &mut one } else { &mut two }) = Some(range_of(&cell.block));
            }
        }
        if let (Some(one), Some(two)) = (one, two) {
            attack.swap(&one, &two);
        }
    }),
    ("copy a block over another", |attack| {
        let (from, to) = (attack.any_block(), attack.any_block());
        attack.now.data.copy_within(from, to.start);
    }),
    ("put a block of another store there", |attack| {
        let range = attack.any_block();
        let other = attack.other;
        attack.put_from(&other.data, range.clone(), range);
    }),
    ("put another block of another store there", |attack| {
        let (from, to) = (attack.any_block(), attack.any_block());
        let other = attack.other;
        attack.put_from(&other.data, from, to);
    }),
    ("put a block of another key there", |attack| {
        let range = attack.any_block();
        let foreign = attack.foreign;
        attack.put_from(&foreign.data, range.clone(), range);
    }),
    ("put back an old block", |attack| {
        let range = attack.any_block();
        let old = attack.any_old();
        attack.put_from(&old.data, range.clone(), range);
    }),
    ("put an old block elsewhere", |attack| {
        let (from, to) = (attack.any_block(), attack.any_block());
        let old = attack.any_old();
        attack.put_from(&old.data, from, to);
    }),
    ("put back the old data file", |attack| attack.now.data = attack.any_old().data.clone()),
    ("put another store's data file there", |attack| attack.now.data = attack.other.data.clone()),
    ("cut at the edge of a block", |attack| {
        let start = attack.any_block().start;
        attack.now.data.truncate(start);
    }),
    ("cut within a block", |attack| {
        let byte = attack.any_byte();
        attack.now.data.truncate(byte);
    }),
    ("empty the file", |attack| attack.now.data.clear()),
    ("cut and fill up with zeros", |attack| {
        let (byte, length) = (attack.any_byte(), attack.now.data.len());
        attack.now.data.truncate(byte);
        attack.now.data.resize(length, 0);
    }),
    ("lengthen the file", |attack| {
        let length = attack.now.data.len() + 1 + attack.numbers.below(9000) as usize;
        attack.now.data.resize(length, 7);
    }),
    ("insert a block", |attack| {
        let start = attack.any_block().start;
        attack.now.data.splice(start..start, [9; BLOCK]);
    }),
    ("take a block out", |attack| {
        let range = attack.any_block();
        attack.now.data.drain(range);
    }),
    ("turn all blocks by some", |attack| {
        let by = attack.any_block().end % attack.now.data.len();
        attack.now.data.rotate_left(by);
    }),
];

/// What the attacker has.
struct Attack<'a> {
    now: Image,
    /// Earlier contents of the same store.
    old: &'a [Image],
    /// Another store under the same key, with the same blocks of the same files in the same places.
    other: &'a Image,
    /// The same under another key.
    foreign: &'a Image,
    model: &'a Model,
    numbers: Numbers,
}

impl<'a> Attack<'a> {
    fn any_byte(&mut self) -> usize {
        self.numbers.below(self.now.data.len() as u64) as usize
    }

    fn any_block(&mut self) -> std::ops::Range<usize> {
        let start = self.numbers.below(self.now.slots() as u64) as usize * BLOCK;
        start..start + BLOCK
    }

    fn any_old(&mut self) -> &'a Image {
        &self.old[self.numbers.below(self.old.len() as u64) as usize]
    }

    /// Places of two blocks whose files are as wanted.
    fn two_of(&mut self, files: fn(Ino, Ino) -> bool) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let cells: Vec<(Ino, BlockRef)> =
            self.model.iter().map(|(&(file, _), cell)| (file, cell.block)).collect();
        loop {
            let (one, two) = (self.numbers.one_of(&cells), self.numbers.one_of(&cells));
            if one.1 != two.1 && files(one.0, two.0) {
                return (range_of(&one.1), range_of(&two.1));
            }
        }
    }

    fn swap(&mut self, one: &std::ops::Range<usize>, two: &std::ops::Range<usize>) {
        let kept = self.now.data[one.clone()].to_vec();
        self.now.data.copy_within(two.clone(), one.start);
        self.now.data[two.clone()].copy_from_slice(&kept);
    }

    fn put_from(&mut self, data: &[u8], from: std::ops::Range<usize>, to: std::ops::Range<usize>) {
        if let Some(block) = data.get(from) {
            self.now.data[to].copy_from_slice(block);
        }
    }
}

fn range_of(block: &BlockRef) -> std::ops::Range<usize> {
    let start = block.slot.offset() as usize;
    start..start + BLOCK
}

/// A store with three files, and earlier contents of its disk.
fn victim(store_key: u8) -> (World, Vec<Image>) {
    let disk = Simulated::new(Image::default(), 1);
    let store = Store::create_on(Box::new(disk.clone()), key(store_key), Suite::Aes256Gcm).unwrap();
    let mut world = World::with(store, disk, Model::new(), Numbers::from(1));
    let mut old = Vec::new();
    for _ in 0..4 {
        for file in 7..10 {
            world.write(file, 0, 20).unwrap();
        }
        world.checkpoint().unwrap();
        world.store.settle();
        old.push(world.disk.image());
        for file in 7..10 {
            // Over old versions in their own places, as well as where a checkpoint forbids that.
            world.write(file, 3, 5).unwrap();
            world.write(file, 3, 5).unwrap();
        }
        old.push(world.disk.image());
    }
    world.write(8, 0, 20).unwrap();
    (world, old)
}

/// Blocks that read right, and blocks that were told to be tampered with. Panics at anything else.
fn verdicts(store: &Store, model: &Model, before: &[u8], after: &[u8]) -> (usize, usize) {
    let (mut right, mut told) = (0, 0);
    for (&(file, block), cell) in model {
        let place = range_of(&cell.block);
        let touched = before.get(place.clone()) != after.get(place);
        let mut out = vec![1; BLOCK];
        match store.read(&store.file_key(file), block, &[Some(cell.block)], &mut out) {
            Ok(()) => {
                assert!(!touched, "block {block} of file {file} was touched and is read");
                assert!(out == filled(cell.fill), "block {block} of file {file} is wrong");
                right += 1;
            }
            Err(StoreError::Tampered { file: in_file, block: number }) => {
                assert!(touched, "block {block} of file {file} was not touched");
                assert_eq!((in_file, number), (file, block));
                assert!(out.iter().all(|byte| *byte == 0), "nothing is returned with an error");
                told += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (right, told)
}

#[test]
fn what_was_touched_is_told_and_the_rest_reads_right() {
    let (world, old) = victim(1);
    let (other, foreign) = (victim(1).0.disk.image(), victim(2).0.disk.image());
    let image = world.disk.image();
    let mut numbers = Numbers::from(77);
    println!("{:<45} {:>6} {:>9} {:>6}", "way", "times", "tampered", "right");
    for (name, way) in WAYS {
        let (mut told, mut right) = (0, 0);
        let times = 500;
        for _ in 0..times {
            let mut attack = Attack {
                now: image.clone(),
                old: &old,
                other: &other,
                foreign: &foreign,
                model: &world.model,
                numbers: numbers.clone(),
            };
            way(&mut attack);
            numbers = attack.numbers.clone();
            let after = attack.now.data.clone();
            world.disk.set_image(attack.now);
            let (reads, tampered) = verdicts(&world.store, &world.model, &image.data, &after);
            right += reads;
            told += tampered;
        }
        println!("{name:<45} {times:>6} {told:>9} {right:>6}");
        let harmless = *name == "lengthen the file";
        assert_eq!(told == 0, harmless, "{name}");
    }
    world.disk.set_image(image);
    world.check();
}

#[test]
fn a_block_that_is_asked_for_under_another_name_is_told() {
    let (world, _) = victim(1);
    let cell = world.model[&(7, 0)];
    let read = |file: Ino, number: u64, block: BlockRef| {
        world.store.read(&world.store.file_key(file), number, &[Some(block)], &mut vec![0; BLOCK])
    };
    read(7, 0, cell.block).unwrap();
    let mut younger = cell.block;
    younger.version = world.model[&(7, 1)].block.version;
    let mut marked = cell.block;
    marked.tag[0] ^= 1;
    let mut unknown = cell.block;
    unknown.version = Version::new(999, 1);
    for (file, number, block) in
        [(8, 0, cell.block), (7, 1, cell.block), (7, 0, younger), (7, 0, marked), (7, 0, unknown)]
    {
        let told = read(file, number, block);
        assert!(matches!(told, Err(StoreError::Tampered { .. })), "{told:?}");
    }
}

/// Changes of what is on the disk while the store is closed. The expected root is that of the last checkpoint.
const CLOSED: &[(&str, Opens, Way)] = &[
    ("flip a bit of the checkpoint", Opens::Never, |attack| {
        let (place, byte) = attack.any_of_checkpoint();
        let bit = attack.numbers.below(8);
        attack.now.checkpoints[place].as_mut().unwrap()[byte] ^= 1 << bit;
    }),
    ("cut the checkpoint", Opens::Never, |attack| {
        let (place, byte) = attack.any_of_checkpoint();
        attack.now.checkpoints[place].as_mut().unwrap().truncate(byte);
    }),
    ("lengthen the checkpoint", Opens::Never, |attack| {
        let (place, byte) = attack.any_of_checkpoint();
        attack.now.checkpoints[place].as_mut().unwrap().extend(vec![0; byte + 1]);
    }),
    ("overwrite some of the checkpoint", Opens::Never, |attack| {
        let (place, byte) = attack.any_of_checkpoint();
        let other = attack.other.checkpoints[place].clone().unwrap();
        let file = attack.now.checkpoints[place].as_mut().unwrap();
        let end = file.len().min(other.len());
        file[byte.min(end)..end].copy_from_slice(&other[byte.min(end)..end]);
        file[0] ^= u8::from(byte >= end);
    }),
    ("take the checkpoint away", Opens::Never, |attack| {
        let (place, _) = attack.any_of_checkpoint();
        attack.now.checkpoints[place] = None;
    }),
    ("take all checkpoints away", Opens::Never, |attack| attack.now.checkpoints = [None, None]),
    ("put back old checkpoints", Opens::Never, |attack| {
        attack.now.checkpoints = attack.any_old().checkpoints.clone();
    }),
    ("put back all that is old", Opens::Never, |attack| attack.now = attack.any_old().clone()),
    ("put another store's checkpoints there", Opens::Never, |attack| {
        attack.now.checkpoints = attack.other.checkpoints.clone();
    }),
    ("put another store there", Opens::Never, |attack| attack.now = attack.other.clone()),
    ("put a store of another key there", Opens::Never, |attack| attack.now = attack.foreign.clone()),
    ("swap the two checkpoints", Opens::AsItWas, |attack| attack.now.checkpoints.swap(0, 1)),
    ("make two of one checkpoint", Opens::AsItWas, |attack| {
        let (place, _) = attack.any_of_checkpoint();
        attack.now.checkpoints[1 - place] = attack.now.checkpoints[place].clone();
    }),
    ("put back the old data file under it", Opens::Tampered, |attack| {
        attack.now.data = attack.any_old().data.clone();
    }),
    ("take the data file's contents away", Opens::Tampered, |attack| attack.now.data.clear()),
    ("flip a bit of the data file", Opens::Tampered, |attack| {
        let byte = attack.any_byte();
        attack.now.data[byte] ^= 1 << attack.numbers.below(8);
    }),
];

/// What comes of it.
#[derive(Clone, Copy, PartialEq)]
enum Opens {
    Never,
    /// It opens, and all blocks are right.
    AsItWas,
    /// It opens, and blocks that were touched are told, if any that is in use was.
    Tampered,
}

impl Attack<'_> {
    /// The place of the expected checkpoint, and a byte in it.
    fn any_of_checkpoint(&mut self) -> (usize, usize) {
        // `victim` makes an even number of checkpoints, and `closed_victim` one more.
        let place = 0;
        let length = self.now.checkpoints[place].as_ref().unwrap().len() as u64;
        (place, self.numbers.below(length) as usize)
    }
}

#[test]
fn a_store_that_was_changed_while_closed_is_refused_or_told_of() {
    let closed = |store_key: u8| {
        let (mut world, old) = victim(store_key);
        world.checkpoint().unwrap();
        (world, old)
    };
    let (world, old) = closed(1);
    let (root, model) = world.history.last().unwrap().clone();
    let (image, other, foreign) = (world.disk.image(), closed(1).0.disk.image(), closed(2).0.disk.image());
    let mut numbers = Numbers::from(78);
    println!("{:<45} {:>6} {:>8} {:>9} {:>6}", "way", "times", "refused", "tampered", "right");
    for (name, opens, way) in CLOSED {
        let (mut refused, mut told, mut right) = (0, 0, 0);
        let times = 300;
        for turn in 0..times {
            let mut attack = Attack {
                now: image.clone(),
                old: &old,
                other: &other,
                foreign: &foreign,
                model: &model,
                numbers: numbers.clone(),
            };
            way(&mut attack);
            numbers = attack.numbers.clone();
            let after = attack.now.data.clone();
            match World::open(attack.now, &root, turn) {
                Ok(opened) => {
                    assert!(opened.model == model, "{name}");
                    let (reads, tampered) = verdicts(&opened.store, &model, &image.data, &after);
                    right += reads;
                    told += tampered;
                }
                Err(StoreError::NotExpected) => refused += 1,
                Err(error) => panic!("{name}: {error}"),
            }
        }
        println!("{name:<45} {times:>6} {refused:>8} {told:>9} {right:>6}");
        match opens {
            Opens::Never => assert_eq!(refused, times, "{name}"),
            Opens::AsItWas => assert_eq!((refused, told), (0, 0), "{name}"),
            Opens::Tampered => assert!(refused == 0 && told > 0, "{name}"),
        }
    }
}

#[test]
fn a_store_does_not_open_under_another_key_or_root() {
    let (mut world, _) = victim(1);
    world.checkpoint().unwrap();
    let (root, _) = world.history.last().unwrap();
    let open = |key, root: &Root| {
        let disk = Simulated::new(world.disk.image(), 1);
        Store::open_on(Box::new(disk), key, root).map(|_| ())
    };
    open(key(1), root).unwrap();
    for bit in 0..256 {
        let mut bytes = [1; 32];
        bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = open(StoreKey::take(&mut bytes).unwrap(), root);
        assert!(matches!(opened, Err(StoreError::WrongKey)), "{opened:?}");
        let mut bytes = *root.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = open(key(1), &Root::from_bytes(bytes));
        assert!(matches!(opened, Err(StoreError::NotExpected)), "{opened:?}");
    }
}
