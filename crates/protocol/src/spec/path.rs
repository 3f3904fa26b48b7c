//! Which paths a spec may name below a working directory or a result: none that leads anywhere else.

use thiserror::Error;

/// Longest path, and longest single name in it, as Linux has them.
pub const MAX_PATH: usize = 4096;
pub const MAX_NAME: usize = 255;

/// Why a text is no path below a directory. Reads on after the path: "'../x' has '..' in it".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathProblem {
    #[error("is empty")]
    Empty,
    #[error("is absolute")]
    Absolute,
    #[error("has '..' in it")]
    Parent,
    #[error("has a '.' or an empty name in it")]
    NotPlain,
    #[error("has a NUL byte in it")]
    Nul,
    #[error("is longer than {MAX_PATH} bytes, or has a name longer than {MAX_NAME}")]
    TooLong,
}

/// Checks that `path` is the one spelling of a place below a directory.
///
/// # Errors
/// Empty, absolute and too long paths, and names `.`, `..` and empty ones.
pub fn check_path(path: &str) -> Result<(), PathProblem> {
    if path.is_empty() {
        return Err(PathProblem::Empty);
    }
    if path.starts_with('/') {
        return Err(PathProblem::Absolute);
    }
    if path.len() > MAX_PATH {
        return Err(PathProblem::TooLong);
    }
    path.split('/').try_for_each(|name| match name {
        ".." => Err(PathProblem::Parent),
        "" | "." => Err(PathProblem::NotPlain),
        name if name.contains('\0') => Err(PathProblem::Nul),
        name if name.len() > MAX_NAME => Err(PathProblem::TooLong),
        _ => Ok(()),
    })
}

/// The name that a file of the submitter has in the working directory.
pub(super) fn file_name(path: &str) -> Option<&str> {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    check_path(name).is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_pass() {
        let check =
            |path: &str, expect: Result<(), PathProblem>| assert_eq!(check_path(path), expect, "{path:?}");
        check("hits.tbl", Ok(()));
        check("a/b..c/...", Ok(()));
        check("", Err(PathProblem::Empty));
        check("/etc/passwd", Err(PathProblem::Absolute));
        check("..", Err(PathProblem::Parent));
        check("a/../b", Err(PathProblem::Parent));
        check("a/..", Err(PathProblem::Parent));
        check("./a", Err(PathProblem::NotPlain));
        check("a//b", Err(PathProblem::NotPlain));
        check("a/", Err(PathProblem::NotPlain));
        check("a\0b", Err(PathProblem::Nul));
        check(&"x".repeat(255), Ok(()));
        check(&"x".repeat(256), Err(PathProblem::TooLong));
        check(&"x/".repeat(2049), Err(PathProblem::TooLong));
    }

    #[test]
    fn a_file_is_called_as_its_last_part() {
        let check = |path, expect| assert_eq!(file_name(path), expect, "{path}");
        check("../data/db.fa", Some("db.fa"));
        check("db.fa", Some("db.fa"));
        check("data/", None);
        check("data/..", None);
        check("", None);
    }
}
