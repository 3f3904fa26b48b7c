//! Where `unsafe` may stand: in the system calls of the sandbox and of its file system, and in the program that starts
//! before every other.

use super::Finding;
use super::source::Source;

/// The only folders whose files may say `unsafe`.
const UNSAFE_FOLDERS: &[&str] = &[
    "crates/sandbox/src/sys/",
    "crates/sandbox/src/sys.rs",
    "crates/sandbox-fs/src/sys/",
    "crates/portal-loader/",
];

/// Crates whose roots deny `unsafe_code` instead of forbidding it, because one module of theirs allows it again.
const DENYING_CRATES: &[&str] = &["sandbox", "sandbox-fs"];

/// Crates that are unsafe by nature and say nothing at their root.
const UNSAFE_CRATES: &[&str] = &["portal-loader"];

/// Findings about `unsafe` outside its folders.
pub fn check_source(path: &str, source: &Source) -> Vec<Finding> {
    if UNSAFE_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        return Vec::new();
    }
    let allowed = UNSAFE_FOLDERS.join(", ");
    let text = format!("unsafe code may stand only in {allowed}");
    source.find(&["unsafe"]).map(|line| Finding::at(path, line, text.clone())).collect()
}

/// Findings about a crate's root that does not forbid what the crate must not do.
pub fn check_root(package: &str, path: &str, text: &str) -> Vec<Finding> {
    if UNSAFE_CRATES.contains(&package) {
        return Vec::new();
    }
    let level = if DENYING_CRATES.contains(&package) { "deny" } else { "forbid" };
    let says_so = |source: &Source| {
        let pattern = ["#", "!", "[", level, "(", "unsafe_code", ")", "]"];
        source.find(&pattern).next().is_some()
    };
    match Source::parse(text) {
        Ok(source) if says_so(&source) => Vec::new(),
        // A file that is no Rust is told of once, by the caller.
        Err(_) => Vec::new(),
        Ok(_) => vec![Finding::of(path, format!("the root of '{package}' lacks #![{level}(unsafe_code)]"))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::told;

    fn check(path: &str, text: &str, expect: usize) {
        let source = Source::parse(text).expect("the sample is Rust");
        assert_eq!(check_source(path, &source).len(), expect, "{path}: {text}");
    }

    #[test]
    fn unsafe_code_stays_in_its_folders() {
        let block = "fn f() {\n    unsafe { g() }\n}\n";
        check("crates/sandbox/src/sys/mount.rs", block, 0);
        check("crates/sandbox/src/sys.rs", block, 0);
        check("crates/portal-loader/src/main.rs", block, 0);
        check("crates/sandbox/src/portal.rs", block, 1);
        check("crates/sandbox/src/system.rs", block, 1);
        check("crates/link/src/lib.rs", "#[unsafe(no_mangle)]\nfn f() {}\n", 1);
        check("crates/link/src/lib.rs", "#[cfg(test)]\nmod tests {\n    unsafe fn f() {}\n}\n", 1);
        check("crates/link/src/lib.rs", "// unsafe\n#![forbid(unsafe_code)]\n", 0);
    }

    #[test]
    fn roots_say_what_they_forbid() {
        let root = |package, text| told(&check_root(package, "lib.rs", text));
        let none: [&str; 0] = [];
        assert_eq!(root("link", "//! A.\n#![forbid(unsafe_code)]\n"), none);
        assert_eq!(root("sandbox", "//! A.\n#![deny(unsafe_code)]\n"), none);
        assert_eq!(root("portal-loader", "//! A.\n"), none);
        assert_eq!(
            root("link", "//! #![forbid(unsafe_code)]\n"),
            ["0 the root of 'link' lacks #![forbid(unsafe_code)]"]
        );
        assert_eq!(root("link", "//! A.\n#![deny(unsafe_code)]\n").len(), 1);
        assert_eq!(root("sandbox", "//! A.\n#![allow(unsafe_code)]\n").len(), 1);
    }
}
