//! A desktop's root user changes a program on the disk while the client runs, where files are not sealed (§4.1.2).

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use grid_tests::Grid;

/// The files named `name` below a directory.
fn find(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(find(&entry.path(), name)),
            Ok(kind) if kind.is_file() && entry.file_name() == name => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// Flips one bit and leaves no other trace that can be avoided.
fn flip(path: &Path) {
    let before = std::fs::metadata(path).expect("it is there");
    let writable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, writable).expect("we are its owner");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("it can be written");
    let mut byte = [0];
    let last = before.len() - 1;
    file.read_exact_at(&mut byte, last).expect("it can be read");
    file.write_all_at(&[byte[0] ^ 1], last).expect("it can be written");
    file.set_modified(before.modified().expect("a time")).expect("it can be set");
    std::fs::set_permissions(path, before.permissions()).expect("we are its owner");
}

#[test]
fn a_program_changed_between_two_subjobs_is_reported_and_replaced() {
    let mut grid = Grid::start(0);
    grid.clients.push(grid.start_client_with(0, 2, &["--seal", "off"]));
    grid.cli(&["run", "--", "expr", "20", "+", "22"]).ok();
    let programs = find(&grid.client_state(0).join("applications"), "expr");
    assert_eq!(programs.len(), 1, "{programs:?}");
    let good = std::fs::read(&programs[0]).expect("it can be read");

    flip(&programs[0]);
    grid.file("job.toml", "spec = 1\nname = 'again'\ncommand = ['expr', '20', '+', '22']\n");
    let job = grid.cli(&["submit", "--wait", "job.toml"]);
    assert_eq!(job.code, 0, "{job:?}");
    let view = grid.cli(&["show", "2.0"]).ok();
    assert!(view.contains("tampering: '/usr/bin/expr' is not what it was"), "{view}");
    assert!(std::fs::read(&programs[0]).expect("it can be read") == good, "the tree was not made anew");
}
