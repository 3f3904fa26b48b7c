//! What a Debian package brings: its files, and those of the packages that it depends on.

use std::os::unix::fs::PermissionsExt;

use super::{Collector, Depth, Task};
use crate::debian::{Debian, Package, is_documentation};
use crate::error::WrapError;
use crate::host::{Found, is_below, split};
use crate::layout::{is_system, shadowing_mount};
use crate::report::{Reason, Warning};
use crate::suggest::nearest;

impl Collector {
    /// Adds a package that the submitter has named, whatever it is.
    pub(super) fn include_package(&mut self, name: &str) -> Result<(), WrapError> {
        let debian = self.debian()?;
        let Some(mut package) = debian.package(name).cloned() else {
            let suggestions = nearest(name, debian.package_names());
            return Err(WrapError::UnknownPackage { name: name.to_owned(), suggestions });
        };
        // Being asked for by name makes a package of the base system as good as any other.
        package.base = false;
        self.add_package(&package, Depth::PackagedCommands)
    }

    /// Adds the packages that the executable of `task` belongs to by any of its names, and the one that is called
    /// like it (`python3` for /usr/bin/python3, which is a link of python3-minimal's to a file of python3.11's).
    /// Tells whether there was one.
    pub(super) fn add_packages_of(&mut self, task: &Task) -> Result<bool, WrapError> {
        if !is_system(&task.found.path) {
            return Ok(false);
        }
        // Links of directories, such as /bin, belong to other packages than what is in them.
        let links: Vec<_> = task.found.links.iter().filter(|link| self.host.is_file(&link.path)).collect();
        let debian = self.debian()?;
        let paths = links.iter().map(|link| &link.path).chain([&task.asked, &task.found.path]);
        let mut packages: Vec<Package> = paths.filter_map(|path| debian.owner(path)).cloned().collect();
        let owned = !packages.is_empty();
        if owned {
            packages.extend(debian.package(split(&task.asked).1).cloned());
        }
        for package in &packages {
            self.add_package(package, task.depth)?;
        }
        Ok(owned)
    }

    pub(super) fn add_package_of_library(&mut self, library: &Found) -> Result<(), WrapError> {
        let Some(package) = self.debian()?.owner(&library.path).cloned() else { return Ok(()) };
        if package.base || Debian::is_covered(&package) {
            Ok(())
        } else {
            self.add_package(&package, Depth::Package)
        }
    }

    /// Adds the files of a package and of its dependencies. `depth` is that of what asked for it: the scripts of the
    /// package itself are as important as that was, those of its dependencies less so.
    fn add_package(&mut self, package: &Package, depth: Depth) -> Result<(), WrapError> {
        if package.base {
            return self.add_files_of(package, Depth::Commands);
        }
        let own = depth.min(Depth::PackagedCommands);
        self.add_files_of(package, if own > Depth::Package { own } else { Depth::Commands })?;
        let dependencies: Vec<Package> = self.debian()?.dependencies(package).into_iter().cloned().collect();
        for dependency in dependencies {
            if dependency.builds_programs && !package.builds_programs {
                let Package { name, .. } = dependency;
                self.warnings
                    .insert(Warning::PackageLeftOut { package: name, needed_by: package.name.clone() });
            } else {
                self.add_files_of(&dependency, Depth::Commands)?;
            }
        }
        Ok(())
    }

    fn add_files_of(&mut self, package: &Package, depth: Depth) -> Result<(), WrapError> {
        let before = self.packages.get(&package.name);
        if before.is_some_and(|before| *before >= depth) {
            return Ok(());
        }
        self.packages.insert(package.name.clone(), depth);
        let wanted =
            |path: &&str| !is_documentation(path) && (!package.base || is_private_to(path, &package.name));
        let paths: Vec<String> = self.debian()?.paths(package).filter(wanted).map(str::to_owned).collect();
        for path in &paths {
            self.add_package_file(path, package, depth)?;
        }
        Ok(())
    }

    fn add_package_file(&mut self, path: &str, package: &Package, depth: Depth) -> Result<(), WrapError> {
        // Not there: an administrator or a slimmed-down image has removed it. Links to nowhere are as good.
        let Some(found) = self.host.probe(path) else { return Ok(()) };
        let hidden = |path: &str| shadowing_mount(path).is_some();
        if hidden(&found.path) || found.links.iter().any(|link| hidden(&link.path)) {
            return Ok(());
        }
        if found.metadata.is_dir() {
            self.application.add_links(&found.links);
            self.application.add_directory(&found.path);
            return Ok(());
        }
        let why = if !found.metadata.is_file() {
            "it is neither a file nor a directory"
        } else if found.metadata.permissions().mode() & 0o004 == 0 {
            "not everyone may read it, so it may hold a secret"
        } else {
            let reason = Reason::Package { name: package.name.clone() };
            return self.add_along(path, &found, reason, depth);
        };
        self.warnings.insert(Warning::LeftOut { path: found.path, why: why.to_owned() });
        Ok(())
    }

    /// The package database, read when it is first asked for.
    fn debian(&mut self) -> Result<&Debian, WrapError> {
        if self.debian.is_none() {
            self.debian = Some(Debian::read(&self.host)?);
        }
        Ok(self.debian.as_ref().expect("it was just read"))
    }
}

/// Whether a path lies in a directory that a package of the base system has for itself: perl-base has its modules
/// there, and programs of it don't run without them.
fn is_private_to(path: &str, package: &str) -> bool {
    ["/usr/lib", "/usr/libexec", "/usr/share", "/lib"].iter().any(|parent| is_below(path, parent))
        && path.contains(&format!("/{package}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_package_brings_what_only_it_uses() {
        assert!(is_private_to("/usr/lib/x86_64-linux-gnu/perl-base/strict.pm", "perl-base"));
        assert!(is_private_to("/usr/libexec/coreutils/libstdbuf.so", "coreutils"));
        assert!(!is_private_to("/usr/bin/perl", "perl-base"));
        assert!(!is_private_to("/etc/coreutils/x", "coreutils"));
        assert!(!is_private_to("/usr/share/coreutils-data/x", "coreutils"));
    }
}
