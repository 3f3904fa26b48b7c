//! Where programs may lie in a subjob's view: which mounts must be executable so that the registered files can
//! run, and which directories are the machine's and which the user's own.
//!
//! Below the machine's directories a whole directory is one place: it is read-only anyway. Among the user's own
//! files a place is the file alone, so that everything around it stays writable.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Directories in the root that belong to the machine, as on any machine: a program can read them.
const SYSTEM: &[&str] =
    &[".evm", "bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "run", "sbin", "usr", "var"];

/// Most places: each is a mount, which takes time at every start.
const MAX_PLACES: usize = 64;

/// One mount from which programs can be executed; the path is the one that the subjob sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    Directory(PathBuf),
    File(PathBuf),
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Place::Directory(path) | Place::File(path) => path,
        }
    }
}

/// Whether a name in the root directory is the machine's; all others are the user's own.
pub(crate) fn is_system(name: &OsStr) -> bool {
    SYSTEM.iter().any(|system| name == *system)
}

/// The fewest places that hold all of `executables`, which are absolute and have no `..`; at most [`MAX_PLACES`]
/// unless that many files lie in the root directory itself. No place lies in another.
pub(crate) fn exec_places(executables: &[PathBuf]) -> Vec<Place> {
    let mut directories = BTreeSet::new();
    let mut files = BTreeSet::new();
    for path in executables {
        match path.parent() {
            Some(parent) if depth(parent) > 0 && in_system(parent) => directories.insert(parent.to_owned()),
            _ => files.insert(path.clone()),
        };
    }
    loop {
        directories = without_nested(directories);
        files.retain(|file| !file.ancestors().any(|above| directories.contains(above)));
        if directories.len() + files.len() <= MAX_PLACES || !merge_deepest(&mut directories, &mut files) {
            break;
        }
    }
    let directories = directories.into_iter().map(Place::Directory);
    directories.chain(files.into_iter().map(Place::File)).collect()
}

/// Replaces the places that lie deepest by the directories around them. False when none is left that could be:
/// the root directory never is a place.
fn merge_deepest(directories: &mut BTreeSet<PathBuf>, files: &mut BTreeSet<PathBuf>) -> bool {
    let deepest = directories.iter().chain(&*files).map(|path| depth(path)).max().unwrap_or(0);
    if deepest < 2 {
        return false;
    }
    let mut parents = Vec::new();
    for places in [&mut *directories, files] {
        places.retain(|path| {
            let stays = depth(path) < deepest;
            parents.extend(path.parent().filter(|_| !stays).map(Path::to_owned));
            stays
        });
    }
    directories.extend(parents);
    true
}

/// A directory sorts right before all that lies in it.
fn without_nested(sorted: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in sorted {
        if !kept.last().is_some_and(|last| path.starts_with(last)) {
            kept.push(path);
        }
    }
    kept.into_iter().collect()
}

fn in_system(path: &Path) -> bool {
    path.iter().nth(1).is_some_and(is_system)
}

/// Names below the root.
fn depth(path: &Path) -> usize {
    path.iter().count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(executables: &[&str], expect: &[&str]) {
        let executables: Vec<PathBuf> = executables.iter().map(PathBuf::from).collect();
        let found: Vec<String> = exec_places(&executables)
            .iter()
            .map(|place| match place {
                Place::Directory(path) => format!("{}/", path.display()),
                Place::File(path) => path.display().to_string(),
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn of_the_machine_it_is_whole_directories() {
        check(&[], &[]);
        check(&["/usr/bin/perl", "/usr/bin/sh"], &["/usr/bin/"]);
        check(&["/lib64/ld-linux-x86-64.so.2"], &["/lib64/"]);
        check(&["/opt/tool/bin/a", "/opt/tool/lib/b.so"], &["/opt/tool/bin/", "/opt/tool/lib/"]);
        check(&["/var/lib/tool/a"], &["/var/lib/tool/"]);
    }

    #[test]
    fn of_the_user_it_is_the_files_alone() {
        check(&["/home/ann/sim/sim", "/app/tool"], &["/app/tool", "/home/ann/sim/sim"]);
        check(&["/tool"], &["/tool"]);
        // A file with the name of a directory of the machine.
        check(&["/bin"], &["/bin"]);
    }

    #[test]
    fn what_lies_in_another_place_is_none() {
        check(
            &["/usr/lib/a.so", "/usr/lib/python3/b.so", "/usr/lib/python3/numpy/c.so", "/usr/lib32/d.so"],
            &["/usr/lib/", "/usr/lib32/"],
        );
        // Sorted by bytes, "/usr/lib-extra" would come between "/usr/lib" and what lies in it.
        check(&["/usr/lib-extra/a", "/usr/lib/b", "/usr/lib/c/d"], &["/usr/lib/", "/usr/lib-extra/"]);
    }

    #[test]
    fn too_many_are_merged_from_the_deepest_up() {
        let deep: Vec<String> = (0..MAX_PLACES).map(|n| format!("/home/ann/lib/d{n}/a.so")).collect();
        let mut paths: Vec<&str> = deep.iter().map(String::as_str).collect();
        let mut unmerged = paths.clone();
        unmerged.sort_unstable();
        check(&paths, &unmerged);
        paths.push("/home/ann/tool");
        let mut merged: Vec<String> = (0..MAX_PLACES)
            .map(|n| format!("/home/ann/lib/d{n}/"))
            .chain(["/home/ann/tool".into()])
            .collect();
        // Each file became its directory, which is not fewer; so their directory became the place.
        merged = vec!["/home/ann/lib/".into(), merged.pop().unwrap()];
        check(&paths, &merged.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn the_root_directory_is_never_a_place() {
        let many: Vec<PathBuf> = (0..MAX_PLACES + 9).map(|n| PathBuf::from(format!("/f{n}"))).collect();
        let found = exec_places(&many);
        assert_eq!(found.len(), many.len());
        assert!(found.iter().all(|place| matches!(place, Place::File(path) if many.contains(path))));
    }

    #[test]
    fn whatever_is_registered_lies_in_a_place_and_no_place_in_another() {
        // Every path over a small alphabet up to depth 4, in growing sets.
        let names = ["usr", "lib", "home", "a", "b.so"];
        let mut paths: Vec<PathBuf> = vec![PathBuf::from("/")];
        for _ in 0..4 {
            let longer = paths.iter().flat_map(|path| names.iter().map(|name| path.join(name)));
            paths = longer.chain(paths.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect();
        }
        // What isn't named so is a directory, in which no program can lie under its own name.
        paths.retain(|path| {
            path.ends_with("b.so") && !path.parent().unwrap().iter().any(|name| name == "b.so")
        });
        for step in [1, 2, 3, 7, 11, 50] {
            let executables: Vec<PathBuf> = paths.iter().step_by(step).cloned().collect();
            let places = exec_places(&executables);
            for path in &executables {
                assert!(places.iter().any(|place| path.starts_with(place.path())), "{}", path.display());
            }
            for (place, other) in places.iter().flat_map(|one| places.iter().map(move |two| (one, two))) {
                assert!(place == other || !place.path().starts_with(other.path()), "{place:?} {other:?}");
            }
            assert!(places.len() <= MAX_PLACES && places.iter().all(|place| depth(place.path()) > 0));
        }
    }
}
