//! The application as the subjob sees it: the root directory of the new world.
//!
//! | part | what it is | may |
//! | --- | --- | --- |
//! | `/` | overlay of the mount points and `/etc` files that we add, and the application tree | read |
//! | the user's own directories | overlay of a memory file system and the tree's directory, shown as the subjob's | read, write |
//! | places with registered files ([`Place`]) | a copy of the mount of `/`, at the same place | read, execute |
//!
//! Nothing is ever written into the tree, and no mount tells where on the host it lies: overlays are mounted from
//! relative paths. Where the kernel can't make overlays, the tree's entries are mounted one by one, read-only.
//!
//! While it is built we stand in a bounded memory file system, which holds all that can be written later.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Uid};
use rustix::io::Errno;

use super::mounts::{
    DATA, PROGRAMS, READ_ONLY, attach, attach_to_opened, bind, copy, find_inside, make_directories,
    make_directory, make_file, open_directory, restrict, try_mount_new,
};
use super::places::{ETC_FILES, HOSTS, MOUNT_POINTS, RESERVED, SEEN};
use super::step::{StepError, step, step_at};
use super::user_namespace;
use crate::layout::{Place, is_system};
use crate::message::Setup;
use crate::network::hosts;
use crate::sys;

/// The new root, in the directory that we stand in.
pub(super) const VIEW: &str = "view";

/// What of the root isn't the application's: mount points and files of `/etc`.
const ADDED: &str = "added";

/// Where the application tree is mounted to make overlays of it; nobody will see it.
const TREE: &str = "tree";

/// Directories of the user's own that can be written, each an overlay; more than any program was seen to have.
const MAX_OWN: usize = 16;

/// How the application came into the view.
enum View {
    Overlay,
    /// The kernel can't make overlays: these mounts.
    Binds(Vec<PathBuf>),
}

/// An entry of a directory of the tree.
struct Entry {
    name: OsString,
    kind: FileType,
}

/// Mounts the view. Returns the user's own directories in it, which the subjob can write.
pub(super) fn mount(setup: &Setup, tree: &OwnedFd) -> Result<Vec<PathBuf>, StepError> {
    let entries = list(tree, Path::new("/"))?;
    add_mount_points()?;
    add_etc(setup, tree)?;
    make_directory(VIEW, 0o755)?;
    let view = match mount_overlay(tree)? {
        true => View::Overlay,
        false => View::Binds(mount_binds(tree, &entries)?),
    };
    let opened = step_at("open", "/", open_directory(rustix::fs::CWD, OsStr::new(VIEW)))?;
    // Copied before the view loses its right to execute.
    let programs = copy_programs(&opened, &setup.places)?;
    let own = match &view {
        View::Overlay => {
            restrict(VIEW, DATA | READ_ONLY)?;
            mount_own_directories(setup, tree, &entries)?
        }
        View::Binds(mounts) => {
            mounts.iter().try_for_each(|mount| restrict(mount, DATA | READ_ONLY))?;
            Vec::new()
        }
    };
    programs.iter().try_for_each(|program| attach_program(&opened, program))?;
    Ok(own)
}

fn add_mount_points() -> Result<(), StepError> {
    make_directory(ADDED, 0o755)?;
    let seen = SEEN.iter().map(|seen| seen.path).filter(|path| Path::new("/").join(path).is_dir());
    MOUNT_POINTS
        .iter()
        .copied()
        .chain(seen)
        .try_for_each(|path| make_directories(Path::new(ADDED).join(path)))
}

/// The files that libraries need and the tree lacks. The names of endpoints mean something in this subjob only, so
/// no tree has them.
fn add_etc(setup: &Setup, tree: &OwnedFd) -> Result<(), StepError> {
    let theirs = match open_directory(tree, OsStr::new("etc")) {
        Ok(etc) => list(&etc, Path::new("/etc"))?,
        // Not there, or not a directory: ours then lies over it.
        Err(_) => Vec::new(),
    };
    let names = setup.network.as_ref().map_or_else(String::new, |network| hosts(&network.routes));
    let lacks = |name: &str| theirs.iter().all(|entry| entry.name != name);
    for (name, text) in ETC_FILES {
        let more = if *name == HOSTS { names.as_str() } else { "" };
        if lacks(name) || !more.is_empty() {
            let path = Path::new(ADDED).join("etc").join(name);
            make_directories(Path::new(ADDED).join("etc"))?;
            step_at("write", &path, fs::write(&path, format!("{text}{more}")))?;
        }
    }
    Ok(())
}

fn list(directory: &OwnedFd, path: &Path) -> Result<Vec<Entry>, StepError> {
    let mut entries = Vec::new();
    for entry in step_at("list the application's", path, Dir::read_from(directory))? {
        let entry = step_at("list the application's", path, entry)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let stat = step_at(
            "look at the application's",
            path.join(name),
            rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW),
        )?;
        entries.push(Entry { name: name.to_owned(), kind: FileType::from_raw_mode(stat.st_mode) });
    }
    Ok(entries)
}

/// False when this kernel can't, or not for us, or not on this file system.
fn mount_overlay(tree: &OwnedFd) -> Result<bool, StepError> {
    make_directory(TREE, 0o700)?;
    bind(tree, OsStr::new(""), TREE, PROGRAMS)?;
    // What we add lies over the tree, so that no link of the tree can stand in the place of a mount point.
    let options = format!("lowerdir={ADDED}:{TREE}");
    is_mounted(try_mount_new("overlay", Path::new(VIEW), PROGRAMS, &options), Path::new("/"))
}

/// Tells apart what can't be had here from what went wrong.
fn is_mounted(result: Result<(), Errno>, path: &Path) -> Result<bool, StepError> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::NODEV | Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => step_at("mount", path, Err(e)),
    }
}

/// Without overlays: each entry of the tree at its place, and where we add something, each entry of the
/// directory.
fn mount_binds(tree: &OwnedFd, entries: &[Entry]) -> Result<Vec<PathBuf>, StepError> {
    bind(rustix::fs::CWD, OsStr::new(ADDED), VIEW, DATA)?;
    let mut mounts = Vec::new();
    for Entry { name, kind } in entries {
        let to = Path::new(VIEW).join(name);
        if !to.exists() {
            mount_entry(tree, name, *kind, to, &mut mounts)?;
        } else if !is_reserved(name) && *kind == FileType::Directory {
            let directory = step_at("open", &to, open_directory(tree, name))?;
            for Entry { name, kind } in list(&directory, &to)? {
                let to = to.join(&name);
                if !to.exists() {
                    mount_entry(&directory, &name, kind, to, &mut mounts)?;
                }
            }
        }
    }
    restrict(VIEW, READ_ONLY)?;
    Ok(mounts)
}

/// Devices, sockets and the like are left out: an application has none.
fn mount_entry(
    from: &OwnedFd,
    name: &OsStr,
    kind: FileType,
    to: PathBuf,
    mounts: &mut Vec<PathBuf>,
) -> Result<(), StepError> {
    match kind {
        FileType::Directory => make_directory(&to, 0o755)?,
        FileType::RegularFile => make_file(&to)?,
        FileType::Symlink => {
            let target = step_at("read the link", &to, rustix::fs::readlinkat(from, name, Vec::new()))?;
            return step_at("link", &to, symlink(OsStr::from_bytes(target.to_bytes()), &to));
        }
        _ => return Ok(()),
    }
    bind(from, name, &to, PROGRAMS)?;
    mounts.push(to);
    Ok(())
}

fn is_reserved(name: &OsStr) -> bool {
    RESERVED.iter().any(|reserved| name == *reserved)
}

/// An executable copy of the mount of each place. One that isn't there can't be executed, which its user will be
/// told by the kernel; one that links lead to the root directory would make all executable.
fn copy_programs<'a>(view: &OwnedFd, places: &'a [Place]) -> Result<Vec<(&'a Path, OwnedFd)>, StepError> {
    let root = step_at("look at", "/", rustix::fs::fstat(view))?;
    let mut copies = Vec::new();
    for place in places {
        let Some(found) = find_inside(view, place.path())? else { continue };
        let stat = step_at("look at", place.path(), rustix::fs::fstat(&found))?;
        let is_fit = match (place, FileType::from_raw_mode(stat.st_mode)) {
            (Place::Directory(_), FileType::Directory) => {
                (stat.st_dev, stat.st_ino) != (root.st_dev, root.st_ino)
            }
            (Place::File(_), kind) => kind == FileType::RegularFile,
            _ => false,
        };
        if is_fit {
            copies.push((place.path(), copy(&found, OsStr::new(""), PROGRAMS)?));
        }
    }
    Ok(copies)
}

fn attach_program(view: &OwnedFd, (path, copy): &(&Path, OwnedFd)) -> Result<(), StepError> {
    match find_inside(view, path)? {
        Some(place) => attach_to_opened(copy, &place, path),
        None => Ok(()),
    }
}

/// Those that can't be shown as the subjob's stay as they are in the view: read-only.
fn mount_own_directories(
    setup: &Setup,
    tree: &OwnedFd,
    entries: &[Entry],
) -> Result<Vec<PathBuf>, StepError> {
    let own = entries.iter().filter(|entry| entry.kind == FileType::Directory);
    let own = own.map(|entry| &entry.name).filter(|name| !is_system(name) && !is_reserved(name));
    let own: Vec<_> = own.take(MAX_OWN).collect();
    let owner = match setup.identity.slot() {
        Some(id) if !own.is_empty() => {
            let stat = step_at("look at", &setup.root, rustix::fs::fstat(tree))?;
            let made = user_namespace::mapping((stat.st_uid, id), (stat.st_gid, id));
            Some(step("make a user namespace for the application's files", made)?)
        }
        _ => None,
    };
    let mut writable = Vec::new();
    for (number, name) in own.into_iter().enumerate() {
        if mount_own_directory(setup, tree, name, number, owner.as_ref())? {
            writable.push(Path::new("/").join(name));
        }
    }
    Ok(writable)
}

fn mount_own_directory(
    setup: &Setup,
    tree: &OwnedFd,
    name: &OsStr,
    number: usize,
    owner: Option<&OwnedFd>,
) -> Result<bool, StepError> {
    let lower = copy(tree, name, PROGRAMS)?;
    if let Some(owner) = owner
        && let Err(e) = sys::map_mount_ids(&lower, owner)
    {
        return match e.raw_os_error() {
            Some(libc::EINVAL | libc::EPERM) => Ok(false),
            _ => step_at("show as the subjob's", Path::new("/").join(name), Err(e)),
        };
    }
    // Short names of ours alone: in options a comma or colon would mean something.
    let at = |part| format!("own{number}.{part}");
    let [lower_at, upper, work] = ["lower", "upper", "work"].map(at);
    for directory in [&lower_at, &work] {
        make_directory(directory, 0o700)?;
    }
    attach(&lower, &lower_at)?;
    make_directory(&upper, mode(&lower)?)?;
    give_to_subjob(setup, &upper)?;
    // An ordinary user may set no other attributes than its own.
    let attributes = if owner.is_some() { "" } else { ",userxattr" };
    let options = format!("lowerdir={lower_at},upperdir={upper},workdir={work}{attributes}");
    let to = Path::new(VIEW).join(name);
    is_mounted(try_mount_new("overlay", &to, DATA, &options), &to)
}

fn mode(directory: &OwnedFd) -> Result<u32, StepError> {
    let opened = open_directory(directory, OsStr::new("."));
    let stat = opened.and_then(|opened| rustix::fs::fstat(opened).map_err(Into::into));
    Ok(step("look at a directory of the application", stat)?.st_mode & 0o777)
}

/// Makes the subjob the owner of something that we made. As an ordinary user it is that already.
pub(super) fn give_to_subjob(setup: &Setup, path: impl AsRef<Path>) -> Result<(), StepError> {
    let Some(id) = setup.identity.slot() else {
        return Ok(());
    };
    let given = rustix::fs::chown(path.as_ref(), Some(Uid::from_raw(id)), Some(Gid::from_raw(id)));
    step_at("give to the subjob", path, given)
}
