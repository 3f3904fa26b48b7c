//! The whole suite once more, as an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::{
    ACTS_VARIABLE, INIT_VARIABLE, PROGRAM_VARIABLE, compile_acts, compile_program, init_program, skip,
};
use crate::network::{NETWORK_VARIABLE, compile_network};

/// Nobody's id: sure to exist and to own nothing.
const NOBODY: &str = "65534";

#[test]
fn everything_holds_for_an_ordinary_user_too() {
    if !is_root() {
        return skip("not root, so that all other tests ran as an ordinary user");
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(at("tmp")).unwrap();
    fs::set_permissions(at("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(std::env::current_exe().unwrap(), at("suite")).unwrap();
    fs::copy(init_program(), at("init")).unwrap();
    if compile_program(&at("act")).and_then(|()| compile_acts(&at("acts"))).is_none() {
        return skip("no C compiler that links statically");
    }
    compile_network(&at("net"));
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
    let run = Command::new("setpriv")
        .args(user)
        .arg(at("suite"))
        .env("TMPDIR", at("tmp"))
        .env(INIT_VARIABLE, at("init"))
        .env(PROGRAM_VARIABLE, at("act"))
        .env(ACTS_VARIABLE, at("acts"))
        .env(NETWORK_VARIABLE, at("net"))
        .current_dir(directory.path())
        .output();
    let Ok(run) = run else {
        return skip("no setpriv to become an ordinary user");
    };
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{text}");
    assert!(text.contains("test result: ok"), "{text}");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
