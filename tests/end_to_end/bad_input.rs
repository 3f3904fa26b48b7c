//! What people and programs do wrong: each mistake has a message that names it, and the documented exit code.

mod disks;
mod limits;
mod programs;
mod specs;
mod tokens;
mod waiting;

use grid_tests::Ran;

/// Exit codes, as docs/manual/command-line.md lists them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const UNREACHABLE: i32 = 4;
const CANCELLED: i32 = 5;
const TIMED_OUT: i32 = 6;
const DISK_FULL: i32 = 7;
const INTERRUPTED: i32 = 130;

/// Checks how a command ended and that its message has all of `parts`.
#[track_caller]
fn check(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for part in parts {
        assert!(ran.stderr.contains(part), "'{part}' is not in: {}", ran.stderr);
    }
}
