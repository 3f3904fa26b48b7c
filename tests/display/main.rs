//! Programs with windows on a private display (§4.3.3.3): they draw, their dialogs are closed and reported, and
//! nothing of it reaches the desktop or another subjob.
#![forbid(unsafe_code)]
#![cfg(test)]

mod alone;
mod bench;
mod dialogs;
mod grid;
mod isolation;
mod unprivileged;
mod windows;

use bench::Application;

/// Python with Tk, which is what most small scientific tools with windows are made of.
fn python() -> Option<Application> {
    Application::new("/usr/bin/python3", &["deb:python3-tk"], wrap::Display::Private)
}
