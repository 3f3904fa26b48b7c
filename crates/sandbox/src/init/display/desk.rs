//! The attendant: a window manager that shows what it is asked to show, where it is asked, and closes the dialogs
//! that nobody will answer. Programs behave under it as on a desktop; without one, many wait for it.
//!
//! Everything that comes from the server may be the program's doing. A lie costs the liar: the attendant's memory is
//! the subjob's, and when it is kept waiting or ends, dialogs wait for the wall limit.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use model::Dialog;
use rustix::io::Errno;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::Window;

use super::activity::Activity;
use super::kind::is_dialog;
use super::patience::{PERIOD, Patience};
use super::picture::Picture;
use super::screen::{Screen, ScreenError};
use super::server::Server;
use crate::exit::{ClosedDialog, MAX_DIALOGS};
use crate::message;

/// Windows that are looked after; those that are opened while there are so many are shown, and that is all.
const MAX_WINDOWS: usize = 256;

/// The display with the windows on it.
pub(super) struct Desk {
    screen: Screen,
    /// In the order in which they were opened.
    windows: Vec<Opened>,
    activity: Activity,
    looked: Instant,
    reports_left: usize,
}

struct Opened {
    window: Window,
    patience: Patience,
}

impl Desk {
    /// Becomes the window manager.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn open(server: Server) -> Result<Self, String> {
        let activity = Activity::new(server.process);
        let screen = Screen::take_over(server.connection).map_err(|e| e.to_string())?;
        Ok(Desk { screen, windows: Vec::new(), activity, looked: Instant::now(), reports_left: MAX_DIALOGS })
    }

    /// Serves until the server or the VM Portal ends.
    pub(super) fn attend(mut self, portal: &UnixStream) {
        // Nobody is left to tell why: with the server gone, the program's windows are too.
        while self.turn(portal).is_ok() {}
    }

    fn turn(&mut self, portal: &UnixStream) -> Result<(), ScreenError> {
        while let Some(event) = self.screen.next_event()? {
            self.take(&event)?;
        }
        if self.windows.is_empty() {
            self.looked = Instant::now();
            return self.wait(None);
        }
        if self.looked.elapsed() >= PERIOD {
            // However late it comes, it is one look: neither a pause nor a busy desktop makes a dialog older.
            self.looked = Instant::now();
            self.look(portal)?;
        }
        self.wait(Some(PERIOD.saturating_sub(self.looked.elapsed())))
    }

    fn wait(&self, at_most: Option<Duration>) -> Result<(), ScreenError> {
        let at_most = at_most.map(|time| time.try_into().expect("a period fits any time type"));
        let mut wanted = [self.screen.flush()?];
        match rustix::event::poll(&mut wanted, at_most.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(ScreenError::Wait(e.into())),
        }
    }

    fn take(&mut self, event: &Event) -> Result<(), ScreenError> {
        match event {
            Event::MapRequest(asked) => self.show(asked.window),
            Event::ConfigureRequest(asked) => self.screen.configure(asked),
            Event::UnmapNotify(gone) => self.forget(gone.window),
            Event::DestroyNotify(gone) => self.forget(gone.window),
            Event::ClientMessage(asked) if self.screen.asks_for_focus(asked) => {
                self.screen.raise(asked.window)
            }
            // Errors too: a window may be gone before what was done about it arrives.
            _ => Ok(()),
        }
    }

    fn show(&mut self, window: Window) -> Result<(), ScreenError> {
        self.screen.show(window)?;
        self.windows.retain(|opened| opened.window != window);
        if self.windows.len() < MAX_WINDOWS {
            self.windows.push(Opened { window, patience: Patience::default() });
        }
        self.screen.raise(window)
    }

    fn forget(&mut self, window: Window) -> Result<(), ScreenError> {
        let before = self.windows.len();
        self.windows.retain(|opened| opened.window != window);
        if self.windows.len() == before {
            return Ok(());
        }
        // The keyboard goes to the window that was used before.
        match self.windows.last() {
            Some(opened) => self.screen.raise(opened.window),
            None => Ok(()),
        }
    }

    /// Looks at the dialog that was opened last: it has to go before others can.
    fn look(&mut self, portal: &UnixStream) -> Result<(), ScreenError> {
        let is_still = self.activity.is_still();
        let Desk { screen, windows, reports_left, .. } = self;
        let mut newest = None;
        for opened in windows.iter_mut().rev() {
            if is_dialog(&screen.facts(opened.window)?) {
                newest = Some(opened);
                break;
            }
        }
        let Some(Opened { window, patience }) = newest else { return Ok(()) };
        let picture = screen.picture(*window)?;
        let is_first = patience.is_untried();
        let Some(way) = patience.look(is_still, digest(picture.as_ref())) else { return Ok(()) };
        if is_first && *reports_left > 0 {
            *reports_left -= 1;
            let dialog = Dialog { title: screen.title(*window)?, text: None };
            let picture = picture.map_or(Vec::new(), |picture| picture.to_png());
            // Said before it is done, so that it is known whatever the program then does.
            message::write(&mut &*portal, &ClosedDialog { dialog, picture })?;
        }
        screen.close(*window, way)
    }
}

fn digest(picture: Option<&Picture>) -> u64 {
    let mut hasher = DefaultHasher::new();
    picture.hash(&mut hasher);
    hasher.finish()
}
