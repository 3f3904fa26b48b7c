//! What the client and the sandbox's init say to each other, over one stream socket.
//!
//! The client sends one [`Setup`], later single-byte [`Order`]s; init answers with [`Report`]s. A message is a
//! little-endian `u32` length and that many bytes of postcard. Both ends are the same binary, so the encoding
//! has no versions; the subjob's program never holds the socket, yet the reader takes nothing for granted.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::control_group::Doors;
use crate::exit::{ClosedDialog, Ended, NetworkUse};
use crate::identity::Identity;
use crate::layout::Place;
use crate::network::NetworkSetup;
use crate::spec::{Code, Display};

/// Largest message: the kernel takes about as much of arguments and environment in one execve.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

/// Everything that init needs; paths are the host's, except for `program`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub identity: Identity,
    pub root: OsString,
    pub work: OsString,
    pub program: OsString,
    /// What is executable, seen from inside.
    pub places: Vec<Place>,
    pub code: Code,
    pub args: Vec<OsString>,
    /// `NAME=value`, in the order given.
    pub env: Vec<OsString>,
    pub stdin: Option<OsString>,
    /// Whether a pipe to read from is sent right after this message.
    pub stdin_follows: bool,
    /// Where to mount the files that are served, by whom a socket tells that is sent after that.
    pub served: Option<OsString>,
    /// Standard output and standard error, if they are files of that mount.
    pub outputs: [Option<OsString>; 2],
    /// The control groups that the program joins.
    pub doors: Doors,
    /// Most tasks of the subjob's user in its user namespace.
    pub tasks: u64,
    pub disk: u64,
    /// Seconds of processor time after which the kernel ends a single process, whatever the client sees.
    pub cpu: Option<u64>,
    pub scratch: u64,
    /// Whether the VM Portal must say from time to time how full `/tmp` and `/dev/shm` are, because no control
    /// group counts them.
    pub report_scratch: bool,
    pub display: Option<Display>,
    /// The endpoints that the program can reach, if there are any.
    pub network: Option<NetworkSetup>,
}

/// What the client tells the VM Portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    Stop = b's',
    Continue = b'c',
    /// The client is there.
    Beat = b'b',
}

impl Order {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Order::Stop, Order::Continue, Order::Beat].into_iter().find(|order| *order as u8 == byte)
    }
}

/// What init and the VM Portal tell the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The program has been executed.
    Started,
    /// Bytes in `/tmp` and `/dev/shm`.
    Scratch { used: u64 },
    /// A window that waited for somebody is being closed.
    Dialog(ClosedDialog),
    /// The VM Portal is there.
    Beat,
    /// What became of an order to stop or to continue: whether all processes do. One for each, in their order.
    Obeyed { done: bool },
    /// The last crash of a process, in the portal loader's words.
    Crash { frame: Vec<u8> },
    /// Nothing of the subjob runs any more.
    Ended {
        ended: Ended,
        cpu: Duration,
        peak: u64,
        /// Processes that have registered.
        registered: u32,
    },
    /// What its connections carried; after its end.
    Network(NetworkUse),
}

/// Writes one message.
///
/// # Errors
/// `InvalidInput` when it is larger than [`MAX_MESSAGE`]; else what the stream says.
pub(crate) fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if body.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large"));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    stream.write_all(&frame)
}

/// Reads one message, waiting for it.
///
/// # Errors
/// `InvalidData` for a message that is too large or not a `T`; else what the stream says.
pub(crate) fn read<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = checked_length(length)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    decode(&body)
}

/// Sends an open file after a message.
///
/// # Errors
/// What the socket says.
pub(crate) fn send_file(socket: &UnixStream, file: impl AsFd) -> io::Result<()> {
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    let flags = SendFlags::NOSIGNAL;
    match sendmsg(socket, &[IoSlice::new(&[FILE_MARK])], &mut ancillary, flags)? {
        1 => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Takes what [`send_file`] sent.
///
/// # Errors
/// `InvalidData` when it was something else; else what the socket says.
pub(crate) fn receive_file(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let file = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let is_whole = got.bytes == 1 && byte == [FILE_MARK];
    file.filter(|_| is_whole).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no file was sent"))
}

/// The byte that carries a file: a socket sends none without any.
const FILE_MARK: u8 = b'f';

/// Messages cut out of bytes as they arrive.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// As [`read`].
    pub(crate) fn pop<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = checked_length(*length)?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = decode(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }
}

fn checked_length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(bytes) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too large"));
    }
    Ok(length)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "message with bytes left over")),
        Err(e) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> Setup {
        Setup {
            identity: Identity::Slot { id: 2_000_000_003 },
            root: "/var/lib/grid/root".into(),
            work: "/var/lib/grid/work".into(),
            program: "/usr/bin/hmmsearch".into(),
            places: vec![Place::Directory("/usr/bin".into()), Place::File("/app/tool".into())],
            code: Code::Fixed,
            args: vec!["--cpu".into(), "1".into()],
            env: vec!["LANG=C".into()],
            stdin: Some("/var/lib/grid/in".into()),
            served: None,
            outputs: [None, None],
            stdin_follows: false,
            doors: Doors {
                version2: Some("/sys/fs/cgroup/x".into()),
                version1: vec!["/sys/fs/cgroup/memory/x/tasks".into()],
            },
            tasks: 64,
            disk: 1 << 31,
            cpu: Some(61),
            scratch: 1 << 26,
            report_scratch: true,
            display: Some(Display { server: "/usr/bin/Xvfb".into(), size: (1_280, 1_024) }),
            network: None,
        }
    }

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let mut bytes = Vec::new();
        write(&mut bytes, &setup()).unwrap();
        assert_eq!(read::<Setup>(&mut bytes.as_slice()).unwrap(), setup());
    }

    #[test]
    fn messages_are_cut_out_wherever_the_stream_breaks() {
        let reports = [
            Report::Started,
            Report::Scratch { used: 4_096 },
            Report::Ended { ended: Ended::Code(3), cpu: Duration::from_millis(5), peak: 9, registered: 0 },
        ];
        let mut bytes = Vec::new();
        for report in &reports {
            write(&mut bytes, report).unwrap();
        }
        for piece in [1, 2, 3, 5, 7, bytes.len()] {
            let mut inbox = Inbox::default();
            let mut found: Vec<Report> = Vec::new();
            for part in bytes.chunks(piece) {
                inbox.push(part);
                while let Some(report) = inbox.pop().unwrap() {
                    found.push(report);
                }
            }
            assert_eq!(found, reports, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_file_follows_its_message() {
        let (one, other) = UnixStream::pair().unwrap();
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        write(&mut &one, &setup()).unwrap();
        send_file(&one, &reading).unwrap();
        assert_eq!(read::<Setup>(&mut &other).unwrap(), setup());
        let received = receive_file(&other).unwrap();
        rustix::io::write(&writing, b"through").unwrap();
        let mut found = [0; 7];
        std::fs::File::from(received).read_exact(&mut found).unwrap();
        assert_eq!(&found, b"through");
        (&one).write_all(b"x").unwrap();
        assert_eq!(receive_file(&other).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_message_too_large_is_refused_before_it_is_read() {
        let bytes = u32::MAX.to_le_bytes();
        assert_eq!(read::<Setup>(&mut bytes.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// Mutates a good message in 20,000 ways from a fixed seed: the decoder may refuse, but not panic, and what
    /// it takes it must be able to write again.
    #[test]
    fn no_bytes_make_the_decoder_panic() {
        let mut good = Vec::new();
        write(&mut good, &setup()).unwrap();
        let mut random = crate::testing::random();
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=random(4) {
                match random(3) {
                    0 => {
                        let at = random(bytes.len());
                        bytes[at] = u8::try_from(random(256)).unwrap();
                    }
                    1 => bytes.truncate(1 + random(bytes.len())),
                    _ => bytes.insert(random(bytes.len()), u8::try_from(random(256)).unwrap()),
                }
            }
            if let Ok(setup) = read::<Setup>(&mut bytes.as_slice()) {
                write(&mut Vec::new(), &setup).unwrap();
            }
            let mut inbox = Inbox::default();
            inbox.push(&bytes);
            let _ = inbox.pop::<Report>();
        }
    }
}
