//! /var/lib/dpkg/status: the installed packages and what they depend on (deb822(5)).

use std::collections::{BTreeMap, HashMap};

use memchr::memmem;

use super::ARCHITECTURE;

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    pub name: String,
    /// Essential, or of priority required or important: a part of every Debian system.
    pub base: bool,
    /// Compilers, headers and the like (section devel or libdevel).
    pub builds_programs: bool,
    /// Pre-Depends and Depends: groups of alternatives, versions left away.
    pub depends: Vec<Vec<String>>,
    provides: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Packages {
    by_name: BTreeMap<String, Package>,
    /// Virtual package → the packages that provide it.
    providers: HashMap<String, Vec<String>>,
}

impl Packages {
    pub fn parse(status: &[u8]) -> Self {
        let mut packages = Packages::default();
        let mut rest = status;
        while !rest.is_empty() {
            let end = memmem::find(rest, b"\n\n").unwrap_or(rest.len());
            // One broken description must not hide the other packages.
            if let Some(package) = stanza(&String::from_utf8_lossy(&rest[..end])) {
                for name in &package.provides {
                    packages.providers.entry(name.clone()).or_default().push(package.name.clone());
                }
                packages.by_name.insert(package.name.clone(), package);
            }
            rest = rest.get(end + 2..).unwrap_or_default();
        }
        packages
    }

    pub fn get(&self, name: &str) -> Option<&Package> {
        self.by_name.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The installed packages that a dependency on `name` stands for.
    pub fn provided(&self, name: &str) -> Vec<&Package> {
        match self.by_name.get(name) {
            Some(package) => vec![package],
            None => {
                self.providers.get(name).into_iter().flatten().filter_map(|name| self.get(name)).collect()
            }
        }
    }
}

/// One paragraph, unless it is of a package that isn't installed or is for another architecture.
fn stanza(text: &str) -> Option<Package> {
    let mut package = Package::default();
    let mut installed = false;
    let mut ours = true;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((field, value)) = line.split_once(':') else { continue };
        let mut value = value.trim().to_owned();
        match field {
            "Package" => package.name = value,
            "Status" => installed = value.ends_with(" installed"),
            "Architecture" => ours = matches!(value.as_str(), ARCHITECTURE | "all"),
            "Essential" => package.base |= value == "yes",
            "Section" => package.builds_programs = matches!(area_left_out(&value), "devel" | "libdevel"),
            "Priority" => package.base |= matches!(value.as_str(), "required" | "important"),
            "Depends" | "Pre-Depends" | "Provides" => {
                while let Some(more) = lines.next_if(|line| line.starts_with([' ', '\t'])) {
                    value.push_str(more);
                }
                let groups =
                    value.split(',').map(|group| group.split('|').map(bare_name).collect::<Vec<_>>());
                if field == "Provides" {
                    package.provides.extend(groups.flatten());
                } else {
                    package.depends.extend(groups);
                }
            }
            _ => {}
        }
    }
    (installed && ours && !package.name.is_empty()).then_some(package)
}

/// `contrib/devel` → `devel`.
fn area_left_out(section: &str) -> &str {
    section.rsplit('/').next().unwrap_or(section)
}

/// `perl:any (>= 5.1)` → `perl`.
fn bare_name(dependency: &str) -> String {
    dependency.trim().split([' ', ':', '(']).next().unwrap_or_default().to_owned()
}
