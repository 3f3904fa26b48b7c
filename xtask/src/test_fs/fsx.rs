//! fsx: random reads, writes and changes of size on one file, each read compared with what was written.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::bed::Bed;
use super::tools::{from_registry, run as run_program, within};
use super::{Extent, Outcome};

/// The ways in which the operations are chosen: a name, and what fsx is told.
const WAYS: &[(&str, &str)] = &[
    ("default", ""),
    // Everything that it can do.
    (
        "all",
        "[weights]\nclose_open = 2\ninvalidate = 2\nmapread = 10\nmapwrite = 10\nread = 10\nwrite = 10\ntruncate = 5\n\
         fsync = 0.5\nfdatasync = 0.5\nposix_fallocate = 3\npunch_hole = 5\nsendfile = 5\nposix_fadvise = 3\n\
         copy_file_range = 5\n",
    ),
    // A file of many blocks, and operations that are smaller than one: most change a part of a block.
    (
        "small",
        "flen = 4194304\n[opsize]\nmax = 5000\n[weights]\nclose_open = 2\nmapread = 10\nmapwrite = 10\nread = 10\n\
         write = 20\ntruncate = 1\nfsync = 1\npunch_hole = 5\nposix_fadvise = 3\ncopy_file_range = 5\n",
    ),
];

/// Seeds for each way, and operations for each seed.
const fn amount(extent: Extent) -> (u64, u64) {
    match extent {
        Extent::Quick => (1, 15_000),
        Extent::Whole => (6, 60_000),
    }
}

/// For one seed.
const LIMIT: Duration = Duration::from_secs(900);

pub(super) fn run(bed: &mut Bed) -> Result<Outcome> {
    let program = match from_registry(bed, "fsx", "0.3.2") {
        Ok(program) => program,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    let (seeds, operations) = amount(bed.extent);
    // The gates must not fail by chance; who runs the whole looks for what nobody saw yet.
    let first = match bed.extent {
        Extent::Quick => 1,
        Extent::Whole => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
    };
    let bed = &*bed;
    // All ways at once: files of one mount, served together.
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let way = |(name, text): &(&'static str, &'static str)| {
            let (program, name, text) = (&program, *name, *text);
            scope.spawn(move || exercise(bed, program, name, text, first..first + seeds, operations))
        };
        let threads: Vec<_> = WAYS.iter().map(way).collect();
        threads.into_iter().map(|thread| thread.join().expect("nothing in it panics")).collect()
    });
    results.into_iter().collect::<Result<()>>()?;
    let total = WAYS.len() as u64 * seeds * operations;
    Ok(Outcome::Passed(format!("{total} operations in {} ways, seeds from {first}", WAYS.len())))
}

fn exercise(
    bed: &Bed,
    program: &Path,
    name: &str,
    text: &str,
    seeds: std::ops::Range<u64>,
    operations: u64,
) -> Result<()> {
    let configuration = bed.scratch().join(format!("fsx-{name}.toml"));
    fs::write(&configuration, text)?;
    for seed in seeds {
        let mut command = within(LIMIT, program);
        command.args(["-q", "-N", &operations.to_string(), "-S", &seed.to_string()]);
        command.arg("-P").arg(bed.scratch()).arg("-f").arg(&configuration);
        command.arg(bed.sealed().join(format!("fsx-{name}")));
        let ran = run_program(bed, &format!("fsx-{name}.log"), &bed.scratch(), &mut command)?;
        ran.ok().with_context(|| format!("the way '{name}', seed {seed}"))?;
    }
    Ok(())
}
