//! Nothing of a display is outside of its subjob, and nothing of the outside is on it.

use std::collections::BTreeSet;
use std::fs;

use sandbox::Ended;

use crate::bench::{Application, eventually, skip};
use crate::python;

/// X sockets of this machine, by file and by abstract name.
fn sockets() -> BTreeSet<String> {
    let files = fs::read_dir("/tmp/.X11-unix").into_iter().flatten().flatten();
    let files = files.map(|entry| entry.path().to_string_lossy().into_owned());
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let names = table.lines().filter_map(|line| line.split_whitespace().nth(7));
    files.chain(names.filter(|name| name.contains("X11-unix")).map(str::to_owned)).collect()
}

/// Opens a window and keeps it until a file appears.
const WINDOW: &str = r#"
import os, tkinter
root = tkinter.Tk()
root.title("secret-of-another-subjob")
root.update()
open("/work/up", "w").close()
def look():
    root.destroy() if os.path.exists("/work/stop") else root.after(50, look)
look()
root.mainloop()
"#;

#[test]
fn a_display_is_seen_by_nobody_else() {
    let Some(python) = python() else { return };
    let Some(looker) = Application::new("xwininfo", &[], wrap::Display::Private) else { return };
    let before = sockets();
    let run = python.start(&[("window.py", WINDOW)], &["/work/window.py"], |_| ());
    eventually("the window is open", || run.work().join("up").exists());
    // Other tests run displays too: what a subjob's sockets were called would show here.
    let new: Vec<String> =
        sockets().difference(&before).filter(|name| name.ends_with("X0")).cloned().collect();
    assert_eq!(new, Vec::<String>::new(), "a socket on the desktop");

    let outcome = looker.run(&[], &["-root", "-tree"]);
    assert_eq!(outcome.exit.ended, Ended::Code(0), "{outcome:?}");
    assert!(
        outcome.stdout.contains("Root window") && !outcome.stdout.contains("secret"),
        "{}",
        outcome.stdout
    );

    fs::write(run.work().join("stop"), "").unwrap();
    let outcome = run.wait();
    assert_eq!(outcome.exit.ended, Ended::Code(0), "{outcome:?}");
}

#[test]
fn the_program_sees_no_display_of_the_host() {
    let Some(looker) = Application::new("xwininfo", &[], wrap::Display::Private) else { return };
    let Some(host) = HostDisplay::start() else { return skip("Xvfb does not start here") };
    let given = |spec: &mut sandbox::Spec| spec.env.push(("DISPLAY".into(), host.name.clone().into()));
    // With a display of its own it is led there.
    let outcome = looker.start(&[], &["-root"], given).wait();
    assert_eq!(outcome.exit.ended, Ended::Code(0), "{outcome:?}");
    assert!(outcome.stdout.contains("Width: 1024"), "{outcome:?}");
    // By name, or without one of its own, it finds none.
    let outcome = looker.start(&[], &["-root", "-display", &host.name], given).wait();
    assert!(outcome.stderr.contains("unable to open display"), "{outcome:?}");
    let alone = |spec: &mut sandbox::Spec| {
        given(spec);
        spec.display = None;
    };
    let outcome = looker.start(&[], &["-root"], alone).wait();
    assert!(matches!(outcome.exit.ended, Ended::Code(1..)), "{outcome:?}");
    assert!(outcome.stderr.contains("unable to open display"), "{outcome:?}");
}

/// A program that tries for a display it does not have is refused in its own words, and not killed.
#[test]
fn without_a_display_windows_are_refused_quietly() {
    let Some(python) = python() else { return };
    let alone = |spec: &mut sandbox::Spec| spec.display = None;
    let text = "import tkinter\ntry:\n    tkinter.Tk()\nexcept tkinter.TclError as e:\n    print(e)\n";
    let outcome = python.start(&[("try.py", text)], &["/work/try.py"], alone).wait();
    assert_eq!(outcome.exit.ended, Ended::Code(0), "{outcome:?}");
    assert!(outcome.stdout.contains("no display"), "{outcome:?}");

    let Some(zenity) = Application::new("zenity", &[], wrap::Display::Private) else { return };
    let outcome = zenity.start(&[], &["--error", "--text=x"], alone).wait();
    assert!(matches!(outcome.exit.ended, Ended::Code(1..)), "{outcome:?}");
    assert!(outcome.stderr.contains("display"), "{outcome:?}");
}

/// The processes of the display are the subjob's own, and its limits leave room for them.
#[test]
fn a_display_takes_none_of_the_program_s_processes() {
    let Some(python) = python() else { return };
    let text = "import tkinter, subprocess, sys\ntkinter.Tk().update()\n\
                subprocess.run([sys.executable, '-c', 'print(1)'], check=True)\n";
    let tight = |spec: &mut sandbox::Spec| spec.limits.processes = 2;
    let outcome = python.start(&[("two.py", text)], &["/work/two.py"], tight).wait();
    assert_eq!((outcome.exit.ended.clone(), outcome.stdout.as_str()), (Ended::Code(0), "1\n"), "{outcome:?}");
}

/// An X server on this machine, as a desktop has one.
struct HostDisplay {
    server: std::process::Child,
    name: String,
}

impl HostDisplay {
    fn start() -> Option<Self> {
        use std::io::Read as _;
        // Not the first, which a subjob's would be called.
        let name = format!(":{}", 2_000 + std::process::id() % 1_000);
        let mut server = std::process::Command::new("Xvfb")
            .args([&name, "-displayfd", "1", "-screen", "0", "320x200x24", "-nolisten", "tcp"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        let mut output = server.stdout.take()?;
        let is_ready = output.read(&mut [0]).is_ok_and(|length| length > 0);
        let display = HostDisplay { server, name };
        is_ready.then_some(display)
    }
}

impl Drop for HostDisplay {
    fn drop(&mut self) {
        // Ends it as a session would, so that it takes its socket with it.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.server),
            rustix::process::Signal::TERM,
        );
        let _ = self.server.wait();
    }
}
