//! Dialogs of a program that `dcgrid evm run` runs, without a grid.

use std::fs;
use std::path::Path;
use std::process::Command;

use grid_tests::{Ran, binary, run};
use serde_json::Value;
use tempfile::TempDir;

use crate::dialogs::ERROR;
use crate::python;

fn run_alone(directory: &Path, options: &[&str]) -> Ran {
    fs::write(directory.join("error.py"), ERROR).unwrap();
    let mut command = Command::new(binary());
    command.current_dir(directory).env("XDG_CACHE_HOME", directory.join("cache"));
    command.args(["--json", "evm", "run", "--gui", "--include", "deb:python3-tk", "-i", "error.py"]);
    run(command.args(options).args(["--", "/usr/bin/python3", "error.py"]))
}

#[test]
fn a_dialog_is_told_with_its_picture() {
    // Says so when what is needed is not installed.
    if python().is_none() {
        return;
    }
    let directory = TempDir::new().unwrap();
    for (options, place) in
        [(&["--dialogs", "seen"][..], "seen/dialog-1.png"), (&[], "cache/dcgrid/evm/dialogs/")]
    {
        let ran = run_alone(directory.path(), options);
        assert_eq!(ran.code, 3, "{ran:?}");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let [dialog] = report["dialogs"].as_array().unwrap().as_slice() else { panic!("{report}") };
        assert_eq!(dialog["title"], "Out of range", "{report}");
        let picture = dialog["picture"].as_str().unwrap();
        assert!(picture.contains(place), "{picture}");
        assert!(fs::read(directory.path().join(picture)).unwrap().starts_with(b"\x89PNG"));
        assert!(report["notes"][0].as_str().unwrap().contains(picture), "{report}");
    }
}
