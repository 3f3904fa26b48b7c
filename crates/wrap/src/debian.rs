//! What dpkg knows of this machine: which package a file belongs to, what else is in that package, and what it
//! depends on. Read from /var/lib/dpkg itself, because starting dpkg-query for every question takes seconds.

mod files;
mod status;

use std::collections::BTreeSet;

use crate::error::WrapError;
use crate::host::Host;
use files::FileLists;
pub(crate) use files::is_documentation;
pub(crate) use status::Package;
use status::Packages;

/// dpkg's name for the processors of the grid's clients; packages for others are as good as not installed.
const ARCHITECTURE: &str = "amd64";

/// Packages of libraries alone that every program has among its libraries already. The rest of libc6 (character
/// set converters, an audit library) is larger than most programs; who needs it names `deb:libc6`.
const COVERED_BY_CLOSURE: [&str; 3] = ["libc6", "libgcc-s1", "libstdc++6"];

/// The package database; empty on a machine without dpkg.
#[derive(Debug)]
pub(crate) struct Debian {
    packages: Packages,
    files: FileLists,
}

impl Debian {
    /// # Errors
    /// A database that is there and can't be read.
    pub fn read(host: &Host) -> Result<Self, WrapError> {
        match host.read("/var/lib/dpkg/status") {
            Ok(status) => Ok(Debian { packages: Packages::parse(&status), files: FileLists::read(host)? }),
            Err(WrapError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Debian { packages: Packages::default(), files: FileLists::default() })
            }
            Err(error) => Err(error),
        }
    }

    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.get(name)
    }

    pub fn package_names(&self) -> impl Iterator<Item = &str> {
        self.packages.names()
    }

    /// The package that the file at `path` belongs to.
    pub fn owner(&self, path: &str) -> Option<&Package> {
        self.packages.get(self.files.owner(path)?)
    }

    /// The paths of a package, directories too, as dpkg lists them: `/bin/sh` may be meant as `/usr/bin/sh`.
    pub fn paths<'a>(&'a self, package: &Package) -> impl Iterator<Item = &'a str> {
        self.files.of(&package.name)
    }

    /// Whether the loader's search finds all that programs need of a package.
    pub fn is_covered(package: &Package) -> bool {
        COVERED_BY_CLOSURE.contains(&package.name.as_str())
    }

    /// What a package depends on, directly and indirectly, nearest first. Packages that every Debian system has, and
    /// those whose libraries the loader's search finds anyway, end a branch and are not among them. Those for
    /// building programs end one too, but are: who asks must decide.
    pub fn dependencies(&self, package: &Package) -> Vec<&Package> {
        let mut seen = BTreeSet::from([&package.name]);
        let mut found: Vec<&Package> = Vec::new();
        let mut next = 0;
        let mut current = package;
        loop {
            let ends_branch = current.builds_programs && !package.builds_programs;
            for group in current.depends.iter().filter(|_| !ends_branch) {
                for dependency in group.iter().flat_map(|name| self.packages.provided(name)) {
                    if !dependency.base && !Debian::is_covered(dependency) && seen.insert(&dependency.name) {
                        found.push(dependency);
                    }
                }
            }
            let Some(following) = found.get(next) else { return found };
            current = following;
            next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    use super::*;

    const STATUS: &str = "\
Package: tool\nStatus: install ok installed\nArchitecture: amd64\nDepends: lib-a (>= 1) | lib-b, perl:any,\n \
libc6, awk, gcc\nPre-Depends: dpkg\n\n\
Package: lib-b\nStatus: install ok installed\nDepends: tool, data\n\n\
Package: lib-a\nStatus: deinstall ok config-files\nDepends: gone\n\n\
Package: perl\nStatus: install ok installed\nDepends: perl-base\n\n\
Package: perl-base\nEssential: yes\nStatus: install ok installed\n\n\
Package: dpkg\nPriority: required\nStatus: install ok installed\n\n\
Package: mawk\nStatus: install ok installed\nProvides: awk (= 1)\n\n\
Package: libc6\nStatus: install ok installed\n\n\
Package: gcc\nSection: devel\nStatus: install ok installed\nDepends: data, binutils\n\n\
Package: binutils\nSection: non-free/devel\nStatus: install ok installed\n\n\
Package: data\nStatus: install ok installed\n\n\
Package: data\nStatus: install ok installed\nArchitecture: i386\nDepends: lib-c\n\n\
Package: lib-c\nStatus: install ok installed\nArchitecture: i386\n";

    fn debian() -> Debian {
        let tree = Tree::new();
        tree.file("var/lib/dpkg/status", STATUS);
        tree.file("var/lib/dpkg/info/tool.list", "/.\n/usr\n/bin\n/bin/tool\n/usr/share/doc/tool/x\n");
        tree.file("var/lib/dpkg/info/data.md5sums", "x");
        tree.file("var/lib/dpkg/info/lib-c:i386.list", "/usr/lib/libc.so\n");
        tree.file("var/lib/dpkg/info/lib-b:amd64.list", "/.\n/usr/lib/libb.so\n");
        Debian::read(&tree.host()).unwrap()
    }

    #[test]
    fn dependencies_are_followed_to_the_base_system() {
        let debian = debian();
        let tool = debian.package("tool").unwrap();
        let names =
            |package| debian.dependencies(package).iter().map(|p| p.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(tool), ["lib-b", "perl", "mawk", "gcc", "data"]);
        let gcc = debian.package("gcc").unwrap();
        assert_eq!(names(gcc), ["data", "binutils"], "what builds programs needs what it needs");
        assert!(debian.package("lib-a").is_none(), "a removed package is not installed");
        assert!(debian.package("lib-c").is_none(), "nor is one for another architecture");
    }

    #[test]
    fn owners_are_found_under_either_name_of_a_merged_directory() {
        let debian = debian();
        let check = |path, expect: Option<&str>| {
            assert_eq!(debian.owner(path).map(|package| package.name.as_str()), expect, "{path}");
        };
        check("/usr/bin/tool", Some("tool"));
        check("/bin/tool", Some("tool"));
        check("/usr/lib/libb.so", Some("lib-b"));
        check("/lib/libb.so", Some("lib-b"));
        check("/usr/lib/libc.so", None);
        check("/usr/bin/too", None);
        check("/usr/share", None);
        let paths: Vec<_> = debian.paths(debian.package("lib-b").unwrap()).collect();
        assert_eq!(paths, ["/usr/lib/libb.so"]);
    }

    #[test]
    fn a_machine_without_dpkg_has_no_packages() {
        let debian = Debian::read(&Tree::new().host()).unwrap();
        assert_eq!(debian.package_names().count(), 0);
        assert!(debian.owner("/usr/bin/tool").is_none());
    }
}
