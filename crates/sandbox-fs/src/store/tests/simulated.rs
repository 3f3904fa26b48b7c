//! A disk in memory that loses power or fails at a call of one's choice.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::super::disk::{Copy, Disk, Short};
use super::super::{BLOCK, lock};
use super::Numbers;

/// What a power cut tears apart.
const SECTOR: usize = 512;

/// All that is on the disk of a store.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Image {
    pub(super) data: Vec<u8>,
    /// In the order of [`Copy::BOTH`].
    pub(super) checkpoints: [Option<Vec<u8>>; 2],
}

impl Image {
    pub(super) fn slots(&self) -> usize {
        self.data.len() / BLOCK
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[offset..end].copy_from_slice(bytes);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    PowerCut,
    Error(Errno),
}

/// A handle: clones are the same disk.
#[derive(Clone)]
pub(super) struct Simulated(Arc<Mutex<State>>);

struct State {
    /// What reading tells.
    now: Image,
    /// What a power cut is sure to leave, but for `unsynced`.
    durable: Image,
    /// Sectors written since the last sync: some of them will be there after a power cut.
    unsynced: BTreeSet<usize>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    off: bool,
    numbers: Numbers,
}

impl Simulated {
    pub(super) fn new(image: Image, seed: u64) -> Simulated {
        let (durable, unsynced) = (image.clone(), BTreeSet::new());
        let numbers = Numbers::from(seed);
        let state = State { now: image, durable, unsynced, calls: 0, fault: None, off: false, numbers };
        Simulated(Arc::new(Mutex::new(state)))
    }

    /// The fault happens at call number `call`, counted from 0 and from the disk's beginning.
    pub(super) fn fail_at(&self, call: u64, fault: Fault) {
        lock(&self.0).fault = Some((call, fault));
    }

    pub(super) fn calls(&self) -> u64 {
        lock(&self.0).calls
    }

    pub(super) fn has_power(&self) -> bool {
        !lock(&self.0).off
    }

    pub(super) fn image(&self) -> Image {
        lock(&self.0).now.clone()
    }

    pub(super) fn set_image(&self, image: Image) {
        lock(&self.0).now = image;
    }

    /// What is there when the power comes back: of what was not synced, any part.
    pub(super) fn survivor(&self) -> Image {
        let mut state = lock(&self.0);
        let likely = [0, 50, 100][state.numbers.below(3) as usize];
        let mut image = state.durable.clone();
        // The length of a file is a matter of its own.
        if state.numbers.below(100) < likely {
            image.data.resize(state.now.data.len(), 0);
        }
        for sector in std::mem::take(&mut state.unsynced) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            if range.end <= image.data.len().min(state.now.data.len()) && state.numbers.below(100) < likely {
                image.data[range.clone()].copy_from_slice(&state.now.data[range]);
            }
        }
        image
    }
}

impl State {
    /// Whether this call goes well, and if not, what it fails with and whether anything of it is done.
    fn call(&mut self) -> Result<(), io::Error> {
        if self.off {
            return Err(Errno::NODEV.into());
        }
        let call = self.calls;
        self.calls += 1;
        match self.fault {
            Some((at, Fault::PowerCut)) if at == call => {
                self.off = true;
                Err(Errno::NODEV.into())
            }
            Some((at, Fault::Error(errno))) if at == call => Err(errno.into()),
            _ => Ok(()),
        }
    }

    fn touch(&mut self, offset: usize, length: usize) {
        self.unsynced.extend(offset / SECTOR..(offset + length).div_ceil(SECTOR));
    }

    fn part_of(&mut self, bytes: &[u8]) -> usize {
        self.numbers.below(bytes.len() as u64 + 1) as usize
    }
}

impl Disk for Simulated {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = lock(&self.0);
        state.call()?;
        let data = state.now.data.get(offset as usize..).unwrap_or_default();
        let length = data.len().min(buffer.len());
        buffer[..length].copy_from_slice(&data[..length]);
        Ok(length)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Short> {
        let mut state = lock(&self.0);
        let offset = offset as usize;
        let was_off = state.off;
        let called = state.call();
        // What is told to be written is; what follows may be.
        let (told, done) = match (&called, was_off) {
            (Ok(()), _) => (bytes.len(), bytes.len()),
            (Err(_), true) => (0, 0),
            (Err(_), false) => {
                let told = state.part_of(bytes);
                let more = state.part_of(&bytes[told..]);
                (told, told + more)
            }
        };
        state.now.write(offset, &bytes[..done]);
        state.touch(offset, done);
        called.map_err(|source| Short { written: told, source })
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut state = lock(&self.0);
        let called = state.call();
        let (offset, length) = (offset as usize, length as usize);
        let whole = called.is_ok() || (!state.off && state.numbers.below(2) == 0);
        if whole {
            let end = (offset + length).min(state.now.data.len());
            state.now.data[offset.min(end)..end].fill(0);
            state.touch(offset, length);
        }
        called
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.call()?;
        state.durable.data = state.now.data.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.call()?;
        state.now.data.resize(length as usize, 0);
        Ok(())
    }

    fn write_checkpoint(&self, copy: Copy, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.0);
        let place = copy as usize;
        // The file is made and filled; then it is synced.
        for _ in 0..2 {
            if let Err(error) = state.call() {
                let part = state.part_of(bytes);
                let mut zeros = bytes[..part].to_vec();
                zeros.resize(bytes.len(), 0);
                let left = match state.numbers.below(5) {
                    0 => state.durable.checkpoints[place].clone(),
                    1 => Some(Vec::new()),
                    2 => Some(bytes[..part].to_vec()),
                    3 => Some(zeros),
                    _ => Some(bytes.to_vec()),
                };
                state.now.checkpoints[place].clone_from(&left);
                state.durable.checkpoints[place] = left;
                return Err(error);
            }
        }
        state.now.checkpoints[place] = Some(bytes.to_vec());
        state.durable.checkpoints[place] = Some(bytes.to_vec());
        Ok(())
    }

    fn checkpoint(&self, copy: Copy) -> io::Result<Option<Box<dyn Read + '_>>> {
        let mut state = lock(&self.0);
        state.call()?;
        let file = state.now.checkpoints[copy as usize].clone();
        Ok(file.map(|bytes| Box::new(io::Cursor::new(bytes)) as Box<dyn Read>))
    }
}
