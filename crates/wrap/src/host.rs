//! The submitter's machine as `wrap` reads it: paths followed link by link, directories listed, files opened.
//!
//! Every path here is text, absolute, and read below the host's root directory, which is `/` except in tests. What
//! is done with a file once it is found is in `collect`.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::WrapError;

/// Most links on the way to one file: the kernel's own limit (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A file or directory with the way that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The path without any link in it.
    pub path: String,
    /// Every link met, directory links such as `/bin` included, in the order met.
    pub links: Vec<Link>,
    pub metadata: Metadata,
}

/// A symbolic link: its own path has no link above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub path: String,
    pub target: String,
}

/// The machine that `wrap` takes programs from.
#[derive(Debug)]
pub(crate) struct Host {
    root: PathBuf,
    /// Directories already followed: a package's thousands of files lie in few of them.
    directories: HashMap<String, Rc<Directory>>,
}

#[derive(Debug)]
struct Directory {
    /// Without links; empty for the root directory, so that a `/` and a name can be appended to it.
    path: String,
    links: Vec<Link>,
}

impl Host {
    /// The host whose root directory is `root`; links in it are read as if `root` were `/`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Host { root: root.into(), directories: HashMap::new() }
    }

    /// Where a path of the host is for this process.
    pub fn real(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn open(&self, path: &str) -> Result<File, WrapError> {
        File::open(self.real(path)).map_err(|source| WrapError::Read { path: path.into(), source })
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>, WrapError> {
        fs::read(self.real(path)).map_err(|source| WrapError::Read { path: path.into(), source })
    }

    /// Appends a file's content to `buffer`.
    pub fn read_onto(&self, path: &str, buffer: &mut Vec<u8>) -> Result<(), WrapError> {
        let read = self.open(path)?.read_to_end(buffer);
        read.map_err(|source| WrapError::Read { path: path.into(), source }).map(drop)
    }

    /// The first bytes of a file, at most `limit`.
    pub fn head(&self, path: &str, limit: usize) -> Result<Vec<u8>, WrapError> {
        let mut head = Vec::with_capacity(limit);
        let read = self.open(path)?.take(limit as u64).read_to_end(&mut head);
        read.map_err(|source| WrapError::Read { path: path.into(), source })?;
        Ok(head)
    }

    /// The names in a directory, sorted, so that two runs give the same manifest.
    pub fn list(&self, path: &str) -> Result<Vec<String>, WrapError> {
        let read = |source| WrapError::Read { path: path.into(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(self.real(path)).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            names.push(
                name.into_string().map_err(|name| WrapError::NotUtf8 { path: Path::new(path).join(name) })?,
            );
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Follows `path` to the end of its links.
    ///
    /// # Errors
    /// Nothing there, a loop of links, a part that can't be read.
    pub fn find(&mut self, path: &str) -> Result<Found, WrapError> {
        let mut links = Vec::new();
        let path_at_end = self.follow(path, path, &mut links)?;
        let metadata = self.metadata(&path_at_end, path)?;
        Ok(Found { path: path_at_end, links, metadata })
    }

    /// Like [`Host::find`], with nothing instead of an error when there is nothing to be found or it can't be read.
    pub fn probe(&mut self, path: &str) -> Option<Found> {
        self.find(path).ok()
    }

    pub fn is_file(&mut self, path: &str) -> bool {
        self.probe(path).is_some_and(|found| found.metadata.is_file())
    }

    /// Appends to `links` the links on the way to `path`, which is part of the way to `asked`.
    fn follow(&mut self, path: &str, asked: &str, links: &mut Vec<Link>) -> Result<String, WrapError> {
        if links.len() > MAX_LINKS {
            return Err(WrapError::LinkLoop { path: asked.into() });
        }
        let (parent, name) = split(path);
        match name {
            "" => return Ok("/".into()),
            "." => return self.follow(parent, asked, links),
            ".." => {
                let directory = self.directory(parent, asked, links)?;
                return Ok(match split(&directory.path).0 {
                    "" => "/".into(),
                    above => above.into(),
                });
            }
            _ => {}
        }
        let directory = self.directory(parent, asked, links)?;
        let here = format!("{}/{name}", directory.path);
        if !self.metadata(&here, asked)?.is_symlink() {
            return Ok(here);
        }
        let target = fs::read_link(self.real(&here))
            .map_err(|source| WrapError::Read { path: here.clone().into(), source })?
            .into_os_string()
            .into_string()
            .map_err(|_| WrapError::NotUtf8 { path: here.clone().into() })?;
        let next =
            if target.starts_with('/') { target.clone() } else { format!("{}/{target}", directory.path) };
        links.push(Link { path: here, target });
        self.follow(&next, asked, links)
    }

    fn directory(
        &mut self,
        path: &str,
        asked: &str,
        links: &mut Vec<Link>,
    ) -> Result<Rc<Directory>, WrapError> {
        if let Some(known) = self.directories.get(path) {
            links.extend_from_slice(&known.links);
            return Ok(Rc::clone(known));
        }
        // The links met so far stay in place while following, because they count against the limit.
        let before = links.len();
        let at_end = self.follow(path, asked, links)?;
        let at_end = if at_end == "/" { String::new() } else { at_end };
        let directory = Rc::new(Directory { path: at_end, links: links[before..].to_vec() });
        self.directories.insert(path.to_owned(), Rc::clone(&directory));
        Ok(directory)
    }

    /// What is at `path`, a link not followed.
    pub fn metadata(&self, path: &str, asked: &str) -> Result<Metadata, WrapError> {
        fs::symlink_metadata(self.real(path)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                WrapError::Absent { path: asked.into() }
            }
            _ => WrapError::Read { path: path.into(), source },
        })
    }
}

/// Parent (without its last `/`) and name of an absolute path; both empty for the root directory.
pub(crate) fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some((parent, name)) => (parent.trim_end_matches('/'), name),
        None => ("", path),
    }
}

/// The path without `.`, `..` and empty parts, links not regarded.
pub(crate) fn normalize(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether `path` is `directory` or lies below it.
pub(crate) fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn host(files: &[&str], links: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        for (path, target) in links {
            symlink(target, dir.path().join(path)).unwrap();
        }
        let host = Host::new(dir.path());
        (dir, host)
    }

    fn check(host: &mut Host, path: &str, expect: &str, links: &[&str]) {
        let found = host.find(path).unwrap();
        let met: Vec<_> = found.links.iter().map(|link| link.path.as_str()).collect();
        assert_eq!((found.path.as_str(), met.as_slice()), (expect, links), "{path}");
    }

    #[test]
    fn every_link_on_the_way_is_met_in_order() {
        let (_dir, mut host) = host(
            &["usr/lib/jvm/bin/java", "etc/alternatives/README"],
            &[
                ("bin", "usr/bin"),
                ("usr/bin", "lib/../lib/jvm/bin"),
                ("etc/alternatives/java", "/bin/java"),
                ("java", "etc/./alternatives//java"),
                ("up", ".."),
            ],
        );
        check(&mut host, "/usr/lib/jvm/bin/java", "/usr/lib/jvm/bin/java", &[]);
        check(&mut host, "/usr/bin/java", "/usr/lib/jvm/bin/java", &["/usr/bin"]);
        let whole = ["/java", "/etc/alternatives/java", "/bin", "/usr/bin"];
        check(&mut host, "/java", "/usr/lib/jvm/bin/java", &whole);
        // The second time the directories come from the cache.
        check(&mut host, "/java", "/usr/lib/jvm/bin/java", &whole);
        check(&mut host, "/up/up/etc/..", "/", &["/up", "/up"]);
    }

    #[test]
    fn a_loop_of_links_is_an_error_and_not_a_hang() {
        let (_dir, mut host) = host(
            &["f"],
            &[("a", "b"), ("b", "a"), ("self", "self"), ("deep", "deep/x"), ("gone", "nowhere")],
        );
        for path in ["/a", "/self", "/a/f", "/self/self/f", "/deep"] {
            assert!(matches!(host.find(path), Err(WrapError::LinkLoop { .. })), "{path}");
        }
        for path in ["/gone", "/nothing", "/f/below"] {
            assert!(matches!(host.find(path), Err(WrapError::Absent { .. })), "{path}");
        }
    }

    #[test]
    fn paths_are_taken_apart_like_the_kernel_does() {
        assert_eq!(split("/usr/bin/"), ("/usr", "bin"));
        assert_eq!(split("/usr"), ("", "usr"));
        assert_eq!(split("/"), ("", ""));
        assert_eq!(normalize("/app/../lib//x/./y"), "/lib/x/y");
        assert_eq!(normalize("/.."), "/");
        assert!(is_below("/usr/lib", "/usr") && is_below("/usr", "/usr") && !is_below("/usrx", "/usr"));
    }
}
