//! What programs do with windows, and how they end.

use std::time::Instant;

use sandbox::Ended;

use crate::python;

const DRAW: &str = r##"
import tkinter
root = tkinter.Tk()
root.title("drawing")
canvas = tkinter.Canvas(root, width=200, height=100, background="white")
canvas.pack()
canvas.create_rectangle(10, 20, 60, 80, fill="#ff0000")
canvas.create_text(120, 50, text="hello")
picture = tkinter.PhotoImage(width=4, height=2)
picture.put("#0000ff", to=(0, 0, 4, 2))
root.update()
canvas.postscript(file="/work/drawing.eps")
picture.write("/work/picture.ppm", format="ppm")
print(root.winfo_screenwidth(), root.winfo_screenheight(), root.winfo_ismapped())
"##;

#[test]
fn a_program_draws_and_saves_a_picture() {
    let Some(python) = python() else { return };
    let outcome = python.run(&[("draw.py", DRAW)], &["/work/draw.py"]);
    assert_eq!(outcome.exit.ended, Ended::Code(0), "{outcome:?}");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("1024 768 1\n", ""));
    let drawing = String::from_utf8(outcome.file("drawing.eps")).unwrap();
    assert!(drawing.starts_with("%!PS-Adobe-3.0 EPSF") && drawing.contains("hello"), "{drawing}");
    assert_eq!(outcome.file("picture.ppm"), [&b"P6\n4 2\n255\n"[..], &[0, 0, 255].repeat(8)].concat());
    assert_eq!(outcome.exit.dialogs, []);
}

/// A window is what the program is: however long it sits there, closing it would end the program.
#[test]
fn a_window_that_is_no_dialog_stays_open() {
    let Some(python) = python() else { return };
    let text = "import tkinter\nroot = tkinter.Tk()\nroot.after(7000, root.destroy)\nroot.mainloop()\nprint('done')\n";
    let outcome = python.run(&[("wait.py", text)], &["/work/wait.py"]);
    assert_eq!(
        (outcome.exit.ended.clone(), outcome.stdout.as_str()),
        (Ended::Code(0), "done\n"),
        "{outcome:?}"
    );
    assert_eq!(outcome.exit.dialogs, []);
}

#[test]
fn a_program_that_crashes_with_a_window_open_ends_by_its_signal() {
    let Some(python) = python() else { return };
    let text = "import tkinter, ctypes\nroot = tkinter.Tk()\nroot.update()\nprint('up', flush=True)\nctypes.string_at(0)\n";
    let begun = Instant::now();
    let outcome = python.run(&[("crash.py", text)], &["/work/crash.py"]);
    assert_eq!(
        (outcome.exit.ended.clone(), outcome.stdout.as_str()),
        (Ended::Signal(11), "up\n"),
        "{outcome:?}"
    );
    assert_eq!(outcome.exit.dialogs, []);
    assert!(begun.elapsed().as_secs() < 60, "nothing was left that waits");
}

/// The display is the application's: where it can't start, the program is told why before it runs.
#[test]
fn a_display_that_does_not_start_is_explained() {
    let Some(python) = python() else { return };
    let why = |exit: &sandbox::Exit| match &exit.ended {
        Ended::NotStarted(why) => why.clone(),
        other => panic!("{other:?}"),
    };
    let change =
        |spec: &mut sandbox::Spec| spec.display.as_mut().unwrap().server = "/usr/bin/no-server".into();
    let outcome = python.start(&[], &["-c", "print(1)"], change).wait();
    let told = why(&outcome.exit);
    assert!(told.contains("/usr/bin/no-server") && told.contains("No such file"), "{told}");
    assert_eq!(outcome.stdout, "");

    python.remove("/usr/bin/xkbcomp");
    let outcome = python.run(&[], &["-c", "print(1)"]);
    let told = why(&outcome.exit);
    assert!(told.contains("display did not start") && told.contains("xkbcomp"), "{told}");
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("", ""),
        "the server's words are no output"
    );
}
