//! What can keep a subjob from being started or its sandbox from being cleared away.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Failures on the client's side of the sandbox. What goes wrong inside it is [`crate::Ended::Setup`].
#[derive(Debug, Error)]
pub enum SandboxError {
    #[error("the sandbox's {field} is not usable: {why}")]
    Spec { field: &'static str, why: String },
    #[error("can't create '{path}' for the subjob's output")]
    Output { path: PathBuf, source: io::Error },
    #[error("can't give a pipe to the subjob")]
    Pipe { source: io::Error },
    #[error("can't give '{path}' to the subjob")]
    Own { path: PathBuf, source: io::Error },
    #[error(
        "'{path}' in the work directory has other hard links: copy it, a subjob owns what it finds there"
    )]
    HardLink { path: PathBuf },
    #[error("all {slots} user ids set aside for subjobs on this machine are in use")]
    NoSlot { slots: u32 },
    #[error("can't read the control groups of this machine from '{path}'")]
    Hierarchies { path: PathBuf, source: io::Error },
    #[error("can't remove the control group '{path}'")]
    RemoveGroup { path: PathBuf, source: io::Error },
    #[error("can't start the sandbox's init '{program}'")]
    Init { program: PathBuf, source: io::Error },
    #[error("can't open the channel to the sandbox's init")]
    Channel { source: io::Error },
    #[error("the subjob's command is larger than {limit} bytes")]
    CommandTooLarge { limit: usize },
    #[error("can't start the thread that watches the subjob")]
    Thread { source: io::Error },
}
