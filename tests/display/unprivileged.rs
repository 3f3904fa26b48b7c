//! The display of a client that is an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::bench::skip;

/// Nobody's id: sure to exist and to own nothing.
const NOBODY: &str = "65534";

/// Tests that are run again: one of each kind.
const AGAIN: [&str; 4] = [
    "windows::a_program_draws",
    "windows::a_display_that_does_not_start",
    "dialogs::an_error_message",
    "isolation::a_display_is_seen",
];

#[test]
fn a_display_works_for_an_ordinary_user_too() {
    if !rustix::process::geteuid().is_root() {
        return skip("not root, so that all other tests ran as an ordinary user");
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(at("tmp")).unwrap();
    fs::set_permissions(at("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(std::env::current_exe().unwrap(), at("suite")).unwrap();
    fs::copy(grid_tests::binary(), at("dcgrid")).unwrap();
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
    let run = Command::new("setpriv")
        .args(user)
        .arg(at("suite"))
        .args(AGAIN)
        .env("TMPDIR", at("tmp"))
        .env("DCGRID_BINARY", at("dcgrid"))
        .current_dir(directory.path())
        .output();
    let Ok(run) = run else {
        return skip("no setpriv to become an ordinary user");
    };
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{text}");
    assert!(text.contains(&format!("{} passed", AGAIN.len())), "{text}");
}
