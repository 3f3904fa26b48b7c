//! Every crate obeys the workspace's lints: a crate that forgot to say so would pass clippy unread.

use super::Finding;

/// Findings about a crate's manifest.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::of(path, format!("this is not TOML: {}", error.message()))],
    };
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if lints == Some(&toml::Value::Boolean(true)) {
        Vec::new()
    } else {
        vec![Finding::of(path, "the crate does not inherit the workspace's lints ([lints] workspace = true)")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_inherits_the_lints_in_either_spelling() {
        fn check_one(text: &str, expect: usize) {
            assert_eq!(check("Cargo.toml", text).len(), expect, "{text}");
        }
        check_one("[package]\nname = \"a\"\n[lints]\nworkspace = true\n", 0);
        check_one("lints.workspace = true\n", 0);
        check_one("[package]\nname = \"a\"\n", 1);
        check_one("[lints]\nworkspace = false\n", 1);
        check_one("[lints.clippy]\nall = \"allow\"\n", 1);
        check_one("[lints\n", 1);
    }
}
