//! One direction of a connection: bytes move from socket to socket through a pipe, without being copied.
//!
//! ```text
//! open ──end of stream──► ended ──all passed on──► over     the receiver is told: no more
//!   ├────sender reset───► broken by the sender ──all passed on──► over
//!   └──receiver gone────► broken by the receiver: over          what is left is dropped
//! ```

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Most bytes that wait in a pipe. A bigger one takes fewer turns; beyond this size it was no faster.
const PIPE: usize = 256 << 10;

/// Size of a pipe where the kernel gives no bigger one, because its owner has many.
const SMALL_PIPE: usize = 64 << 10;

/// Most rounds of a turn: then the others have theirs.
const ROUNDS: u32 = 8;

#[derive(Debug)]
pub(super) struct Flow {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity: usize,
    /// Bytes in the pipe.
    held: usize,
    /// Small packets fill a pipe before it holds many bytes.
    full: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    BrokenBySender,
    BrokenByReceiver,
    /// The receiver has been told that there is no more.
    Closed,
}

/// What one turn did, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub taken: u64,
    pub passed: u64,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Runs,
    /// All that the sender sent has been passed on, and its end too.
    Closed,
    /// The sender has reset the connection, after what was passed on.
    SenderGone,
    ReceiverGone,
}

impl Flow {
    /// # Errors
    /// When there are too many pipes.
    pub(super) fn new() -> rustix::io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let capacity = fcntl_setpipe_size(&writer, PIPE).unwrap_or(SMALL_PIPE);
        Ok(Flow { reader, writer, capacity, held: 0, full: false, state: State::Open })
    }

    pub(super) fn wants_to_read(&self) -> bool {
        self.state == State::Open && !self.full && self.held < self.capacity
    }

    pub(super) fn wants_to_write(&self) -> bool {
        self.held > 0
    }

    pub(super) fn progress(&self) -> Progress {
        match self.state {
            State::Closed => Progress::Closed,
            State::BrokenBySender if self.held == 0 => Progress::SenderGone,
            State::BrokenByReceiver => Progress::ReceiverGone,
            State::Open | State::Ended | State::BrokenBySender => Progress::Runs,
        }
    }

    /// Moves what can be moved without waiting; takes at most `allowance` from the sender.
    pub(super) fn advance(&mut self, from: impl AsFd, to: impl AsFd, allowance: u64) -> Moved {
        let mut moved = Moved::default();
        for _ in 0..ROUNDS {
            let taken = self.take(&from, allowance - moved.taken);
            let passed = self.pass(&to);
            moved.taken += taken;
            moved.passed += passed;
            if taken + passed == 0 {
                break;
            }
        }
        if self.state == State::Ended && self.held == 0 {
            // A receiver that is gone already needs not be told.
            let _ = rustix::net::shutdown(to, Shutdown::Write);
            self.state = State::Closed;
        }
        moved
    }

    fn take(&mut self, from: impl AsFd, allowance: u64) -> u64 {
        let room = self.capacity - self.held.min(self.capacity);
        let length = room.min(usize::try_from(allowance).unwrap_or(usize::MAX));
        if !self.wants_to_read() || length == 0 {
            return 0;
        }
        match splice(from, None, &self.writer, None, length, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(0) => self.state = State::Ended,
            Ok(bytes) => {
                self.held += bytes;
                return bytes as u64;
            }
            Err(Errno::AGAIN) => self.full = self.held > 0,
            Err(Errno::INTR) => (),
            Err(_) => self.state = State::BrokenBySender,
        }
        0
    }

    fn pass(&mut self, to: impl AsFd) -> u64 {
        if self.held == 0 {
            return 0;
        }
        match splice(&self.reader, None, to, None, self.held, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(bytes) => {
                self.held -= bytes;
                self.full &= bytes == 0;
                bytes as u64
            }
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.held = 0;
                self.state = State::BrokenByReceiver;
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A flow between two sockets: what is written into the first is read from the second.
    fn flow() -> (UnixStream, UnixStream, Flow, UnixStream, UnixStream) {
        let (sender, from) = UnixStream::pair().unwrap();
        let (to, receiver) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        to.set_nonblocking(true).unwrap();
        (sender, from, Flow::new().unwrap(), to, receiver)
    }

    #[test]
    fn passes_on_what_is_allowed_and_then_the_end() {
        let (mut sender, from, mut flow, to, mut receiver) = flow();
        sender.write_all(b"hello").unwrap();
        drop(sender);
        assert_eq!(flow.advance(&from, &to, 0), Moved::default());
        assert_eq!(flow.advance(&from, &to, 3), Moved { taken: 3, passed: 3 });
        assert_eq!(flow.progress(), Progress::Runs);
        assert_eq!(flow.advance(&from, &to, 100), Moved { taken: 2, passed: 2 });
        assert_eq!(flow.progress(), Progress::Closed);
        let mut text = String::new();
        receiver.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn stops_reading_while_the_receiver_does_not_take_it() {
        let (mut sender, from, mut flow, to, receiver) = flow();
        sender.set_nonblocking(true).unwrap();
        let block = [0; 4_096];
        let mut sent = 0;
        while flow.wants_to_read() {
            sent += sender.write(&block).unwrap_or(0);
            flow.advance(&from, &to, u64::MAX);
        }
        assert!(flow.wants_to_write());
        drop(sender);
        receiver.set_nonblocking(true).unwrap();
        let (mut receiver, mut received) = (receiver, 0);
        let mut buffer = vec![0; 1 << 20];
        while flow.progress() == Progress::Runs {
            received += receiver.read(&mut buffer).unwrap_or(0);
            flow.advance(&from, &to, u64::MAX);
        }
        while let Ok(bytes @ 1..) = receiver.read(&mut buffer) {
            received += bytes;
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn knows_who_is_gone() {
        let (mut sender, from, mut flow, to, receiver) = flow();
        drop(receiver);
        sender.write_all(b"hello").unwrap();
        flow.advance(&from, &to, 100);
        assert_eq!(flow.progress(), Progress::ReceiverGone);
        assert!(!flow.wants_to_read() && !flow.wants_to_write());
    }
}
