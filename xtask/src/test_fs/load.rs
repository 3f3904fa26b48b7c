//! Load from all sides: fio, which reads back what it wrote, and stress-ng, which does everything at once.

use std::time::Duration;

use anyhow::Result;

use super::bed::Bed;
use super::tools::{run, within};
use super::{Extent, Outcome};

const LIMIT: Duration = Duration::from_secs(600);

/// Jobs of fio, one after the other; each checks all its blocks by their checksums in the end.
const JOBS: &[&[&str]] = &[
    &["--name=sequential", "--rw=write", "--ioengine=psync"],
    &["--name=random", "--rw=randwrite", "--ioengine=psync"],
    &["--name=mixed", "--rw=randrw", "--ioengine=psync"],
    &["--name=mapped", "--rw=randwrite", "--ioengine=mmap"],
    &["--name=overlapped", "--rw=randwrite", "--ioengine=libaio", "--iodepth=16", "--direct=1"],
    &[
        "--name=sparse",
        "--rw=randwrite",
        "--ioengine=psync",
        "--fallocate=none",
        "--file_service_type=random",
    ],
];

pub(super) fn fio(bed: &mut Bed) -> Result<Outcome> {
    let size = match bed.extent {
        Extent::Quick => 32,
        Extent::Whole => 256,
    };
    for job in JOBS {
        let mut command = within(LIMIT, "fio");
        command.args(*job).arg("--directory").arg(bed.sealed()).arg(format!("--size={size}m"));
        command.args(["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--fsync=64"]);
        // Blocks of all sizes; direct input and output wants whole sectors, and fio maps whole pages.
        let is_of_pages = job.contains(&"--direct=1") || job.contains(&"--ioengine=mmap");
        let sizes = if is_of_pages { "--bsrange=4k-64k" } else { "--bsrange=1k-64k" };
        command.args([sizes, "--numjobs=2", "--group_reporting", "--output-format=terse"]);
        run(bed, "fio.log", &bed.scratch(), &mut command)?.ok()?;
        bed.clear()?;
    }
    Ok(Outcome::Passed(format!("{} jobs, 2 files of {size} MiB each, crc32c", JOBS.len())))
}

/// What stress-ng does to files. Left out of its class `filesystem`: what isn't about the files of a directory
/// (`bind-mount`, `binderfs`, `dup`, `eventfd`, `ioprio`, `procfs`), and what a FUSE mount doesn't offer and it passes
/// over (`chattr`, `fiemap`, `inode-flags`, `verity`).
const STRESSORS: &[&str] = &[
    "access",
    "aio",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "dnotify",
    "fallocate",
    "fanotify",
    "fcntl",
    "file-ioctl",
    "filename",
    "flock",
    "fpunch",
    "fsize",
    "fstat",
    "getdent",
    "handle",
    "hdd",
    "inotify",
    "io",
    "iomix",
    "lease",
    "link",
    "locka",
    "lockf",
    "lockofd",
    "mknod",
    "open",
    "readahead",
    "rename",
    "revio",
    "seek",
    "sendfile",
    "splice",
    "symlink",
    "sync-file",
    "touch",
    "utime",
    "xattr",
];

pub(super) fn stress_ng(bed: &mut Bed) -> Result<Outcome> {
    let seconds = match bed.extent {
        Extent::Quick => 10,
        Extent::Whole => 90,
    };
    // All at once, one process each: what one does meets what the others do.
    let stress = |directory: &std::path::Path, log: &str| {
        let mut command = within(LIMIT, "stress-ng");
        for stressor in STRESSORS {
            command.args([&format!("--{stressor}"), "1"]);
        }
        command.args(["--verify", "--timeout", &seconds.to_string(), "--temp-path"]).arg(directory);
        run(bed, log, &bed.scratch(), &mut command)
    };
    let sealed = stress(&bed.sealed(), "stress-ng.sealed")?;
    let what = format!("{} stressors at once for {seconds} s", STRESSORS.len());
    if sealed.success {
        return Ok(Outcome::Passed(what));
    }
    let plain = stress(&bed.plain(), "stress-ng.plain")?;
    if plain.success { Err(sealed.failure()) } else { Ok(Outcome::Skipped(format!("{}", plain.failure()))) }
}
