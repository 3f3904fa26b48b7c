//! The ways into the subjob's control groups, held open: the program takes them when it can't see the groups any more.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::step::{StepError, step_at};
use crate::control_group::Doors;
use crate::sys::{self, Fork};

/// Opened by init, where the groups can be seen and we are who may.
#[derive(Debug)]
pub(super) struct OpenDoors {
    version2: Option<Version2>,
    version1: Vec<File>,
}

#[derive(Debug)]
struct Version2 {
    directory: OwnedFd,
    /// `cgroup.procs`, for a kernel that lets nobody be born in a group.
    processes: File,
}

/// Where a child came to life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    /// In the group of version 2.
    Inside,
    Outside,
}

impl OpenDoors {
    pub(super) fn new(doors: &Doors) -> Result<Self, StepError> {
        let version2 = |directory| {
            let directory: &Path = Path::new(directory);
            let opened = rustix::fs::openat(
                CWD,
                directory,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            Ok(Version2 {
                directory: step_at("open the control group", directory, opened)?,
                processes: open(&directory.join("cgroup.procs"))?,
            })
        };
        Ok(OpenDoors {
            version2: doors.version2.as_ref().map(version2).transpose()?,
            version1: doors.version1.iter().map(|path| open(Path::new(path))).collect::<Result<_, _>>()?,
        })
    }

    /// Forks, into the group of version 2 where that can be.
    pub(super) fn fork(&self) -> io::Result<(Fork, Birth)> {
        // What can't be born in it, for whatever reason, can still try to join it and be told why not.
        match self.version2.as_ref().map(|group| sys::fork_into(group.directory.as_fd())) {
            Some(Ok(fork)) => Ok((fork, Birth::Inside)),
            Some(Err(_)) | None => Ok((sys::fork()?, Birth::Outside)),
        }
    }

    /// What a child with one thread must write `0` into to be in all groups.
    pub(super) fn left(&self, birth: Birth) -> Vec<&File> {
        let version2 = self.version2.as_ref().filter(|_| birth == Birth::Outside);
        version2.map(|group| &group.processes).into_iter().chain(&self.version1).collect()
    }
}

fn open(path: &Path) -> Result<File, StepError> {
    step_at("open the control group", path, OpenOptions::new().write(true).open(path))
}
