//! What a private display is made of (§4.3.3.3): the X server that the sandbox starts for a program with windows, and
//! the few things that toolkits read which no package lists.

use protocol::manifest::DISPLAY_SERVER;

use super::{Collector, Depth, Need};
use crate::error::WrapError;
use crate::layout::COMMANDS;
use crate::report::{Reason, Warning};

/// A program without which there is no display, and the package that brings it.
struct Part {
    path: &'static str,
    package: &'static str,
}

/// The server itself may be elsewhere; what it runs has fixed paths in it.
const SERVER: &str = "Xvfb";
const SERVER_PACKAGE: &str = "xvfb";
const KEYBOARD: [Part; 2] = [
    Part { path: "/usr/bin/xkbcomp", package: "x11-xkb-utils" },
    // The server runs the one before by way of the shell.
    Part { path: "/bin/sh", package: "dash" },
];
const KEYBOARD_DATA: Part = Part { path: "/usr/share/X11/xkb", package: "xkb-data" };

/// Directories that come along if they are there, and why.
const TREES: [(&str, &str); 2] = [
    ("/etc/fonts", "where fontconfig looks for fonts; without it, programs stop"),
    ("/usr/share/fontconfig", "to where the links in it lead"),
];

/// Font directories of which the first one that is there comes along. Small ones, with all letters of Europe.
const FONTS: [&str; 4] = [
    "/usr/share/fonts/truetype/dejavu",
    "/usr/share/fonts/truetype/liberation",
    "/usr/share/fonts/truetype/liberation2",
    "/usr/share/fonts/truetype/freefont",
];

/// Files that are made when packages are installed, so that no package has them, and why they come along.
const MADE: [(&str, &str); 4] = [
    ("/usr/share/glib-2.0/schemas/gschemas.compiled", "GTK stops without the defaults of its settings"),
    ("/usr/share/mime/mime.cache", "by which kinds of pictures are told apart"),
    ("/usr/lib/x86_64-linux-gnu/gdk-pixbuf-2.0/2.10.0/loaders.cache", "which kinds of pictures can be read"),
    ("/usr/lib/x86_64-linux-gnu/gtk-3.0/3.0.0/immodules.cache", "how GTK takes in keys"),
];

impl Collector {
    /// Adds the display, so that the server is where the sandbox expects it.
    pub(super) fn add_display(&mut self) -> Result<(), WrapError> {
        let missing = |what: &'static str, package| WrapError::NoDisplay { what, package };
        let server =
            self.look_up(SERVER).or_else(|| self.host.is_file(DISPLAY_SERVER).then(|| DISPLAY_SERVER.into()));
        let server = server.ok_or_else(|| missing(SERVER, SERVER_PACKAGE))?;
        let place = self.add_executable(&server, COMMANDS, Reason::Display, Depth::Start)?;
        if place != DISPLAY_SERVER {
            self.application.add_link(DISPLAY_SERVER, &place);
        }
        for Part { path, package } in KEYBOARD {
            if !self.host.is_file(path) {
                return Err(missing(path, package));
            }
            self.add_executable(path, COMMANDS, Reason::Display, Depth::Start)?;
        }
        if !self.add_display_tree(KEYBOARD_DATA.path)? {
            return Err(missing(KEYBOARD_DATA.path, KEYBOARD_DATA.package));
        }
        for (path, _) in TREES {
            self.add_display_tree(path)?;
        }
        let mut has_font = false;
        for path in FONTS {
            has_font = has_font || self.add_display_tree(path)?;
        }
        if !has_font {
            self.warnings.insert(Warning::NoFont { looked_in: FONTS.map(str::to_owned).to_vec() });
        }
        for (path, _) in MADE {
            if let Some(found) = self.host.probe(path).filter(|found| found.metadata.is_file()) {
                self.application.add(&found, Reason::Display);
            }
        }
        Ok(())
    }

    /// Adds a directory of the system; false when it is not there.
    fn add_display_tree(&mut self, path: &str) -> Result<bool, WrapError> {
        let Some(found) = self.host.probe(path).filter(|found| found.metadata.is_dir()) else {
            return Ok(false);
        };
        self.application.add_links(&found.links);
        self.add_tree(&found.path, &found.path, &Reason::Display, Depth::Start, Need::Optional)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_along_has_a_reason() {
        assert!(TREES.iter().chain(&MADE).all(|(path, reason)| path.starts_with('/') && !reason.is_empty()));
    }
}
