//! What goes into and comes out of a program: pipes that it holds, carried to and from our own files, which it never
//! does. A terminal takes orders from whoever holds it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use model::ByteSize;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::io::{Errno, retry_on_intr};
use tokio::sync::mpsc::UnboundedSender;

/// Bytes carried at a time: what a pipe holds.
const PIECE: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "standard output",
            Stream::Stderr => "standard error",
        }
    }
}

/// How a stream came to its end.
#[derive(Debug)]
pub enum Carried {
    /// All of it arrived.
    Whole,
    /// Who read it has gone, as `head` does when it has enough. The program gets a SIGPIPE at its next write.
    ReaderGone,
    /// Only its first bytes arrived, as many as allowed.
    OverLimit,
    Failed(io::Error),
}

/// Whether our standard input is worth carrying: it is open, and not `/dev/null`.
pub fn has_input() -> bool {
    let is_null = |stat: rustix::fs::Stat| {
        let null = rustix::fs::stat("/dev/null").map(|null| null.st_rdev);
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && null == Ok(stat.st_rdev)
    };
    rustix::fs::fstat(io::stdin()).is_ok_and(|stat| !is_null(stat))
}

/// Feeds our standard input into a pipe until either ends. Nobody waits for it: it ends when nobody can read the
/// pipe any more, or with us.
pub fn feed(pipe: OwnedFd) -> io::Result<()> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // Input that fails to come or to go ends there, as it would without us.
        let _ = feed_all(&input, &pipe);
    })?;
    Ok(())
}

fn feed_all(input: &OwnedFd, pipe: &OwnedFd) -> rustix::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        // Asking for nothing of a pipe tells when its last reader has gone.
        let mut wanted = [PollFd::new(input, PollFlags::IN), PollFd::new(pipe, PollFlags::empty())];
        retry_on_intr(|| poll(&mut wanted, None))?;
        if !wanted[1].revents().is_empty() {
            return Ok(());
        }
        match rustix::io::read(input, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => write_all(pipe, &buffer[..length])?,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Carries a stream to where ours goes, and tells how it ended.
pub fn carry(
    stream: Stream,
    pipe: OwnedFd,
    to: BorrowedFd<'_>,
    limit: Option<ByteSize>,
    ended: UnboundedSender<(Stream, Carried)>,
) -> io::Result<()> {
    let to = to.try_clone_to_owned()?;
    thread::Builder::new().name(stream.name().replace("standard ", "")).spawn(move || {
        let carried = carry_all(&File::from(pipe), &to, limit.map_or(u64::MAX, |limit| limit.0));
        // Who would listen is gone only when we end.
        let _ = ended.send((stream, carried));
    })?;
    Ok(())
}

fn carry_all(pipe: &File, to: &OwnedFd, limit: u64) -> Carried {
    let mut buffer = vec![0; PIECE];
    let mut left = limit;
    loop {
        let length = match retry_on_intr(|| rustix::io::read(pipe, &mut buffer)) {
            Ok(0) => return Carried::Whole,
            Ok(length) => length,
            Err(error) => return Carried::Failed(error.into()),
        };
        let allowed = usize::try_from(left).map_or(length, |left| left.min(length));
        match write_all(to, &buffer[..allowed]) {
            Ok(()) => {}
            Err(Errno::PIPE) => return Carried::ReaderGone,
            Err(error) => return Carried::Failed(error.into()),
        }
        if allowed < length {
            return Carried::OverLimit;
        }
        left -= allowed as u64;
    }
}

/// Writes all, also to a file that somebody made non-blocking.
fn write_all(to: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                retry_on_intr(|| poll(&mut [PollFd::new(to, PollFlags::OUT)], None))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn check(limit: u64, expect: (&str, &str)) {
        let (from, into) = rustix::pipe::pipe().unwrap();
        let (out, to) = rustix::pipe::pipe().unwrap();
        write_all(&into, b"0123456789").unwrap();
        drop(into);
        let carried = carry_all(&File::from(from), &to, limit);
        drop(to);
        let mut text = String::new();
        File::from(out).read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), format!("{carried:?}").as_str()), expect, "{limit}");
    }

    #[test]
    fn a_stream_arrives_up_to_its_limit() {
        check(u64::MAX, ("0123456789", "Whole"));
        check(10, ("0123456789", "Whole"));
        check(9, ("012345678", "OverLimit"));
        check(0, ("", "OverLimit"));
    }

    #[test]
    fn a_reader_that_has_enough_is_no_failure() {
        let (from, into) = rustix::pipe::pipe().unwrap();
        let (out, to) = rustix::pipe::pipe().unwrap();
        drop(out);
        write_all(&into, b"x").unwrap();
        assert!(matches!(carry_all(&File::from(from), &to, 9), Carried::ReaderGone));
    }

    #[test]
    fn feeding_ends_when_nobody_reads_although_more_could_come() {
        let (input, _kept_open) = rustix::pipe::pipe().unwrap();
        let (out, pipe) = rustix::pipe::pipe().unwrap();
        drop(out);
        feed_all(&input, &pipe).unwrap();
    }
}
