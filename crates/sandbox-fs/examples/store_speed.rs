//! How fast a store is, beside a plain file that gets the same calls: megabytes per second, and processor seconds of
//! this process for each gigabyte.
//!
//! ```text
//! cargo run --release -p sandbox-fs --example store_speed -- [DIRECTORY [MEBIBYTES [ROUNDS]]]
//! ```
//! Rounds of all kinds take turns, and the median counts. Caches are warm: the disk has no part in reading.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sandbox_fs::seal::{StoreKey, Suite};
use sandbox_fs::store::{BLOCK, BlockRef, FileKey, Store};

/// Bytes of a large request, the kernel's largest.
const LARGE: usize = 1 << 20;

/// How many blocks are written and read at random.
const RANDOM: u64 = 50_000;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let place = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mebibytes: usize = args.next().map_or(Ok(1024), |text| text.parse()).context("mebibytes")?;
    let rounds: usize = args.next().map_or(Ok(5), |text| text.parse()).context("rounds")?;

    let kinds = [None, Some(Suite::Aes256Gcm), Some(Suite::ChaCha20Poly1305)];
    let mut measured: Vec<Vec<[Cost; WORKS.len()]>> = kinds.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (suite, costs) in kinds.iter().zip(&mut measured) {
            let directory = tempfile::tempdir_in(&place).context("make a directory")?;
            costs.push(measure(directory.path(), *suite, mebibytes << 20)?);
        }
    }
    println!("{:<20} {:<18} {:>10} {:>16}", "work", "kind", "MB/s", "CPU s per GB");
    for (work, name) in WORKS.iter().enumerate() {
        for (suite, costs) in kinds.iter().zip(&measured) {
            let kind = suite.map_or("plain".to_owned(), |suite| format!("{suite:?}"));
            let speed = median(costs.iter().map(|costs| costs[work].megabytes_per_second()));
            let processor = median(costs.iter().map(|costs| costs[work].processor_per_gigabyte()));
            println!("{name:<20} {kind:<18} {speed:>10.0} {processor:>16.3}");
        }
    }
    Ok(())
}

/// In the order in which they are done.
const WORKS: [&str; 5] =
    ["write 1 MiB", "sync after it", "read 1 MiB", "write 4 KiB random", "read 4 KiB random"];

#[derive(Clone, Copy, Default)]
struct Cost {
    bytes: usize,
    wall: Duration,
    processor: Duration,
}

impl Cost {
    fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.wall.as_secs_f64()
    }

    fn processor_per_gigabyte(&self) -> f64 {
        self.processor.as_secs_f64() / (self.bytes as f64 / 1e9)
    }
}

/// What is measured: a store, or a plain file.
enum Target {
    Plain(File),
    Sealed { store: Box<Store>, key: FileKey, refs: Vec<Option<BlockRef>> },
}

impl Target {
    fn write(&mut self, first: u64, blocks: &mut [u8]) -> Result<()> {
        match self {
            Target::Plain(file) => file.write_all_at(blocks, first * BLOCK as u64).context("write"),
            Target::Sealed { store, key, refs } => {
                let range = first as usize..first as usize + blocks.len() / BLOCK;
                store.write(key, first, blocks, &mut refs[range]).context("write")
            }
        }
    }

    fn read(&self, first: u64, blocks: &mut [u8]) -> Result<()> {
        match self {
            Target::Plain(file) => file.read_exact_at(blocks, first * BLOCK as u64).context("read"),
            Target::Sealed { store, key, refs } => {
                let range = first as usize..first as usize + blocks.len() / BLOCK;
                store.read(key, first, &refs[range], blocks).context("read")
            }
        }
    }

    fn sync(&self) -> Result<()> {
        match self {
            Target::Plain(file) => file.sync_data().context("sync"),
            Target::Sealed { store, .. } => store.sync().context("sync"),
        }
    }
}

fn measure(place: &Path, suite: Option<Suite>, bytes: usize) -> Result<[Cost; WORKS.len()]> {
    let mut target = match suite {
        None => {
            Target::Plain(File::options().read(true).write(true).create_new(true).open(place.join("plain"))?)
        }
        Some(suite) => {
            let store = Store::create(File::open(place)?.into(), StoreKey::random()?, suite)?;
            Target::Sealed { key: store.file_key(7), store: Box::new(store), refs: vec![None; bytes / BLOCK] }
        }
    };
    let blocks = (bytes / BLOCK) as u64;
    let mut buffer = vec![0x5a_u8; LARGE];
    let large = || (0..blocks).step_by(LARGE / BLOCK);
    let mut costs = [Cost::default(); WORKS.len()];
    costs[0] = cost(bytes, || large().try_for_each(|first| target.write(first, &mut buffer)))?;
    costs[1] = cost(bytes, || target.sync())?;
    costs[2] = cost(bytes, || large().try_for_each(|first| target.read(first, &mut buffer)))?;
    let random = || (1..=RANDOM).map(|turn| turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks);
    let block = &mut buffer[..BLOCK];
    let moved = RANDOM as usize * BLOCK;
    costs[3] = cost(moved, || random().try_for_each(|first| target.write(first, block)))?;
    costs[4] = cost(moved, || random().try_for_each(|first| target.read(first, block)))?;
    Ok(costs)
}

fn cost(bytes: usize, work: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let (began, before) = (Instant::now(), processor());
    work()?;
    Ok(Cost { bytes, wall: began.elapsed(), processor: processor() - before })
}

/// Processor time of this process so far.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("processor time is not negative")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
