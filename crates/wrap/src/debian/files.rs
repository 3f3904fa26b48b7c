//! /var/lib/dpkg/info/*.list: the paths of every installed package.

use memchr::memmem;

use super::ARCHITECTURE;
use crate::error::WrapError;
use crate::host::{Host, is_below, split};

const DIRECTORY: &str = "/var/lib/dpkg/info";

/// The directories that were merged into /usr: a list may have a file there under either name.
const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"];

/// Directories whose files no program needs to run: texts for people, desktop integration, and the configuration of
/// services that a sandbox does not have.
const DOCUMENTATION: [&str; 44] = [
    "/etc/apparmor.d",
    "/etc/apt",
    "/etc/bash_completion.d",
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/default",
    "/etc/init",
    "/etc/init.d",
    "/etc/ld.so.conf.d",
    "/etc/logrotate.d",
    "/etc/pam.d",
    "/etc/profile.d",
    "/etc/sudoers.d",
    "/etc/systemd",
    "/etc/udev",
    "/lib/systemd",
    "/lib/udev",
    "/usr/lib/debug",
    "/usr/lib/systemd",
    "/usr/lib/sysusers.d",
    "/usr/lib/tmpfiles.d",
    "/usr/lib/udev",
    "/usr/share/appdata",
    "/usr/share/applications",
    "/usr/share/apport",
    "/usr/share/bash-completion",
    "/usr/share/bug",
    "/usr/share/doc",
    "/usr/share/doc-base",
    "/usr/share/fish",
    "/usr/share/gcc",
    "/usr/share/gdb",
    "/usr/share/gtk-doc",
    "/usr/share/help",
    "/usr/share/icons",
    "/usr/share/info",
    "/usr/share/lintian",
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/share/menu",
    "/usr/share/metainfo",
    "/usr/share/pixmaps",
    "/usr/share/zsh",
];

/// Whether a path of a package is for people and not for its programs.
pub(crate) fn is_documentation(path: &str) -> bool {
    DOCUMENTATION.iter().any(|directory| is_below(path, directory))
}

/// All lists in one text, ten megabytes on a well-stocked machine: reading it is most of the work, and one search
/// through it takes less than an index would take to build.
#[derive(Debug, Default)]
pub(crate) struct FileLists {
    /// Each list begins and ends with a line break.
    text: Vec<u8>,
    /// Where each package's list begins, in order.
    starts: Vec<(usize, String)>,
}

impl FileLists {
    pub fn read(host: &Host) -> Result<Self, WrapError> {
        let mut lists = FileLists::default();
        for file in host.list(DIRECTORY)? {
            let Some(name) = file.strip_suffix(".list") else { continue };
            // A package that may be there for several architectures has its own in the name: `libc6:amd64.list`.
            let (package, architecture) = name.split_once(':').unwrap_or((name, ARCHITECTURE));
            if architecture != ARCHITECTURE {
                continue;
            }
            lists.starts.push((lists.text.len(), package.to_owned()));
            lists.text.push(b'\n');
            host.read_onto(&format!("{DIRECTORY}/{file}"), &mut lists.text)?;
        }
        lists.text.push(b'\n');
        Ok(lists)
    }

    /// The package whose list has `path`.
    pub fn owner(&self, path: &str) -> Option<&str> {
        aliases(path).find_map(|alias| {
            let at = memmem::find(&self.text, format!("\n{alias}\n").as_bytes())?;
            let after = self.starts.partition_point(|(start, _)| *start <= at);
            Some(self.starts[after.checked_sub(1)?].1.as_str())
        })
    }

    /// The paths in the lists of `package`; those that are not UTF-8 are passed over.
    pub fn of<'a>(&'a self, package: &str) -> impl Iterator<Item = &'a str> {
        let lists = self.starts.iter().enumerate().filter(move |(_, (_, name))| name == package);
        let ranges: Vec<_> = lists
            .map(|(i, (start, _))| *start..self.starts.get(i + 1).map_or(self.text.len(), |next| next.0))
            .collect();
        ranges
            .into_iter()
            .flat_map(|range| self.text[range].split(|byte| *byte == b'\n'))
            .filter_map(|line| std::str::from_utf8(line).ok())
            .filter(|line| line.starts_with('/') && split(line).1 != ".")
    }
}

/// A path and what the same file is called on the other side of the merge of /usr.
fn aliases(path: &str) -> impl Iterator<Item = String> {
    let without_usr =
        path.strip_prefix("/usr").filter(|rest| MERGED.iter().any(|merged| is_below(rest, merged)));
    let with_usr = MERGED.iter().any(|merged| is_below(path, merged)).then(|| format!("/usr{path}"));
    [Some(path.to_owned()), without_usr.map(str::to_owned), with_usr].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_people_stays_at_home() {
        for path in
            ["/usr/share/doc/hmmer/README", "/usr/share/man", "/etc/init.d/x", "/usr/share/icons/x.png"]
        {
            assert!(is_documentation(path), "{path}");
        }
        for path in
            ["/usr/share/povray-3.7/icons/x.png", "/etc/java-17-openjdk/x", "/usr/share/docs", "/usr/bin/man"]
        {
            assert!(!is_documentation(path), "{path}");
        }
    }
}
