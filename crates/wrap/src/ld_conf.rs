//! The directories that /etc/ld.so.conf adds to the loader's own (ldconfig(8)).

use std::collections::HashSet;

use globset::GlobBuilder;

use crate::host::{Host, normalize, split};

/// The directories of /etc/ld.so.conf and of the files that it includes, in order. A machine without the file, or
/// with one that can't be read, has none: the loader's own directories still count.
pub(crate) fn directories(host: &Host) -> Vec<String> {
    let mut reader = Reader { host, read: HashSet::new(), found: Vec::new() };
    reader.add_file("/etc/ld.so.conf");
    reader.found
}

struct Reader<'a> {
    host: &'a Host,
    /// Files read so far: one that includes itself would never end.
    read: HashSet<String>,
    found: Vec<String>,
}

impl Reader<'_> {
    fn add_file(&mut self, path: &str) {
        if !self.read.insert(path.to_owned()) {
            return;
        }
        let Ok(bytes) = self.host.read(path) else { return };
        for line in String::from_utf8_lossy(&bytes).lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(patterns) = line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t']))
            {
                for pattern in patterns.split_whitespace() {
                    // A relative pattern counts from the including file's directory.
                    let pattern = match pattern.strip_prefix('/') {
                        Some(_) => pattern.to_owned(),
                        None => format!("{}/{pattern}", split(path).0),
                    };
                    for file in matches(self.host, &pattern) {
                        self.add_file(&file);
                    }
                }
            } else if line.starts_with('/') {
                // "/usr/lib=libc5" is an old way to name a directory and its kind.
                self.found.push(normalize(line.split('=').next().unwrap_or_default()));
            }
        }
    }
}

/// The files that a pattern names, sorted. Wildcards work in its last part only, which is all that distributions use.
fn matches(host: &Host, pattern: &str) -> Vec<String> {
    let (directory, name) = split(pattern);
    let Ok(glob) = GlobBuilder::new(name).literal_separator(true).build() else {
        return Vec::new();
    };
    let matcher = glob.compile_matcher();
    let names = host.list(directory).unwrap_or_default();
    names
        .into_iter()
        .filter(|name| !name.starts_with('.') && matcher.is_match(name))
        .map(|name| format!("{directory}/{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    use super::*;

    #[test]
    fn included_files_add_their_directories_in_order() {
        let tree = Tree::new();
        tree.file("etc/ld.so.conf", "include ld.so.conf.d/*.conf\n/last/ # comment\nhwcap 0 x\n");
        tree.file("etc/ld.so.conf.d/b.conf", "/b//lib\n");
        tree.file("etc/ld.so.conf.d/a.conf", "# nothing\n/a/lib=libc6\ninclude /etc/ld.so.conf\n");
        tree.file("etc/ld.so.conf.d/c.txt", "/never\n");
        // a.conf includes its own includer: the circle is cut.
        assert_eq!(directories(&tree.host()), ["/a/lib", "/b/lib", "/last"]);
        assert!(directories(&Tree::new().host()).is_empty());
    }
}
