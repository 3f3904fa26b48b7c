//! Application Security on a whole grid (§4.1.2, §4.4): what lies on a client's disk, who sees that it was changed, and
//! who decides whether it is sealed.

mod canary;
mod switches;
mod tampering;

use std::path::{Path, PathBuf};

use grid_tests::Grid;
use serde_json::Value;

/// Whether clients of this test can seal files; says so if not.
fn can_seal() -> bool {
    let finding = sandbox::sealed_files();
    if !finding.available {
        println!("skipped: {}", finding.detail);
    }
    finding.available
}

/// All files below a directory; links are not followed.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}

fn clients(grid: &Grid) -> Vec<Value> {
    grid.cli(&["--json", "clients"]).json().as_array().expect("a list").clone()
}
