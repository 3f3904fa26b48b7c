//! A program that wants to leave something on the desktop.

use grid_tests::{Grid, have};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn a_tree_too_deep_to_walk_is_removed_all_the_same() {
    if !have(&["/usr/bin/python3"]) {
        return;
    }
    // As on an ordinary desktop, for the client to inherit: descriptors are what a deep tree runs out of.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(1_024), ..limit }).expect("less is allowed");
    let mut grid = Grid::start(1);
    let deep = "import os\nfor _ in range(30000):\n os.mkdir('d')\n os.chdir('d')\n";
    // Whether it is stopped on the way does not matter here.
    grid.cli(&["run", "--", "/usr/bin/python3", "-c", deep]);
    let attempts = grid.client_state(0).join("attempts");
    let is_empty = |_: &Grid| std::fs::read_dir(&attempts).is_ok_and(|mut entries| entries.next().is_none());
    grid.wait_until("nothing of the attempt is left", is_empty);
    grid.crash_client(0);
    assert_eq!(grid.cli(&["run", "--", "echo", "next"]).ok(), "next\n");
}
