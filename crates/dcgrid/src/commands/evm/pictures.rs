//! Pictures of the dialogs that were closed: their text is often in nothing else.
//!
//! They lie in the directory that was asked for; if none was, in the cache, where the newest stay. A dialog that nobody
//! expected may end a run of hours, which nobody wants to run again to see it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sandbox::ClosedDialog;

/// Writes the pictures as `PREFIX1.png` and so on, in the order of the dialogs. One that has no picture has no path.
///
/// # Errors
/// A directory or file that can't be made.
pub fn save(
    dialogs: &[ClosedDialog],
    directory: &Path,
    prefix: &str,
) -> anyhow::Result<Vec<Option<PathBuf>>> {
    if dialogs.iter().all(|closed| closed.picture.is_empty()) {
        return Ok(vec![None; dialogs.len()]);
    }
    fs::create_dir_all(directory).with_context(|| format!("can't make '{}'", directory.display()))?;
    let save_one = |(number, closed): (usize, &ClosedDialog)| {
        if closed.picture.is_empty() {
            return Ok(None);
        }
        let path = directory.join(format!("{prefix}{number}.png"));
        fs::write(&path, &closed.picture).with_context(|| format!("can't write '{}'", path.display()))?;
        Ok(Some(path))
    };
    (1..).zip(dialogs).map(save_one).collect()
}

#[cfg(test)]
mod tests {
    use model::Dialog;

    use super::*;

    fn closed(picture: &[u8]) -> ClosedDialog {
        ClosedDialog { dialog: Dialog { title: "t".into(), text: None }, picture: picture.to_vec() }
    }

    #[test]
    fn each_picture_has_the_number_of_its_dialog() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("seen/here");
        assert_eq!(save(&[closed(b"")], &directory, "dialog-").unwrap(), [None]);
        assert!(!directory.exists());
        let paths = save(&[closed(b"one"), closed(b""), closed(b"three")], &directory, "dialog-").unwrap();
        let path = |name| Some(directory.join(name));
        assert_eq!(paths, [path("dialog-1.png"), None, path("dialog-3.png")]);
        assert_eq!(fs::read(directory.join("dialog-3.png")).unwrap(), b"three");
    }
}
