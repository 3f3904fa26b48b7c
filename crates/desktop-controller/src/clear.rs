//! Removes directories that a program may have filled with anything, however deep.
//!
//! Nothing is followed and nothing recurses: a hostile program makes a hundred thousand levels in a second, and who
//! goes down them runs out of descriptors or of stack. Directories are taken up to the top instead, one by one.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Removes a directory and all that is below it. That there is none is as good.
///
/// # Errors
/// What the disk says; the rest is then still there.
pub fn remove_tree(root: &Path) -> io::Result<()> {
    match fs::symlink_metadata(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let mut taken_up = 0u64;
    loop {
        let mut is_empty = true;
        for entry in list(root)? {
            is_empty = false;
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                remove_level(&entry.path(), root, &mut taken_up)?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        if is_empty {
            return fs::remove_dir(root);
        }
    }
}

/// Removes a directory after moving those in it to `top`.
fn remove_level(directory: &Path, top: &Path, taken_up: &mut u64) -> io::Result<()> {
    for entry in list(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
            continue;
        }
        loop {
            *taken_up += 1;
            match fs::rename(entry.path(), top.join(format!("level-{taken_up}"))) {
                // The program has something of that name.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotADirectory
                    ) => {}
                moved => break moved?,
            }
        }
    }
    fs::remove_dir(directory)
}

/// Lists a directory whose owner may have taken away their own right to do so.
fn list(directory: &Path) -> io::Result<fs::ReadDir> {
    if fs::symlink_metadata(directory)?.permissions().mode() & 0o700 != 0o700 {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    fs::read_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_program_left_is_removed_and_what_it_points_at_is_not() {
        let outside = tempfile::tempdir().expect("temporary directory");
        fs::write(outside.path().join("kept"), "").expect("written");
        let base = tempfile::tempdir().expect("temporary directory");
        let root = base.path().join("attempt");
        fs::create_dir_all(root.join("a/b/level-1/c")).expect("made");
        fs::create_dir_all(root.join("level-1/x")).expect("made");
        fs::write(root.join("level-2"), "").expect("written");
        symlink(outside.path(), root.join("a/link")).expect("linked");
        symlink(outside.path(), root.join("link")).expect("linked");
        fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o000)).expect("closed");
        remove_tree(&root).expect("removed");
        assert!(!root.exists() && outside.path().join("kept").exists());
        remove_tree(&root).expect("gone is as good");
    }

    #[test]
    fn depth_is_no_way_to_stay() {
        let base = tempfile::tempdir().expect("temporary directory");
        let root = base.path().join("attempt");
        let mut level = rustix::fs::openat(
            rustix::fs::CWD,
            base.path(),
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .expect("there");
        for name in std::iter::once("attempt").chain(std::iter::repeat_n("d", 20_000)) {
            rustix::fs::mkdirat(&level, name, rustix::fs::Mode::RWXU).expect("made");
            level =
                rustix::fs::openat(&level, name, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
                    .expect("made");
        }
        remove_tree(&root).expect("removed");
        assert!(!root.exists());
    }
}
