//! Which control group hierarchies this machine has, and where in them this process may make groups.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::error::SandboxError;

/// The mounted hierarchies, each with the directory of the group that this process is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    v2: Option<Place>,
    /// By controller.
    v1: BTreeMap<String, Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    mount: PathBuf,
    own: PathBuf,
}

impl Hierarchies {
    /// Looks at the machine.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub(crate) fn detect() -> Result<Self, SandboxError> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|source| SandboxError::Hierarchies { path: path.into(), source })
        };
        Ok(Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
    }

    fn parse(mounts: &str, memberships: &str) -> Self {
        let mut found = Hierarchies::default();
        for mount in mounts.lines().filter_map(CgroupMount::parse) {
            match mount.controllers {
                None => found.v2 = found.v2.or_else(|| mount.place(own_group(memberships, None)?)),
                Some(controllers) => {
                    for controller in controllers.split(',') {
                        if let Some(place) =
                            own_group(memberships, Some(controller)).and_then(|own| mount.place(own))
                        {
                            found.v1.entry(controller.to_owned()).or_insert(place);
                        }
                    }
                }
            }
        }
        found
    }

    /// The version 2 group to make ours in: the nearest one from our own upwards where we may, first choice one
    /// that hands on the memory controller. (A group with processes in it hands on none, so that is mostly the
    /// parent of our own.)
    pub(super) fn place_v2(&self) -> Option<PathBuf> {
        let place = self.v2.as_ref()?;
        let allowed: Vec<&Path> = place
            .own
            .ancestors()
            .take_while(|at| at.starts_with(&place.mount))
            .filter(|at| may_create_in(at))
            .collect();
        let hands_on = |at: &&&Path| {
            fs::read_to_string(at.join("cgroup.subtree_control"))
                .is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
        };
        allowed.iter().find(hands_on).or(allowed.first()).map(|at| at.to_path_buf())
    }

    /// The version 1 group of a controller to make ours in: our own, so that what bounds us bounds the subjob.
    pub(super) fn place_v1(&self, controller: &str) -> Option<PathBuf> {
        let own = &self.v1.get(controller)?.own;
        may_create_in(own).then(|| own.clone())
    }

    /// The tops of all hierarchies that could hold a group of ours, each once.
    pub(super) fn mounts(&self) -> Vec<PathBuf> {
        let mut mounts: Vec<PathBuf> =
            self.v1.values().chain(&self.v2).map(|place| place.mount.clone()).collect();
        mounts.sort();
        mounts.dedup();
        mounts
    }
}

/// A group can be made, and a process moved into it, where we may write both the directory and its door.
fn may_create_in(group: &Path) -> bool {
    let writable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    writable(group) && writable(&group.join("cgroup.procs"))
}

/// A line of /proc/self/mountinfo that is a control group hierarchy.
struct CgroupMount<'a> {
    root: &'a str,
    mount: &'a str,
    /// Nothing for version 2.
    controllers: Option<&'a str>,
}

impl<'a> CgroupMount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, mount) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, _source, options) = (after.next()?, after.next()?, after.next()?);
        let controllers = match kind {
            "cgroup2" => None,
            "cgroup" => Some(options.strip_prefix("rw,").unwrap_or(options)),
            _ => return None,
        };
        Some(CgroupMount { root, mount, controllers })
    }

    /// Where the group `own` is seen below this mount, which may show only a part of the hierarchy.
    fn place(&self, own: &str) -> Option<Place> {
        let below = Path::new(own).strip_prefix(self.root).ok()?;
        let mount = PathBuf::from(self.mount);
        let own = if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) };
        Some(Place { mount, own })
    }
}

/// The path of our group in the hierarchy of a controller (or of version 2), from /proc/self/cgroup.
fn own_group<'a>(memberships: &'a str, controller: Option<&str>) -> Option<&'a str> {
    memberships.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let matches = match controller {
            None => controllers.is_empty(),
            Some(controller) => controllers.split(',').any(|name| name == controller),
        };
        matches.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(mount: &str, own: &str) -> Place {
        Place { mount: mount.into(), own: own.into() }
    }

    #[test]
    fn version_2_alone() {
        let found = Hierarchies::parse(
            "25 20 0:22 / /proc rw,nosuid - proc proc rw\n\
             30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/grid.scope\n",
        );
        let own = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/grid.scope";
        assert_eq!(found.v2, Some(place("/sys/fs/cgroup", own)));
        assert!(found.v1.is_empty());
    }

    #[test]
    fn both_versions_side_by_side() {
        let found = Hierarchies::parse(
            "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
            "5:memory:/a/b\n4:cpu,cpuacct:/\n3:name=systemd:/x\n0::/\n",
        );
        assert_eq!(found.v2, Some(place("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified")));
        assert_eq!(found.v1["memory"], place("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/a/b"));
        assert_eq!(found.v1["cpu"], place("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"));
    }

    #[test]
    fn a_mount_that_shows_only_our_part() {
        let found = Hierarchies::parse(
            "30 23 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n",
            "0::/docker/abc/sub\n",
        );
        assert_eq!(found.v2, Some(place("/sys/fs/cgroup", "/sys/fs/cgroup/sub")));
    }

    /// Lays out groups as directories: `handing_on` are those that hand on the memory controller.
    fn check_place(groups: &[&str], handing_on: &[&str], own: &str, expect: &str) {
        let top = tempfile::tempdir().unwrap();
        for group in groups {
            let path = top.path().join(group);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cgroup.procs"), "").unwrap();
            let controllers = if handing_on.contains(group) { "cpu memory pids\n" } else { "\n" };
            fs::write(path.join("cgroup.subtree_control"), controllers).unwrap();
        }
        let place = Place { mount: top.path().to_owned(), own: top.path().join(own) };
        let found = Hierarchies { v2: Some(place), v1: BTreeMap::new() }.place_v2();
        assert_eq!(found, Some(top.path().join(expect)));
    }

    #[test]
    fn a_version_2_group_is_made_where_memory_can_be_limited() {
        let groups = ["user", "user/app", "user/app/grid"];
        check_place(&groups, &["user", "user/app"], "user/app/grid", "user/app");
        check_place(&groups, &["user"], "user/app/grid", "user");
        check_place(&groups, &[], "user/app/grid", "user/app/grid");
        check_place(&groups, &["user/app/grid"], "user/app/grid", "user/app/grid");
    }

    #[test]
    fn a_machine_without_any() {
        assert_eq!(Hierarchies::parse("", "0::/\n"), Hierarchies::default());
    }
}
