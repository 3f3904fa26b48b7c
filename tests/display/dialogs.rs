//! Dialogs that would wait for a click.

use std::time::Duration;

use sandbox::Ended;

use crate::bench::{Application, eventually};
use crate::python;

pub const ERROR: &str = r#"
import sys, tkinter
from tkinter import messagebox
root = tkinter.Tk()
root.withdraw()
messagebox.showerror("Out of range", "the temperature is below zero")
open("/work/after", "w").write("went on")
sys.exit(3)
"#;

#[test]
fn an_error_message_is_closed_and_the_program_goes_on() {
    let Some(python) = python() else { return };
    let outcome = python.run(&[("error.py", ERROR)], &["/work/error.py"]);
    assert_eq!(outcome.exit.ended, Ended::Code(3), "{outcome:?}");
    assert_eq!(outcome.dialogs(), ["Out of range"]);
    assert_eq!(outcome.file("after"), b"went on");
}

#[test]
fn a_message_of_gtk_is_closed() {
    let Some(zenity) = Application::new("zenity", &[], wrap::Display::Private) else { return };
    let outcome = zenity.run(&[], &["--error", "--title=No license", "--text=please insert the dongle"]);
    assert_eq!(outcome.dialogs(), ["No license"], "{outcome:?}");
    assert!(matches!(outcome.exit.ended, Ended::Code(_)), "{outcome:?}");
}

#[test]
fn a_message_of_the_oldest_toolkit_is_closed() {
    let Some(xmessage) = Application::new("xmessage", &[], wrap::Display::Private) else { return };
    let outcome = xmessage.run(&[], &["it is full"]);
    assert_eq!(outcome.dialogs(), ["xmessage"], "{outcome:?}");
    assert!(matches!(outcome.exit.ended, Ended::Code(_)), "{outcome:?}");
}

/// A question with a text field, in which a cursor blinks, and then one that neither its frame's button nor the
/// escape key closes.
#[test]
fn stubborn_dialogs_are_closed_too() {
    const ASK: &str = r#"
import tkinter
from tkinter import simpledialog
root = tkinter.Tk()
print(simpledialog.askstring("Name", "who are you?", parent=root), flush=True)
box = tkinter.Toplevel(root)
box.title("Stubborn")
box.transient(root)
box.protocol("WM_DELETE_WINDOW", lambda: None)
box.bind("<Return>", lambda event: box.destroy())
box.focus_set()
root.wait_window(box)
print("returned", flush=True)
"#;
    let Some(python) = python() else { return };
    let outcome = python.run(&[("ask.py", ASK)], &["/work/ask.py"]);
    assert_eq!(outcome.dialogs(), ["Name", "Stubborn"], "{outcome:?}");
    assert_eq!((outcome.exit.ended.clone(), outcome.stdout.as_str()), (Ended::Code(0), "None\nreturned\n"));
}

/// As by a program that tells how far it is, in a window of its own.
#[test]
fn a_dialog_beside_which_the_program_works_is_left_alone() {
    const WORK: &str = r#"
import tkinter, time
root = tkinter.Tk()
box = tkinter.Toplevel(root)
box.title("please wait")
box.transient(root)
end = time.monotonic() + 8
while time.monotonic() < end:
    root.update()
    sum(range(20000))
print(box.winfo_exists())
"#;
    let Some(python) = python() else { return };
    let outcome = python.run(&[("work.py", WORK)], &["/work/work.py"]);
    assert_eq!((outcome.exit.ended.clone(), outcome.stdout.as_str()), (Ended::Code(0), "1\n"), "{outcome:?}");
    assert_eq!(outcome.exit.dialogs, []);
}

/// A program that shows one message after the other.
#[test]
fn every_message_is_closed_and_reported() {
    const AGAIN: &str = r#"
import tkinter
root = tkinter.Tk()
def show(number):
    box = tkinter.Toplevel(root)
    box.title("message %d" % number)
    box.transient(root)
    def closed():
        box.destroy()
        show(number + 1) if number < 3 else root.destroy()
    box.protocol("WM_DELETE_WINDOW", closed)
show(1)
root.mainloop()
print("done")
"#;
    let Some(python) = python() else { return };
    let outcome = python.run(&[("again.py", AGAIN)], &["/work/again.py"]);
    assert_eq!(outcome.dialogs(), ["message 1", "message 2", "message 3"], "{outcome:?}");
    assert_eq!((outcome.exit.ended.clone(), outcome.stdout.as_str()), (Ended::Code(0), "done\n"));
}

/// A pause is no waiting: what is due after it must get its time.
#[test]
fn a_pause_does_not_close_a_dialog() {
    const BRIEF: &str = r#"
import tkinter
root = tkinter.Tk()
box = tkinter.Toplevel(root)
box.title("brief")
box.transient(root)
ticks = 0
def tick():
    global ticks
    ticks += 1
    root.after(250, tick) if ticks < 10 else root.destroy()
    if ticks == 1: open("/work/up", "w").close()
root.after(250, tick)
root.mainloop()
print("done")
"#;
    let Some(python) = python() else { return };
    let run = python.start(&[("brief.py", BRIEF)], &["/work/brief.py"], |_| ());
    let control = run.running.control();
    eventually("the dialog is up", || run.work().join("up").exists());
    control.pause().unwrap();
    // The pause is what is tested: nothing else takes this long.
    std::thread::sleep(Duration::from_secs(6));
    control.resume().unwrap();
    let outcome = run.wait();
    assert_eq!(
        (outcome.exit.ended.clone(), outcome.stdout.as_str()),
        (Ended::Code(0), "done\n"),
        "{outcome:?}"
    );
    assert_eq!(outcome.exit.dialogs, []);
}
