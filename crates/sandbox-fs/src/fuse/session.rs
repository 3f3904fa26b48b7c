//! Serves one mount through `/dev/fuse`: threads that read requests and write answers.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::abi::{self, OPCODES, Opcode};
use super::delay::{Added, Delayed, Delays, Waiting};
use super::dispatch::perform;
use super::reply::Answer;
use super::request::{Header, Parts, Request};
use crate::operations::{Caller, Direction, Operations};
use crate::sys;
use crate::turn::{self, Turn};

/// Whether the kernel keeps what is written for a while (write(2) never waits, and many small writes become one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    #[default]
    Back,
    /// Each write(2) is a request: a full quota shows in write(2) itself, and each costs a round trip.
    Through,
}

/// Whether there are extended attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xattrs {
    #[default]
    Served,
    /// EOPNOTSUPP, from the kernel itself. Saves a round trip for each file that is written: the kernel asks for its
    /// `security.capability`.
    Refused,
}

#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// That read requests. At least one.
    pub threads: usize,
    pub writes: Writes,
    pub xattrs: Xattrs,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        let threads = thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        SessionOptions { threads, writes: Writes::default(), xattrs: Xattrs::default() }
    }
}

/// Why a mount isn't served, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("no fuse device was given")]
    NoDevice,
    #[error("preparing a fuse device failed")]
    Prepare(#[source] Errno),
    #[error("cloning a fuse device failed (is the first one mounted?)")]
    Clone(#[source] Errno),
    #[error("starting a thread of the file system failed")]
    Thread(#[source] std::io::Error),
    #[error("reading from the fuse device failed")]
    Read(#[source] Errno),
}

/// A mount that is served, until somebody unmounts it.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<Result<(), SessionError>>>,
    delayer: JoinHandle<()>,
}

impl Session {
    /// Begins to serve. The first of `devices` is `/dev/fuse` as it was given to mount(2); each further one is
    /// `/dev/fuse` opened anew, and takes some of the work off it. One for each thread is best.
    ///
    /// A panic in `operations` aborts the process: then the kernel answers ENOTCONN instead of nothing.
    ///
    /// # Errors
    /// If a device is not what it should be, or no thread can be started.
    pub fn start(
        devices: Vec<OwnedFd>,
        operations: Arc<dyn Operations>,
        options: SessionOptions,
    ) -> Result<Session, SessionError> {
        let (mounted, spare) = devices.split_first().ok_or(SessionError::NoDevice)?;
        for device in spare {
            sys::clone_fuse_device(device, mounted).map_err(SessionError::Clone)?;
        }
        for device in &devices {
            let flags = fcntl_getfl(device).map_err(SessionError::Prepare)?;
            fcntl_setfl(device, flags - OFlags::NONBLOCK).map_err(SessionError::Prepare)?;
        }
        let counts = [const { AtomicU64::new(0) }; abi::OPCODE_NUMBERS];
        let shared = Arc::new(Shared {
            devices,
            operations,
            options,
            delays: Delays::default(),
            turn: Arc::default(),
            counts,
        });
        let spawn = |name: String| thread::Builder::new().name(name);
        let delayer = {
            let shared = Arc::clone(&shared);
            let serve = move || shared.serve_delayed();
            spawn("fuse-delay".to_owned()).spawn(serve).map_err(SessionError::Thread)?
        };
        let mut session = Session { shared, workers: Vec::new(), delayer };
        for worker in 0..options.threads.max(1) {
            let shared = Arc::clone(&session.shared);
            let serve = move || shared.serve(worker % shared.devices.len());
            let thread = spawn(format!("fuse-{worker}")).spawn(serve).map_err(SessionError::Thread)?;
            session.workers.push(thread);
        }
        Ok(session)
    }

    /// How many requests of each kind came so far; kinds of which none came are left out.
    pub fn counts(&self) -> Vec<(Opcode, u64)> {
        self.shared.counts()
    }

    /// Waits until the file system is unmounted.
    ///
    /// Returns how many requests of each kind there were.
    ///
    /// # Errors
    /// If a device failed before; the mount was served by the other threads until then.
    pub fn join(self) -> Result<Vec<(Opcode, u64)>, SessionError> {
        let results: Vec<_> = self.workers.into_iter().map(JoinHandle::join).collect();
        self.shared.delays.close();
        self.delayer.join().expect("a panic in it aborts the process");
        for result in results {
            result.expect("a panic in a worker aborts the process")?;
        }
        Ok(self.shared.counts())
    }
}

struct Shared {
    devices: Vec<OwnedFd>,
    operations: Arc<dyn Operations>,
    options: SessionOptions,
    delays: Delays,
    turn: Arc<Turn>,
    /// Requests by number of their opcode.
    counts: [AtomicU64; abi::OPCODE_NUMBERS],
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl Shared {
    fn counts(&self) -> Vec<(Opcode, u64)> {
        let count = |opcode: &Opcode| (*opcode, self.counts[*opcode as usize].load(Ordering::Relaxed));
        OPCODES.iter().map(count).filter(|(_, count)| *count > 0).collect()
    }

    /// Takes requests from a device until it is unmounted.
    fn serve(&self, device: usize) -> Result<(), SessionError> {
        let _guard = AbortOnPanic;
        let mut buffer = Buffer::new();
        loop {
            self.turn.take();
            match rustix::io::read(&self.devices[device], buffer.space()) {
                Ok(length) => self.handle(device, buffer.space(), length),
                // The process that asked was killed, or a signal came here.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => {}
                Err(error) => {
                    turn::give_up();
                    return if error == Errno::NODEV { Ok(()) } else { Err(SessionError::Read(error)) };
                }
            }
        }
    }

    /// Serves the request in the first `length` bytes of `buffer`.
    fn handle(&self, device: usize, buffer: &mut [u8], length: usize) {
        let Some(header) = Header::parse(&buffer[..length]) else { return };
        if let Some(count) = usize::try_from(header.opcode).ok().and_then(|number| self.counts.get(number)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let parsed = Parts::split(&header, buffer, length).and_then(|parts| parts.parse(&header));
        let request = match parsed {
            Ok(request) => request,
            Err(_) if expects_no_answer(header.opcode) => return,
            Err(error) => return self.answer(device, header.unique, &Answer::Failed(error)),
        };
        if let Request::Interrupt { unique } = request {
            if let Some(read) = self.delays.interrupt(unique) {
                self.interrupted(read.device, unique);
            }
            return;
        }
        let due = self.pace(&request);
        let caller = Caller { uid: header.uid, gid: header.gid };
        let later = |due, delayed| {
            let waiting = Waiting { unique: header.unique, device, delayed };
            if self.delays.add(due, waiting) == Added::Interrupted {
                self.interrupted(device, header.unique);
            }
        };
        match (due, request) {
            (Some(due), Request::Read { ino, offset, buffer }) => {
                later(due, Delayed::Read { ino, offset, size: buffer.len() });
            }
            (due, request) => {
                if takes_long(&request) {
                    turn::give_up();
                }
                let answer = perform(self.operations.as_ref(), &self.options, caller, request);
                match (due, answer) {
                    (Some(due), Answer::Fixed(fixed)) => later(due, Delayed::Answer(Answer::Fixed(fixed))),
                    (_, answer) => self.answer(device, header.unique, &answer),
                }
            }
        }
    }

    /// When a request that moves data may go on, if not at once.
    fn pace(&self, request: &Request<'_>) -> Option<Instant> {
        let (direction, bytes) = match request {
            Request::Read { buffer, .. } => (Direction::Read, buffer.len()),
            Request::Write { data, .. } => (Direction::Write, data.len()),
            _ => return None,
        };
        let delay = self.operations.pace(direction, bytes);
        // A delay that no clock can tell is none that anybody meant.
        if delay.is_zero() { None } else { Instant::now().checked_add(delay) }
    }

    /// A process that waits for a READ is to handle a signal, or to die of it.
    fn interrupted(&self, device: usize, unique: u64) {
        self.answer(device, unique, &Answer::Failed(Errno::INTR));
    }

    fn serve_delayed(&self) {
        let _guard = AbortOnPanic;
        let mut buffer = vec![0; abi::MOST_DATA];
        while let Some(Waiting { unique, device, delayed }) = self.delays.next() {
            match delayed {
                Delayed::Answer(answer) => self.answer(device, unique, &answer),
                Delayed::Read { ino, offset, size } => {
                    let data = self.operations.read(ino, offset, &mut buffer[..size]);
                    let answer = data.map_or_else(Answer::Failed, |length| Answer::Data(&buffer[..length]));
                    self.answer(device, unique, &answer);
                }
            }
        }
    }

    fn answer(&self, device: usize, unique: u64, answer: &Answer<'_>) {
        if matches!(answer, Answer::None) {
            return;
        }
        let header = answer.header(unique);
        let parts = [IoSlice::new(&header), IoSlice::new(answer.bytes())];
        // A failure means that nobody waits any more: the process was killed or the file system unmounted.
        let _ = rustix::io::retry_on_intr(|| rustix::io::writev(&self.devices[device], &parts));
    }
}

/// Whether others should not wait for a request. Reading finds out by itself whether it waits for the disk; but while
/// much is opened, others can be served.
fn takes_long(request: &Request<'_>) -> bool {
    const MUCH: usize = 16 << 10;
    match request {
        Request::Read { buffer: data, .. } | Request::Write { data, .. } => data.len() > MUCH,
        Request::Sync { .. } | Request::Copy { .. } | Request::Allocate { .. } => true,
        _ => false,
    }
}

/// An answer to one of these would be an answer to nobody.
fn expects_no_answer(opcode: u32) -> bool {
    use Opcode::{BatchForget, Forget, Interrupt, NotifyReply};
    matches!(Opcode::of(opcode), Some(Forget | BatchForget | Interrupt | NotifyReply))
}

/// Ends the process when a thread panics, because the threads that remain would leave its request unanswered.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Room for the largest request, placed so that the data of a WRITE begins at a page: sealing works on whole blocks,
/// and the kernel copies pages faster to where pages begin.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    const PAGE: usize = 4096;
    const BEFORE_DATA: usize = abi::REQUEST_HEADER + abi::WRITE_ARGUMENTS;

    fn new() -> Buffer {
        let bytes = vec![0; 2 * Buffer::PAGE + abi::MOST_DATA];
        let page = bytes.as_ptr().align_offset(Buffer::PAGE);
        Buffer { bytes, start: page + Buffer::PAGE - Buffer::BEFORE_DATA }
    }

    fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..Buffer::BEFORE_DATA + abi::MOST_DATA]
    }
}
