//! What a file server and whoever started it say to each other, over one stream socket.
//!
//! A message is a little-endian `u32` length and that many bytes of postcard. Both ends are the same binary, so the
//! encoding has no versions. The subjob never holds this socket; the paths in it may be the subjob's own.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::limits::{Quota, Rate, Usage};
use crate::operations::{Ino, Time};
use crate::trouble::Trouble;

/// Largest message: the names of some 100,000 files of layers.
const MAX_MESSAGE: usize = 32 << 20;

/// Most bytes that one [`Request::Read`] asks for.
pub(super) const MAX_READ: u32 = 1 << 20;

/// Everything a server needs but keys and descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub quota: Quota,
    pub rate: Rate,
    /// User and group id to serve as, if the server is started by root.
    pub run_as: Option<u32>,
    pub threads: u32,
    pub layers: Vec<Layer>,
    /// Whether the key of the blobs follows the key of the store.
    pub has_blobs: bool,
    /// Directories that follow, for [`LayerKind::Plain`].
    pub directories: u32,
}

/// Read-only files below one directory of the mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Relative to the top of the mount.
    pub at: OsString,
    pub entries: Vec<LayerEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerEntry {
    /// Relative to the layer's directory.
    pub path: OsString,
    /// Permissions.
    pub mode: u32,
    pub modified: Time,
    pub kind: LayerKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerKind {
    Directory,
    Symlink {
        target: OsString,
    },
    /// Contents that lie sealed in the directory of blobs, under the name that [`crate::blob_name`] gives their BLAKE3
    /// hash.
    Blob {
        hash: [u8; 32],
        size: u64,
    },
    /// A file as it is, at a path below one of the directories that the server was given, which it stays below.
    Plain {
        directory: u32,
        path: OsString,
        size: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Usage,
    /// The file at a path, which is followed through directories alone.
    Find {
        path: OsString,
    },
    Read {
        ino: Ino,
        offset: u64,
        length: u32,
    },
    /// What is in a directory.
    List {
        path: OsString,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The answer to the setup: the server waits for the mount.
    Ready,
    /// The setup came to nothing.
    Failed {
        why: String,
    },
    Usage(Report),
    Found(Found),
    /// Absent if it is no directory.
    Listed(Option<Vec<Listed>>),
    /// So many bytes follow, raw.
    Bytes {
        length: u32,
    },
    /// Reading failed; the trouble is in the next report.
    Unreadable,
}

/// How a file system fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub usage: Usage,
    /// The first thing that went wrong.
    pub trouble: Option<Trouble>,
    /// Processor time of the server.
    pub cpu: std::time::Duration,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    File {
        ino: Ino,
        size: u64,
        links: u32,
    },
    Directory,
    /// A pipe or the like.
    Other,
    /// The path is or goes through a symbolic link.
    Symlink,
    Nothing,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub name: OsString,
    /// Kind and permissions, as in `st_mode`.
    pub mode: u32,
    pub modified: Time,
    pub found: Found,
}

pub(super) fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if body.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large"));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    stream.write_all(&frame)
}

/// # Errors
/// `InvalidData` for a message that is too large or not a `T`; else what the stream says.
pub(super) fn read<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too large"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    match postcard::take_from_bytes(&body) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "message with bytes left over")),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// Sends an open file, with a byte that carries it.
pub(super) fn send_file(socket: &UnixStream, file: impl AsFd) -> io::Result<()> {
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&files));
    debug_assert!(fits, "the space is for one descriptor");
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes what [`send_file`] sent.
///
/// # Errors
/// `InvalidData` when something else came; else what the socket says.
pub(super) fn receive_file(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    match (received.bytes, file) {
        (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
        (_, Some(file)) => Ok(file),
        (_, None) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "something else came in place of a file"))
        }
    }
}
