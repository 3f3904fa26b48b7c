//! Starting the X server of a display.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use rustix::process::Pid;

use super::{SOCKETS, START_SECONDS, is_readable_in_time};
use crate::spec::Display;
use crate::sys::{self, Fork};

/// The number of the display; there is no other in the sandbox.
const NUMBER: u8 = 0;

/// Bytes of the server's complaints that are kept to explain why it did not start.
const KEPT: usize = 400;

/// What a server is given besides its screen, with a reason each.
const OPTIONS: &[(&[&str], &str)] = &[
    (&["-displayfd", "1"], "says when it is ready, on its standard output"),
    (&["-nolisten", "tcp"], "the socket is enough, and a port would be taken from the program"),
    (&["-noreset"], "a program that opens its windows one after the other keeps its settings"),
    (
        &["-ac"],
        "whoever can reach the socket is of the subjob, also a process that took another name for itself",
    ),
    (&["-s", "0"], "no screen saver: a blank screen would be in the pictures"),
];

/// A server that takes connections.
#[derive(Debug)]
pub(super) struct Server {
    pub process: Pid,
    pub connection: UnixStream,
}

/// Executes the server and waits until it is ready.
///
/// # Errors
/// Why it is not, in words, with the last that it complained of.
pub(super) fn start(display: &Display) -> Result<Server, String> {
    let (hear, speak) = UnixStream::pair().map_err(|e| format!("can't make a socket: {e}"))?;
    let process = match sys::fork().map_err(|e| format!("can't fork the X server: {e}"))? {
        Fork::Child => {
            let name = display.server.display();
            let why = match execute(display, &speak) {
                Ok(never) => match never {},
                Err(e) => format!("can't execute '{name}': {e}"),
            };
            // To where the server's own complaints would have gone.
            let _ = rustix::io::write(&speak, why.as_bytes());
            sys::exit_now(1)
        }
        Fork::Parent { child } => child,
    };
    drop(speak);
    wait_until_ready(hear)?;
    let path = format!("{SOCKETS}/X{NUMBER}");
    let connection = UnixStream::connect(&path).map_err(|e| format!("can't connect to '{path}': {e}"))?;
    Ok(Server { process, connection })
}

fn execute(display: &Display, output: &UnixStream) -> io::Result<std::convert::Infallible> {
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(output)?;
    let text = |text: &str| CString::new(text).map_err(io::Error::other);
    let program = CString::new(display.server.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let (width, height) = display.size;
    let screen = ["-screen".to_owned(), "0".to_owned(), format!("{width}x{height}x24")];
    let mut args = vec![program.clone(), text(&format!(":{NUMBER}"))?];
    for arg in OPTIONS.iter().flat_map(|(args, _)| *args).copied().chain(screen.iter().map(String::as_str)) {
        args.push(text(arg)?);
    }
    // It runs a keyboard compiler by way of the shell.
    let env = [text("PATH=/usr/bin:/bin")?, text("HOME=/tmp/home")?];
    sys::execute(&program, &args, &env)
}

/// Hears the server out until it names its display.
fn wait_until_ready(mut server: UnixStream) -> Result<(), String> {
    let mut said = Vec::new();
    let mut buffer = [0; 1_024];
    loop {
        if !is_readable_in_time(&server, START_SECONDS) {
            return Err(complaint(&said, "the X server was not ready in time"));
        }
        match server.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Ok(0) | Err(_) => return Err(complaint(&said, "the X server ended")),
            Ok(length) => said.extend_from_slice(&buffer[..length]),
        }
        if is_ready(&said) {
            return Ok(());
        }
        let surplus = said.len().saturating_sub(KEPT);
        said.drain(..surplus);
    }
}

/// Whether one of the lines is the display's number and nothing else.
fn is_ready(said: &[u8]) -> bool {
    let number = [b'0' + NUMBER];
    said.split_inclusive(|byte| *byte == b'\n').any(|line| line.strip_suffix(b"\n") == Some(&number))
}

fn complaint(said: &[u8], what: &str) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { what.to_owned() } else { format!("{what}: {}", lines.join("; ")) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(said: &[&[u8]], expect: Result<(), &str>) {
        let (hear, mut speak) = UnixStream::pair().unwrap();
        for part in said {
            speak.write_all(part).unwrap();
        }
        drop(speak);
        assert_eq!(wait_until_ready(hear), expect.map_err(str::to_owned));
    }

    #[test]
    fn a_server_is_ready_when_it_names_its_display() {
        check(&[b"0\n"], Ok(()));
        check(&[b"warning: no\nthing\n", b"0", b"\n"], Ok(()));
        check(&[b"x\n".repeat(3_000).as_slice(), b"0\n"], Ok(()));
        check(&[b"10\n00\n0"], Err("the X server ended: 10; 00; 0"));
        check(&[], Err("the X server ended"));
        check(
            &[b"\nFatal server error:\n(EE) no keymap\n"],
            Err("the X server ended: Fatal server error:; (EE) no keymap"),
        );
    }

    #[test]
    fn every_option_has_a_reason() {
        assert!(OPTIONS.iter().all(|(args, reason)| !args.is_empty() && !reason.is_empty()));
    }
}
