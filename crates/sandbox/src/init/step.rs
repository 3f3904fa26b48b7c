//! A step of the setup that failed, told in one line because it crosses a process.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Which step, on what, and what the kernel said.
#[derive(Debug)]
pub(super) struct StepError {
    step: &'static str,
    path: Option<PathBuf>,
    source: io::Error,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {}", self.step)?;
        if let Some(path) = &self.path {
            write!(f, " '{}'", path.display())?;
        }
        write!(f, ": {}", self.source)
    }
}

/// Names the step that a system call belongs to. `step` completes "can't …".
pub(super) fn step<T>(step: &'static str, result: Result<T, impl Into<io::Error>>) -> Result<T, StepError> {
    result.map_err(|e| StepError { step, path: None, source: e.into() })
}

/// As [`step`], with the path that it is about.
pub(super) fn step_at<T>(
    step: &'static str,
    path: impl AsRef<Path>,
    result: Result<T, impl Into<io::Error>>,
) -> Result<T, StepError> {
    result.map_err(|e| StepError { step, path: Some(path.as_ref().to_owned()), source: e.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_what_on_what_and_why() {
        let denied = || Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied));
        let found = step_at("mount", "/proc", denied()).unwrap_err();
        assert_eq!(found.to_string(), "can't mount '/proc': permission denied");
        assert_eq!(step("fork", denied()).unwrap_err().to_string(), "can't fork: permission denied");
    }
}
