//! The files that a spec speaks of, as its two readers see them: the command line, which has the submitter's
//! disk, and the server, which has what was uploaded. From equal files both make the same plan.

use globset::GlobBuilder;
use model::plan::Content;

use crate::split::{SplitFormat, SplitIndex, SplitRule};

/// Access to the submitter's files by their paths as the spec has them, relative to the spec's directory.
/// Errors say why, without naming the path.
pub trait SpecFiles {
    /// The paths that match a pattern, in any order; see [`glob_matches`].
    fn glob(&mut self, pattern: &str) -> Result<Vec<String>, String>;

    /// The bytes of a file, which must not be more than `limit`.
    fn read(&mut self, path: &str, limit: usize) -> Result<Vec<u8>, String>;

    /// The content of a file. Asked again for each row of a table that names it, so what was hashed once is to
    /// be remembered.
    fn content(&mut self, path: &str) -> Result<Content, String>;

    /// The chunks of a file, as [`crate::split::index`] finds them.
    fn split(&mut self, path: &str, format: SplitFormat, rule: SplitRule) -> Result<SplitIndex, String>;
}

/// Those of `paths` that match a pattern, sorted by their bytes, each once. `*` and `?` stay within one name, `**` goes
/// through directories, `{a,b}` is either.
///
/// # Errors
/// A pattern that is none.
pub fn glob_matches<'a>(
    pattern: &str,
    paths: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>, String> {
    // A leading `./` names the same files.
    let plain = |path: &'a str| path.strip_prefix("./").unwrap_or(path);
    let matcher = GlobBuilder::new(pattern.strip_prefix("./").unwrap_or(pattern))
        .literal_separator(true)
        .build()
        .map_err(|error| error.kind().to_string())?
        .compile_matcher();
    let mut matches: Vec<String> =
        paths.into_iter().map(plain).filter(|path| matcher.is_match(path)).map(str::to_owned).collect();
    matches.sort_unstable();
    matches.dedup();
    Ok(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_directory() {
        let paths = ["b.txt", "./a.txt", "d/a.txt", "d/e/a.txt", "a.csv", "B.txt", ".x.txt", "a.txt"];
        let check = |pattern, expect: &[&str]| {
            assert_eq!(glob_matches(pattern, paths).expect("a pattern"), expect, "{pattern}");
        };
        check("*.txt", &[".x.txt", "B.txt", "a.txt", "b.txt"]);
        check("./?.txt", &["B.txt", "a.txt", "b.txt"]);
        check("*/a.txt", &["d/a.txt"]);
        check("d/**/a.txt", &["d/a.txt", "d/e/a.txt"]);
        check("a.{txt,csv}", &["a.csv", "a.txt"]);
        check("[ab].txt", &["a.txt", "b.txt"]);
        check("none", &[]);
        assert!(glob_matches("[", paths).is_err());
    }
}
