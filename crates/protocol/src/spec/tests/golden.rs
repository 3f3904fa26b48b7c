//! Files that hold what the code gives, for review and for readers outside.

use std::path::Path;

/// Fails if the file at `path` (from the crate's directory), which holds `golden`, is not `current`; with the
/// variable `UPDATE_GOLDEN` set it is written instead.
pub fn check(path: &Path, golden: &str, current: &str) {
    if golden == current {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, current).expect("the golden file is in the source tree");
        return;
    }
    let line = golden.lines().zip(current.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or_else(|| golden.lines().count().min(current.lines().count()));
    panic!(
        "{} is stale from line {}:\n  file: {}\n  code: {}\nif the change is meant: UPDATE_GOLDEN=1 cargo test -p protocol",
        path.display(),
        line + 1,
        golden.lines().nth(line).unwrap_or_default(),
        current.lines().nth(line).unwrap_or_default(),
    );
}
