//! What comes to the disk of what is written: counted by a disk of its own, which nobody else writes to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Session;
use super::columns::{Column, Kind};
use super::parts::PARTS;
use crate::workspace::{line_of, step};

/// Megabytes of the large file.
const SIZE: u64 = 128;

/// Of the disk, more than all that is kept on it.
const DISK: u64 = 1024;

/// What a row counts: its name, the parts, the aim.
const KINDS: &[(&str, &[&str], &str)] = &[
    ("write 128 MiB", &["write"], "at most 1.02"),
    ("40000 random writes of 4K", &["random-write"], ""),
    ("200 appends with fsync", &["append"], ""),
    ("4000 files of 1K, and gone", &["create", "unlink"], ""),
];

const SECTOR: f64 = 512.0;

/// Megabytes by kind and column.
///
/// # Errors
/// There are no loop devices, or a column fails.
pub(super) fn measure(session: &Session<'_>, kinds: &[Kind]) -> Result<Value> {
    let mut found: BTreeMap<&str, serde_json::Map<String, Value>> = BTreeMap::new();
    for kind in kinds {
        let disk = Disk::make(session.place)?;
        let column = Column::make(*kind, &disk.at, &session.mounter)?;
        for (what, names, _) in KINDS {
            let before = disk.written()?;
            for part in PARTS.iter().filter(|part| names.contains(&part.name)) {
                session.part(part, &column.work(), SIZE)?;
                step(&mut Command::new("sync"))?;
            }
            let written = (disk.written()? - before) * SECTOR / f64::from(1 << 20);
            let row = found.entry(what).or_default();
            if *kind == Kind::Plain {
                row.insert("plain_mib".into(), written.into());
            } else {
                let plain = row["plain_mib"].as_f64().context("plain is the first column")?;
                row.insert(kind.name().into(), (written / plain).into());
            }
        }
        column.end()?;
        disk.end()?;
    }
    Ok(json!(found))
}

/// What the issue asks of a kind.
pub(super) fn aim(what: &str) -> &'static str {
    KINDS.iter().find(|(name, ..)| *name == what).map_or("", |(.., aim)| aim)
}

/// An ext4 in a file, by a loop device. It is gone when this is.
struct Disk {
    at: PathBuf,
    image: PathBuf,
    device: String,
    is_mounted: bool,
}

impl Disk {
    fn make(place: &Path) -> Result<Self> {
        let (at, image) = (place.join("disk"), place.join("image"));
        fs::create_dir_all(&at)?;
        fs::File::create(&image)?.set_len(DISK << 20)?;
        let format = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        step(Command::new("mkfs.ext4").args(format).arg(&image))?;
        let mut attach = Command::new("losetup");
        attach.args(["--find", "--show"]).arg(&image);
        let output = attach.output().context("start losetup")?;
        ensure!(output.status.success(), "{} ended with {}", line_of(&attach), output.status);
        let device = String::from_utf8(output.stdout)?.trim().to_owned();
        let mut disk = Disk { at, image, device, is_mounted: false };
        step(Command::new("mount").arg(&disk.device).arg(&disk.at))?;
        disk.is_mounted = true;
        Ok(disk)
    }

    /// Sectors written until now (Documentation/admin-guide/iostats.rst, the seventh figure).
    fn written(&self) -> Result<f64> {
        let name = Path::new(&self.device).file_name().context("a device has a name")?;
        let text = fs::read_to_string(Path::new("/sys/block").join(name).join("stat"))?;
        let sectors = text.split_whitespace().nth(6).and_then(|sectors| sectors.parse().ok());
        sectors.context("malformed statistics of a block device")
    }

    fn end(mut self) -> Result<()> {
        step(Command::new("umount").arg(&self.at))?;
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        }
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
        let _ = fs::remove_file(&self.image);
    }
}
