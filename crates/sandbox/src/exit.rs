//! How a subjob's program ended, which limit it met, and what it used.

use std::fmt;
use std::time::Duration;

use model::{ByteSize, Crash, Dialog, Usage};
use serde::{Deserialize, Serialize};

/// All there is to say about a program that has ended; nothing of it runs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub ended: Ended,
    /// The first limit that was met, if one was. It explains `ended`: a program killed for its memory also
    /// shows `Signal(9)`.
    pub hit: Option<LimitHit>,
    /// Wall time includes the pauses.
    pub usage: Usage,
    /// The last process that a fault ended, whichever of the program's it was.
    pub crash: Option<Crash>,
    /// Programs that were executed and began with the portal loader. As many as the kernel had room to tell of.
    pub registered: u32,
    /// Windows that waited for somebody and were closed, in order.
    pub dialogs: Vec<ClosedDialog>,
    pub network: NetworkUse,
}

/// Most dialogs of a subjob that are reported; later ones are closed all the same.
pub const MAX_DIALOGS: usize = 8;

/// Largest picture of a dialog, in bytes.
pub const MAX_PICTURE: usize = 256 << 10;

/// Longest title and text of a dialog, in bytes each.
pub const MAX_TITLE: usize = 1 << 10;

/// A dialog with how it looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedDialog {
    pub dialog: Dialog,
    /// A PNG file's bytes; empty when no picture could be taken.
    pub picture: Vec<u8>,
}

/// What went through connections to the endpoints that the job names, and which of them could not be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkUse {
    /// Bytes that an endpoint's side of a connection took.
    pub sent: u64,
    /// Bytes that the program's side took.
    pub received: u64,
    /// Failures to connect, the same ones counted together; a bounded number of different ones.
    pub unreached: Vec<Unreached>,
}

/// An endpoint that a program tried to reach and didn't. It saw a connection that was reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    /// As the job names it.
    pub endpoint: String,
    /// For people.
    pub why: String,
    pub times: u32,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was not reached: {}", self.endpoint, self.why)?;
        if self.times > 1 { write!(f, " ({} times)", self.times) } else { Ok(()) }
    }
}

/// What became of the program itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It ended by itself with this status.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The sandbox stood, but the program could not be executed in it.
    NotStarted(String),
    /// The sandbox could not be built; the program did not run.
    Setup(String),
    /// The VM Portal ended or fell silent; the program's end is not known.
    Lost(String),
}

/// A limit with its value and, where there is one, the measured peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitHit {
    Memory {
        limit: ByteSize,
        peak: ByteSize,
    },
    Wall {
        limit: Duration,
    },
    /// Processor time of all its processes.
    Cpu {
        limit: Duration,
        used: Duration,
    },
    /// Processes and threads, the most that were alive at one time.
    Processes {
        limit: u32,
        peak: u32,
    },
    Disk {
        limit: ByteSize,
        used: ByteSize,
    },
    /// Standard output or standard error.
    Stream {
        limit: ByteSize,
        size: ByteSize,
    },
    /// No limit: what the disk gave back is not what was written there.
    Tampered,
    /// No limit: the desktop's disk is full or has failed, or whoever serves the files has.
    FilesLost,
    /// No limit: [`crate::Control::terminate`] was called.
    Terminated {
        cause: Cause,
    },
}

/// Why a subjob was terminated from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The desktop's owner or its other programs need the machine.
    Contention,
    /// The grid no longer wants the result.
    Cancelled,
    /// The client is being stopped.
    Shutdown,
}
