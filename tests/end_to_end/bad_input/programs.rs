//! Programs that can't run anywhere: found while they are wrapped, before anything is sent.

use std::path::Path;
use std::process::Command;

use grid_tests::{Ran, binary, have, run};

use super::{USAGE, check};

fn wrap(directory: &Path, program: &str) -> Ran {
    run(Command::new(binary()).args(["wrap", program]).current_dir(directory))
}

fn write_program(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
}

#[test]
fn a_program_that_is_not_found_gets_its_neighbors() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    check(&wrap(directory.path(), "slep"), USAGE, &["no program 'slep' in PATH", "did you mean", "'sleep'"]);
    check(&wrap(directory.path(), "./absent"), USAGE, &["absent' does not exist"]);
    std::fs::write(directory.path().join("data"), "1 2 3\n").expect("written");
    check(&wrap(directory.path(), "./data"), USAGE, &["data' is not executable", "chmod +x"]);
}

#[test]
fn a_file_that_is_no_program_for_the_grid_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write_program(&directory.path().join("text"), b"just text\n");
    check(&wrap(directory.path(), "./text"), USAGE, &["text' is neither a program nor a script"]);
    let own = std::fs::read("/proc/self/exe").expect("our own program");
    let mut arm = own[..4096].to_vec();
    // e_machine of the ELF header: 183 is AArch64.
    arm[18..20].copy_from_slice(&183u16.to_le_bytes());
    write_program(&directory.path().join("arm"), &arm);
    check(&wrap(directory.path(), "./arm"), USAGE, &["arm' is for", "x86-64"]);
    write_program(&directory.path().join("cut"), &own[..100]);
    check(&wrap(directory.path(), "./cut"), USAGE, &["cut' is damaged"]);
}

#[test]
fn a_library_that_is_missing_is_named_with_who_needs_it() {
    if !have(&["cc"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("gone.c"), "int gone(void) { return 0; }\n").expect("written");
    std::fs::write(file("main.c"), "int gone(void);\nint main(void) { return gone(); }\n").expect("written");
    let cc = || Command::new("cc");
    run(cc().args(["-shared", "-fPIC", "-o", "libgone-3f.so", "gone.c"]).current_dir(directory.path())).ok();
    run(cc().args(["-o", "needs", "main.c", "-L.", "-l:libgone-3f.so"]).current_dir(directory.path())).ok();
    std::fs::remove_file(file("libgone-3f.so")).expect("it was made");
    check(&wrap(directory.path(), "./needs"), USAGE, &["libgone-3f.so, needed by", "needs", "searched"]);
}
