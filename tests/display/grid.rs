//! A program with windows as a job of a grid.

use std::fs;

use grid_tests::Grid;

use crate::dialogs::ERROR;
use crate::python;

#[test]
fn a_dialog_is_the_reason_why_a_subjob_failed_and_its_picture_comes_back() {
    // Says so when what is needed is not installed.
    if python().is_none() {
        return;
    }
    let grid = Grid::start(1);
    grid.file("error.py", ERROR);
    grid.file(
        "job.toml",
        r#"
        spec = 1
        name = "windows"
        command = ["/usr/bin/python3", "error.py"]
        inputs = { program = "error.py" }
        app = { include = ["deb:python3-tk"], gui = "800x600" }
        attempts = 1
        "#,
    );
    let ran = grid.cli(&["run", "job.toml", "-d", "result"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("a window 'Out of range' waited for somebody and was closed"), "{ran:?}");
    grid.cli(&["get", "1.0", "-d", "left"]).ok();
    let picture = fs::read(grid.scratch.path().join("left/dialog-1.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
}
