//! What a window manager asks of an X server and has it do: the requests, one screen's worth of them.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use thiserror::Error;
use x11rb::CURRENT_TIME;
use x11rb::connection::Connection;
use x11rb::errors::{ConnectError, ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, CONFIGURE_NOTIFY_EVENT, ChangeWindowAttributesAux, ClientMessageEvent, ConfigureNotifyEvent,
    ConfigureRequestEvent, ConfigureWindowAux, ConnectionExt, CreateWindowAux, EventMask, ImageFormat,
    InputFocus, KEY_PRESS_EVENT, KEY_RELEASE_EVENT, PropMode, StackMode, Window, WindowClass,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::{DefaultStream, RustConnection};
use x11rb::wrapper::ConnectionExt as _;

use super::kind::{Facts, Kind};
use super::patience::Way;
use super::picture::Picture;
use crate::exit::MAX_TITLE;

/// 32-bit units of a property that are read: room for a title, and for more states than there are.
const PROPERTY_UNITS: u32 = 256;

x11rb::atom_manager! {
    /// Names that the server has numbers for.
    Atoms: AtomsCookie {
        UTF8_STRING,
        WM_DELETE_WINDOW,
        WM_PROTOCOLS,
        WM_STATE,
        WM_TAKE_FOCUS,
        _NET_ACTIVE_WINDOW,
        _NET_SUPPORTED,
        _NET_SUPPORTING_WM_CHECK,
        _NET_WM_NAME,
        _NET_WM_STATE,
        _NET_WM_STATE_MODAL,
        _NET_WM_WINDOW_TYPE,
        _NET_WM_WINDOW_TYPE_DIALOG,
    }
}

/// Why there is no more to be done at this screen.
#[derive(Debug, Error)]
pub(super) enum ScreenError {
    #[error("can't speak to the X server: {0}")]
    Connect(#[from] ConnectError),
    #[error("lost the X server: {0}")]
    Connection(#[from] ConnectionError),
    #[error("the X server refused a request: {0}")]
    Reply(#[from] ReplyError),
    #[error("the X server gave no number: {0}")]
    Id(#[from] ReplyOrIdError),
    #[error("can't wait for the X server: {0}")]
    Wait(#[from] io::Error),
}

/// The display's only screen, with us as its window manager.
pub(super) struct Screen {
    connection: RustConnection,
    root: Window,
    size: (u16, u16),
    atoms: Atoms,
}

impl Screen {
    /// Becomes the window manager of the server at the other end.
    pub(super) fn take_over(server: UnixStream) -> Result<Self, ScreenError> {
        let (stream, _) = DefaultStream::from_unix_stream(server)?;
        let connection = RustConnection::connect_to_stream(stream, 0)?;
        let screen = connection.setup().roots.first().ok_or(ConnectError::InvalidScreen)?;
        let (root, size) = (screen.root, (screen.width_in_pixels, screen.height_in_pixels));
        let atoms = Atoms::new(&connection)?.reply()?;
        let events = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        let events = ChangeWindowAttributesAux::new().event_mask(events);
        connection.change_window_attributes(root, &events)?.check()?;
        let screen = Screen { connection, root, size, atoms };
        screen.announce()?;
        Ok(screen)
    }

    /// Says that there is a window manager, as toolkits look for one.
    fn announce(&self) -> Result<(), ScreenError> {
        let Screen { connection, root, atoms, .. } = self;
        let check = connection.generate_id()?;
        let (depth, visual) = (x11rb::COPY_DEPTH_FROM_PARENT, x11rb::COPY_FROM_PARENT);
        let nothing = CreateWindowAux::new().override_redirect(1);
        connection.create_window(
            depth,
            check,
            *root,
            -1,
            -1,
            1,
            1,
            0,
            WindowClass::INPUT_ONLY,
            visual,
            &nothing,
        )?;
        let supported = [
            atoms._NET_ACTIVE_WINDOW,
            atoms._NET_SUPPORTED,
            atoms._NET_SUPPORTING_WM_CHECK,
            atoms._NET_WM_NAME,
            atoms._NET_WM_WINDOW_TYPE,
            atoms._NET_WM_WINDOW_TYPE_DIALOG,
        ];
        let replace = PropMode::REPLACE;
        for window in [*root, check] {
            connection.change_property32(
                replace,
                window,
                atoms._NET_SUPPORTING_WM_CHECK,
                AtomEnum::WINDOW,
                &[check],
            )?;
        }
        connection.change_property8(replace, check, atoms._NET_WM_NAME, atoms.UTF8_STRING, b"dcgrid")?;
        connection.change_property32(replace, *root, atoms._NET_SUPPORTED, AtomEnum::ATOM, &supported)?;
        connection.sync()?;
        Ok(())
    }

    /// What has happened and was not told yet.
    pub(super) fn next_event(&self) -> Result<Option<Event>, ScreenError> {
        Ok(self.connection.poll_for_event()?)
    }

    /// Sends what is under way, and gives what to wait for.
    pub(super) fn flush(&self) -> Result<PollFd<'_>, ScreenError> {
        self.connection.flush()?;
        Ok(PollFd::new(self.connection.stream(), PollFlags::IN))
    }

    /// Whether a message asks that its window be used.
    pub(super) fn asks_for_focus(&self, message: &ClientMessageEvent) -> bool {
        message.type_ == self.atoms._NET_ACTIVE_WINDOW
    }

    /// Lets a window appear.
    pub(super) fn show(&self, window: Window) -> Result<(), ScreenError> {
        const NORMAL: u32 = 1;
        let Screen { connection, atoms, .. } = self;
        let state = [NORMAL, x11rb::NONE];
        connection.change_property32(PropMode::REPLACE, window, atoms.WM_STATE, atoms.WM_STATE, &state)?;
        connection.map_window(window)?;
        Ok(())
    }

    /// On top of all others, with the keyboard: as when a person had clicked into it.
    pub(super) fn raise(&self, window: Window) -> Result<(), ScreenError> {
        let Screen { connection, atoms, .. } = self;
        connection.configure_window(window, &ConfigureWindowAux::new().stack_mode(StackMode::ABOVE))?;
        connection.set_input_focus(InputFocus::POINTER_ROOT, window, CURRENT_TIME)?;
        if self.numbers(window, atoms.WM_PROTOCOLS)?.contains(&atoms.WM_TAKE_FOCUS) {
            self.ask(window, atoms.WM_TAKE_FOCUS)?;
        }
        Ok(())
    }

    /// Places a window where it asks to be.
    pub(super) fn configure(&self, asked: &ConfigureRequestEvent) -> Result<(), ScreenError> {
        let connection = &self.connection;
        connection.configure_window(asked.window, &ConfigureWindowAux::from_configure_request(asked))?;
        // When nothing changed the server says nothing, and some toolkits wait for an answer.
        let Some(geometry) = passing(connection.get_geometry(asked.window)?.reply())? else { return Ok(()) };
        let answer = ConfigureNotifyEvent {
            response_type: CONFIGURE_NOTIFY_EVENT,
            sequence: 0,
            event: asked.window,
            window: asked.window,
            above_sibling: x11rb::NONE,
            x: geometry.x,
            y: geometry.y,
            width: geometry.width,
            height: geometry.height,
            border_width: geometry.border_width,
            override_redirect: false,
        };
        connection.send_event(false, asked.window, EventMask::STRUCTURE_NOTIFY, answer)?;
        Ok(())
    }

    pub(super) fn facts(&self, window: Window) -> Result<Facts, ScreenError> {
        let atoms = &self.atoms;
        let types = self.numbers(window, atoms._NET_WM_WINDOW_TYPE)?;
        let kind = match types.as_slice() {
            [] => Kind::Untold,
            types if types.contains(&atoms._NET_WM_WINDOW_TYPE_DIALOG) => Kind::Dialog,
            _ => Kind::Other,
        };
        let class = self.bytes(window, AtomEnum::WM_CLASS.into())?;
        let class = class.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        Ok(Facts {
            kind,
            transient: !self.numbers(window, AtomEnum::WM_TRANSIENT_FOR.into())?.is_empty(),
            modal: self.numbers(window, atoms._NET_WM_STATE)?.contains(&atoms._NET_WM_STATE_MODAL),
            class: String::from_utf8_lossy(class).into_owned(),
        })
    }

    pub(super) fn title(&self, window: Window) -> Result<String, ScreenError> {
        let mut title = self.bytes(window, self.atoms._NET_WM_NAME)?;
        if title.is_empty() {
            title = self.bytes(window, AtomEnum::WM_NAME.into())?;
        }
        Ok(readable(&title))
    }

    /// The part of a window that is on the screen, as it is seen.
    pub(super) fn picture(&self, window: Window) -> Result<Option<Picture>, ScreenError> {
        let connection = &self.connection;
        let Some(geometry) = passing(connection.get_geometry(window)?.reply())? else { return Ok(None) };
        let Some((x, width)) = visible(geometry.x, geometry.width, self.size.0) else { return Ok(None) };
        let Some((y, height)) = visible(geometry.y, geometry.height, self.size.1) else { return Ok(None) };
        let image = connection.get_image(ImageFormat::Z_PIXMAP, self.root, x, y, width, height, u32::MAX)?;
        Ok(passing(image.reply())?.and_then(|image| Picture::from_server(width, height, &image.data)))
    }

    /// Tries to get rid of a window.
    pub(super) fn close(&self, window: Window, way: Way) -> Result<(), ScreenError> {
        match way {
            Way::Delete
                if self.numbers(window, self.atoms.WM_PROTOCOLS)?.contains(&self.atoms.WM_DELETE_WINDOW) =>
            {
                self.ask(window, self.atoms.WM_DELETE_WINDOW)
            }
            // It can't be asked.
            Way::Delete => Ok(()),
            Way::Escape => self.press(window, ESCAPE),
            Way::Return => self.press(window, RETURN),
            Way::CutOff => {
                self.connection.kill_client(window)?;
                Ok(())
            }
        }
    }

    /// Sends a message of the window manager's.
    fn ask(&self, window: Window, what: u32) -> Result<(), ScreenError> {
        let message =
            ClientMessageEvent::new(32, window, self.atoms.WM_PROTOCOLS, [what, CURRENT_TIME, 0, 0, 0]);
        self.connection.send_event(false, window, EventMask::NO_EVENT, message)?;
        Ok(())
    }

    /// Presses a key as a keyboard would.
    fn press(&self, window: Window, symbol: u32) -> Result<(), ScreenError> {
        let connection = &self.connection;
        let (first, last) = (connection.setup().min_keycode, connection.setup().max_keycode);
        let count = last.saturating_sub(first).saturating_add(1);
        let Some(map) = passing(connection.get_keyboard_mapping(first, count)?.reply())? else {
            return Ok(());
        };
        let per_key = usize::from(map.keysyms_per_keycode.max(1));
        let Some(at) = map.keysyms.chunks(per_key).position(|symbols| symbols.contains(&symbol)) else {
            return Ok(());
        };
        let key = u8::try_from(at).map_or(last, |at| first.saturating_add(at));
        self.raise(window)?;
        for kind in [KEY_PRESS_EVENT, KEY_RELEASE_EVENT] {
            connection.xtest_fake_input(kind, key, CURRENT_TIME, self.root, 0, 0, 0)?;
        }
        Ok(())
    }

    /// A property made of numbers; none when it is not there or is something else.
    fn numbers(&self, window: Window, property: u32) -> Result<Vec<u32>, ScreenError> {
        let reply =
            self.connection.get_property(false, window, property, AtomEnum::ANY, 0, PROPERTY_UNITS)?;
        let reply = passing(reply.reply())?;
        Ok(reply.and_then(|reply| Some(reply.value32()?.collect())).unwrap_or_default())
    }

    fn bytes(&self, window: Window, property: u32) -> Result<Vec<u8>, ScreenError> {
        let reply =
            self.connection.get_property(false, window, property, AtomEnum::ANY, 0, PROPERTY_UNITS)?;
        let reply = passing(reply.reply())?;
        Ok(reply.and_then(|reply| Some(reply.value8()?.collect())).unwrap_or_default())
    }
}

/// Keys by what is on them.
const ESCAPE: u32 = 0xff1b;
const RETURN: u32 = 0xff0d;

/// A refusal is no reason to give up: the window may be gone by now.
fn passing<T>(reply: Result<T, ReplyError>) -> Result<Option<T>, ConnectionError> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(ReplyError::X11Error(_)) => Ok(None),
        Err(ReplyError::ConnectionError(e)) => Err(e),
    }
}

/// Begin and length of what lies on a screen, of an extent that may reach beyond it.
fn visible(begin: i16, length: u16, screen: u16) -> Option<(i16, u16)> {
    let (first, last) =
        (i32::from(begin).max(0), (i32::from(begin) + i32::from(length)).min(i32::from(screen)));
    let length = u16::try_from(last - first).ok().filter(|length| *length > 0)?;
    Some((i16::try_from(first).ok()?, length))
}

/// A program's words, without what a terminal would obey, and not too many of them.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut length = 0;
    let fits = |letter: &char| {
        length += letter.len_utf8();
        length <= MAX_TITLE
    };
    text.chars().filter(|letter| !letter.is_control()).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_short_and_commands_no_terminal() {
        assert_eq!(readable("Fehler: Gr\u{f6}\u{df}e".as_bytes()), "Fehler: Gr\u{f6}\u{df}e");
        assert_eq!(readable(b"a\x1b[2Jb\n\xff"), "a[2Jb\u{fffd}");
        assert_eq!(readable(&[0xff; 2 * MAX_TITLE]).len(), MAX_TITLE / 3 * 3);
    }

    #[test]
    fn only_what_is_on_the_screen_is_pictured() {
        assert_eq!(visible(10, 20, 100), Some((10, 20)));
        assert_eq!(visible(-5, 20, 100), Some((0, 15)));
        assert_eq!(visible(90, 20, 100), Some((90, 10)));
        assert_eq!(visible(i16::MIN, u16::MAX, 100), Some((0, 100)));
        assert_eq!(visible(100, 20, 100), None);
        assert_eq!(visible(-20, 20, 100), None);
        assert_eq!(visible(0, 0, 100), None);
    }
}
