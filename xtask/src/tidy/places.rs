//! No path of a developer's machine: it means nothing on any other.

use super::Finding;

/// How paths on somebody's own machine begin. Written apart, so that this file passes its own rule.
const PERSONAL: &[&str] =
    &[concat!("/", "home/"), concat!("/", "root/"), concat!("/", "Users/"), concat!("C:\\", "Users\\")];

/// Characters after which a match is the middle of a longer path, such as `/proc/self/root/etc`, or a path
/// inside a folder that a placeholder names, such as `{view}/home/`.
const INSIDE: &[char] = &['_', '-', '.', '}', ')', '>', '*', '~'];

/// Findings about personal paths outside tests; a test may hand hostile paths to what it tests.
pub fn check(path: &str, text: &str, is_test: impl Fn(usize) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if let Some(found) = PERSONAL.iter().find(|personal| begins_in(line, personal))
            && !is_test(number)
        {
            findings.push(Finding::at(path, number, format!("a path of one machine: {found}…")));
        }
    }
    findings
}

fn begins_in(line: &str, personal: &str) -> bool {
    let is_inside = |before: char| before.is_alphanumeric() || INSIDE.contains(&before);
    line.match_indices(personal).any(|(at, _)| !line[..at].ends_with(is_inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(path: &str, text: &str, expect: usize) {
        assert_eq!(check(path, text, |line| line > 5).len(), expect, "{path}: {text}");
    }

    #[test]
    fn paths_of_one_machine_are_found_wherever_they_stand() {
        check_one("README.md", "see /home/ana/grid/README", 1);
        check_one("a.toml", "path = \"/root/grid\"", 1);
        check_one("a.sh", "cd /Users/ana", 1);
        check_one("a.md", "C:\\Users\\ana", 1);
        check_one("a.sh", "one\ncd \"/home/ana\"\n/root/x /home/y", 2);
    }

    #[test]
    fn longer_paths_placeholders_and_tests_are_not() {
        check_one("a.rs", "/proc/self/root/etc", 0);
        check_one("a.rs", "format!(\"{view}/home/{name}\")", 0);
        check_one("a.md", "the folders /home and /root", 0);
        check_one("a.rs", "\n\n\n\n\nlet hostile = \"/home/ana\";", 0);
    }
}
