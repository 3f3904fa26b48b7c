//! The private display of a subjob (§4.3.3.3): an X server that nobody sees, and an attendant that closes what
//! would wait for a click.
//!
//! ```text
//! program's process ──fork──► (a process that ends at once, so that the program has no children it doesn't know)
//!        │                        └──fork──► attendant ──fork──► X server
//!        │◄──────── ready, or why not ───────────┤ ◄── display number ─┘
//!   executes the program                         └── dialogs ──► VM Portal ──► client
//! ```
//! Both are started by the program's process when it is as confined as it gets: same user, namespaces, control
//! groups and filter. So they need no trust. What they use counts as the subjob's, they end with it, and a program
//! that takes over its display, or kills it, has harmed itself. The socket is in the sandbox's own `/tmp` and its
//! abstract twin in the sandbox's own network namespace, so no other subjob and nobody on the desktop can reach it;
//! and the server knows no screen, keyboard or mouse of the machine. What the attendant says is checked by the VM
//! Portal as if the program had said it.
//!
//! | file | what |
//! | --- | --- |
//! | `server` | starting the X server, and knowing when it is ready |
//! | `desk` | the attendant: a window manager with a single rule |
//! | `screen` | what a window manager asks of the server |
//! | `kind` | which windows are dialogs |
//! | `patience` | when one has waited long enough, and how it is closed |
//! | `activity` | whether anything in the subjob still works |
//! | `picture` | how the dialog looked, as a PNG file |

mod activity;
mod desk;
mod kind;
mod patience;
mod picture;
mod screen;
mod server;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, WaitOptions};

use self::desk::Desk;
use super::step::{StepError, step};
use crate::exit::{ClosedDialog, MAX_DIALOGS, MAX_PICTURE, MAX_TITLE};
use crate::message::{self, Inbox};
use crate::spec::Display;
use crate::sys::{self, Fork};

/// How long the server may take to be ready, in seconds. It needs 50 ms on an idle desktop, and far longer where the
/// desktop leaves nothing to the idle class. Counted in looks a second apart, so that a pause does not use it up.
const START_SECONDS: u32 = 60;

/// Where X clients look for the socket. Made by us, because a server that is not root refuses to.
const SOCKETS: &str = "/tmp/.X11-unix";

/// What has to be done before the filter is installed: hides the attendant's memory, a copy of the caller's, from the
/// program. The server and the program themselves are not hidden, because executing a file ends it.
pub(super) fn prepare() -> Result<(), StepError> {
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    step("hide the display's attendant", hidden)
}

/// Starts the display; the program may be executed when this returns. `portal` is what the attendant tells of
/// dialogs. The caller is confined already, and so is all that this starts.
///
/// # Errors
/// Why there is no display, in words.
pub(super) fn open(display: &Display, portal: &UnixStream) -> Result<(), String> {
    let told = |what: &str, e: io::Error| format!("can't {what}: {e}");
    fs::create_dir(SOCKETS).map_err(|e| told("make the directory of the display's socket", e))?;
    let (hear, tell) = UnixStream::pair().map_err(|e| told("make a socket", e))?;
    match sys::fork().map_err(|e| told("fork the display's processes", e))? {
        Fork::Child => match sys::fork() {
            Ok(Fork::Child) => attend(display, portal, &tell),
            // The other end sees that nobody holds the socket.
            Ok(Fork::Parent { .. }) | Err(_) => sys::exit_now(0),
        },
        Fork::Parent { child } => {
            drop(tell);
            while let Err(Errno::INTR) = rustix::process::waitpid(Some(child), WaitOptions::empty()) {}
        }
    }
    wait_until_ready(hear)
}

fn wait_until_ready(mut attendant: UnixStream) -> Result<(), String> {
    if !is_readable_in_time(&attendant, START_SECONDS) {
        return Err(format!("it was not ready after {START_SECONDS} s"));
    }
    let ready: io::Result<Result<(), String>> = message::read(&mut attendant);
    ready.unwrap_or_else(|_| Err("its attendant ended".to_owned()))
}

/// Whether there is something to read within so many seconds of not being paused.
fn is_readable_in_time(from: &impl std::os::fd::AsFd, seconds: u32) -> bool {
    let second = Duration::from_secs(1).try_into().expect("a second fits any time type");
    (0..seconds).any(|_| {
        let mut wanted = [PollFd::new(from, PollFlags::IN)];
        matches!(rustix::event::poll(&mut wanted, Some(&second)), Ok(1..))
    })
}

/// The attendant's life: starts the server, says how that went, and serves until the server ends.
fn attend(display: &Display, portal: &UnixStream, ready: &UnixStream) -> ! {
    // The standard input and output are the program's, and nothing else that it inherited is the attendant's.
    let Ok((portal, ready)) = keep_only(portal, ready) else { sys::exit_now(1) };
    let desk = server::start(display).and_then(Desk::open);
    let answer = desk.as_ref().map(|_| ()).map_err(Clone::clone);
    // Without a program's process that hears it, there is none to serve either.
    let told = message::write(&mut &ready, &answer);
    drop(ready);
    if let (Ok(desk), Ok(())) = (desk, told) {
        desk.attend(&portal);
    }
    sys::exit_now(0)
}

/// Closes every descriptor but these two, which get new numbers.
fn keep_only(portal: &UnixStream, ready: &UnixStream) -> io::Result<(UnixStream, UnixStream)> {
    rustix::stdio::dup2_stdin(portal)?;
    rustix::stdio::dup2_stdout(ready)?;
    rustix::stdio::dup2_stderr(File::options().write(true).open("/dev/null")?)?;
    // Whoever owned them in this process's copy of the memory is never dropped: the attendant does not return.
    sys::close_inherited()?;
    let portal: OwnedFd = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let ready: OwnedFd = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok((portal.into(), ready.into()))
}

/// The VM Portal's end: takes what an attendant says, and no more than it may.
#[derive(Debug)]
pub(super) struct Dialogs {
    socket: UnixStream,
    inbox: Inbox,
    /// How many more are taken.
    left: usize,
}

impl Dialogs {
    /// Both ends: ours, and the attendant's.
    pub(super) fn new() -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Dialogs { socket: ours, inbox: Inbox::default(), left: MAX_DIALOGS }, theirs))
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Takes what has arrived; nothing when there will be no more, or what came was not what an attendant says.
    pub(super) fn take(&mut self) -> Option<Vec<ClosedDialog>> {
        let mut buffer = [0; 16_384];
        let length = match self.socket.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Some(Vec::new()),
            Ok(0) | Err(_) => return None,
            Ok(length) => length,
        };
        self.inbox.push(&buffer[..length]);
        let mut taken = Vec::new();
        while let Some(closed) = self.inbox.pop::<ClosedDialog>().ok()? {
            if self.left == 0 || !is_in_bounds(&closed) {
                return None;
            }
            self.left -= 1;
            taken.push(closed);
        }
        Some(taken)
    }
}

fn is_in_bounds(closed: &ClosedDialog) -> bool {
    let text = closed.dialog.text.as_deref().unwrap_or_default();
    closed.picture.len() <= MAX_PICTURE && closed.dialog.title.len() <= MAX_TITLE && text.len() <= MAX_TITLE
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use model::Dialog;

    use super::*;

    fn closed(title: usize, picture: usize) -> ClosedDialog {
        let dialog = Dialog { title: "t".repeat(title), text: None };
        ClosedDialog { dialog, picture: vec![7; picture] }
    }

    /// What the VM Portal has taken when the attendant has said all this and closed its end.
    fn said(bytes: &[u8]) -> usize {
        let (mut dialogs, mut attendant) = Dialogs::new().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || {
            // Refused when the VM Portal has heard enough.
            let _ = attendant.write_all(&bytes);
        });
        let mut taken = 0;
        while let Some(more) = dialogs.take() {
            taken += more.len();
        }
        drop(dialogs);
        writer.join().unwrap();
        taken
    }

    #[test]
    fn an_attendant_is_heard_within_bounds() {
        let mut many = Vec::new();
        for _ in 0..MAX_DIALOGS + 3 {
            message::write(&mut many, &closed(5, 9)).unwrap();
        }
        assert_eq!(said(&many[..many.len() / (MAX_DIALOGS + 3)]), 1);
        // The last ones may come in one piece with the first that is too many.
        assert!(said(&many) <= MAX_DIALOGS);
        for (title, picture) in [(5, MAX_PICTURE + 1), (MAX_TITLE + 1, 0)] {
            let mut bytes = Vec::new();
            message::write(&mut bytes, &closed(title, picture)).unwrap();
            assert_eq!(said(&bytes), 0, "{title} {picture}");
        }
        let mut largest = Vec::new();
        message::write(&mut largest, &closed(MAX_TITLE, MAX_PICTURE)).unwrap();
        assert_eq!(said(&largest), 1);
    }

    #[test]
    fn no_bytes_make_the_portal_panic_or_hang() {
        let mut good = Vec::new();
        message::write(&mut good, &closed(3, 40)).unwrap();
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                assert!(said(&bytes) <= 1);
            }
        }
    }
}
