//! The file systems that are compared, and how each is made and taken away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bench::grid::processor_time;
use crate::mount::{Mount, Mounter};
use crate::workspace::{line_of, step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory of the machine's file system: what all others are compared with.
    Plain,
    /// Ours.
    Sealed,
    /// What a subjob has whose files are not sealed: a directory, mounted as its sandbox does.
    Unsealed,
    Gocryptfs,
    Securefs,
    /// The kernel's overlay.
    Overlay,
}

const KINDS: [Kind; 6] =
    [Kind::Plain, Kind::Sealed, Kind::Unsealed, Kind::Gocryptfs, Kind::Securefs, Kind::Overlay];

/// The columns that are meant by `--only`, plain always among them, and those that this machine lacks.
///
/// # Errors
/// A name that is none.
pub(super) fn chosen(only: Option<&str>) -> Result<(Vec<Kind>, Vec<&'static str>)> {
    let names: Option<Vec<&str>> = only.map(|only| only.split(',').collect());
    for name in names.iter().flatten() {
        let known: Vec<&str> = KINDS.iter().map(Kind::name).collect();
        ensure!(known.contains(name), "no column '{name}'; there are: {}", known.join(", "));
    }
    let is_chosen =
        |kind: &Kind| *kind == Kind::Plain || names.as_ref().is_none_or(|names| names.contains(&kind.name()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |kind: &Kind| match kind {
        Kind::Gocryptfs | Kind::Securefs => {
            std::env::split_paths(&path).any(|directory| directory.join(kind.name()).is_file())
        }
        _ => true,
    };
    let (there, lacking): (Vec<Kind>, Vec<Kind>) = KINDS.into_iter().filter(is_chosen).partition(has);
    Ok((there, lacking.iter().map(Kind::name).collect()))
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Sealed => "sealed",
            Kind::Unsealed => "unsealed",
            Kind::Gocryptfs => "gocryptfs",
            Kind::Securefs => "securefs",
            Kind::Overlay => "overlay",
        }
    }
}

/// One of them, mounted. It is gone when this is.
#[derive(Debug)]
pub(super) struct Column {
    top: PathBuf,
    sealed: Option<Mount>,
    is_mounted: bool,
}

impl Column {
    /// Makes a fresh one below `place`.
    ///
    /// # Errors
    /// What it says.
    pub(super) fn make(kind: Kind, place: &Path, mounter: &Mounter) -> Result<Self> {
        let top = place.join(kind.name());
        let mut column = Column { top, sealed: None, is_mounted: false };
        fs::create_dir(&column.top)?;
        for directory in ["work", "backing", "upper", "lower", "index"] {
            fs::create_dir(column.top.join(directory))?;
        }
        let [work, backing] = [column.work(), column.top.join("backing")];
        match kind {
            Kind::Plain => {}
            Kind::Sealed => column.sealed = Some(Mount::start(mounter, &backing, &work, None)?),
            Kind::Unsealed => {
                quietly(Command::new("mount").arg("--bind").arg(&backing).arg(&work))?;
                column.is_mounted = true;
                let flags = "remount,bind,nosuid,nodev,noexec";
                quietly(Command::new("mount").args(["-o", flags]).arg(&work))?;
            }
            Kind::Gocryptfs => {
                let password = ["-q", "-extpass", "echo password"];
                quietly(
                    Command::new("gocryptfs").args(password).args(["-init", "-scryptn", "10"]).arg(&backing),
                )?;
                quietly(Command::new("gocryptfs").args(password).arg(&backing).arg(&work))?;
                column.is_mounted = true;
            }
            Kind::Securefs => {
                let password = ["--pass", "password"];
                quietly(Command::new("securefs").arg("create").args(password).arg(&backing))?;
                quietly(
                    Command::new("securefs").args(["mount", "-b"]).args(password).arg(&backing).arg(&work),
                )?;
                column.is_mounted = true;
            }
            Kind::Overlay => {
                let at = |name: &str| column.top.join(name).display().to_string();
                let options =
                    format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("index"));
                quietly(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&work))?;
                column.is_mounted = true;
            }
        }
        Ok(column)
    }

    /// Where the parts run.
    pub(super) fn work(&self) -> PathBuf {
        self.top.join("work")
    }

    /// Processor time that the server of the sealed files took until now.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn server_time(&self) -> Result<Option<Duration>> {
        self.sealed.as_ref().map(|mount| processor_time(mount.server())).transpose()
    }

    /// Unmounts it and removes what it kept.
    ///
    /// # Errors
    /// It is in use, or its server had trouble.
    pub(super) fn end(mut self) -> Result<()> {
        if let Some(mount) = self.sealed.take() {
            mount.end()?;
        }
        if self.is_mounted {
            step(Command::new("umount").arg(self.work()))?;
            self.is_mounted = false;
        }
        Ok(())
    }
}

impl Drop for Column {
    fn drop(&mut self) {
        self.sealed = None;
        if self.is_mounted {
            let _ = Command::new("umount").arg("--lazy").arg(self.work()).status();
        }
        // What stays is below a temporary directory that is removed as a whole.
        let _ = fs::remove_dir_all(&self.top);
    }
}

/// Runs a command that must succeed and has nothing to tell if it does. Its output goes to a file: a server that stays
/// behind would keep a pipe open.
fn quietly(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "{} ended with {status}", line_of(command));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen_by_name_and_plain_is_always_there() {
        let (found, lacking) = chosen(Some("overlay,sealed")).expect("both are there");
        assert_eq!(found, [Kind::Plain, Kind::Sealed, Kind::Overlay]);
        assert!(lacking.is_empty());
        assert!(chosen(Some("ext5")).is_err());
    }
}
