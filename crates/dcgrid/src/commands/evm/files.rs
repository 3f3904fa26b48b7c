//! Copies files into and out of /work. A program leaves anything there, so nothing is followed: each step goes by
//! descriptor from the directory that was opened before.

use std::ffi::CStr;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, renameat,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

/// Deepest directory that is entered.
pub(super) const MAX_DEPTH: u32 = 64;

/// Name under which a file is written before it takes its own.
const FRESH: &CStr = c".dcgrid-evm.new";

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Not blocking: a fifo without a writer would hold us up for ever.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// What becomes of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Made again as they are.
    Copied,
    /// Left behind: a program chose where they lead.
    Left,
}

/// Opens a directory by the name that a person gave.
pub fn open_directory(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .with_context(|| format!("can't open the directory '{}'", path.display()))
}

/// Where an input lies below /work: where it lies below here, or under its own name.
pub fn place_of(input: &Path) -> Option<PathBuf> {
    let is_below = input.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let plain = || input.components().filter(|part| *part != Component::CurDir).collect();
    if is_below { Some(plain()) } else { input.file_name().map(PathBuf::from) }
}

/// Copies one file to a path below a directory, with the directories above it.
pub fn copy_in(from: &Path, directory: &OwnedFd, to: &Path) -> anyhow::Result<()> {
    let context = || format!("can't copy '{}' to /work", from.display());
    let file = File::open(from).with_context(context)?;
    anyhow::ensure!(
        file.metadata().with_context(context)?.is_file(),
        "'{}' is not a regular file; --workdir takes directories",
        from.display()
    );
    let (parent, name) =
        (to.parent().unwrap_or(Path::new("")), to.file_name().context("an input has a name")?);
    let parent = make_below(directory, parent).with_context(context)?;
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name)).with_context(context)?;
    write_changed(&Plain::new(file).with_context(context)?, &parent, &name).with_context(context)
}

/// Copies a file that the program wrote to a path of ours.
///
/// # Errors
/// It is not there, or nothing that can be taken.
pub fn copy_out(directory: &OwnedFd, path: &str) -> anyhow::Result<()> {
    let shown = path.escape_debug();
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = match openat2(directory, path, FILE, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => anyhow::bail!("the program did not write '{shown}'"),
        Err(Errno::LOOP) => anyhow::bail!("'{shown}' is or goes through a symbolic link"),
        Err(Errno::XDEV) => anyhow::bail!("'{shown}' leads out of /work"),
        Err(error) => return Err(error).with_context(|| format!("can't take '{shown}' out of /work")),
    };
    let metadata = file.metadata().with_context(|| format!("can't look at '{shown}'"))?;
    anyhow::ensure!(metadata.is_file(), "'{shown}' is not a regular file");
    let target = Path::new(path);
    let parent = target.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let context = || format!("can't write '{shown}'");
    std::fs::create_dir_all(parent).with_context(context)?;
    let name = target.file_name().context("an output has a name")?;
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name)).with_context(context)?;
    write_changed(&Plain::new(file).with_context(context)?, &open_directory(parent)?, &name)
        .with_context(context)
}

/// Copies all that is in a directory into another, leaving alone what is the same already. Returns how many entries
/// were left behind because they are no files, or links that are to be left.
pub fn copy_all(from: &OwnedFd, to: &OwnedFd, links: Links) -> anyhow::Result<u64> {
    copy_level(from, to, links, 0).context("can't copy /work")
}

fn copy_level(from: &OwnedFd, to: &OwnedFd, links: Links, depth: u32) -> io::Result<u64> {
    if depth > MAX_DEPTH {
        return Ok(1);
    }
    let mut left = 0;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = openat(from, name, DIRECTORY, Mode::empty())?;
                left += copy_level(&below, &make_directory(to, name)?, links, depth + 1)?;
            }
            FileType::RegularFile => {
                let file = File::from(openat(from, name, FILE, Mode::empty())?);
                write_changed(&Plain::new(file)?, to, name)?;
            }
            FileType::Symlink if links == Links::Copied => {
                symlinkat(readlinkat(from, name, Vec::new())?.as_c_str(), to, name)?;
            }
            _ => left += 1,
        }
    }
    Ok(left)
}

/// Opens a path below a directory, making what is not there; nothing on the way may be a link.
fn make_below(directory: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut here = openat(directory, c".", DIRECTORY, Mode::empty())?;
    for part in path.components() {
        let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(part.as_os_str()))?;
        here = make_directory(&here, &name)?;
    }
    Ok(here)
}

pub(super) fn make_directory(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => Ok(openat(parent, name, DIRECTORY, Mode::empty())?),
        Err(error) => Err(error.into()),
    }
}

/// What is to be in a file.
pub(super) trait Content {
    /// Bytes.
    fn size(&self) -> u64;
    fn is_executable(&self) -> bool;
    /// From its beginning.
    fn open(&self) -> io::Result<impl io::Read>;
}

/// A regular file of ours.
struct Plain {
    file: File,
    metadata: Metadata,
}

impl Plain {
    fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_file() {
            return Ok(Plain { file, metadata });
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

impl Content for Plain {
    fn size(&self) -> u64 {
        self.metadata.len()
    }

    fn is_executable(&self) -> bool {
        std::os::unix::fs::MetadataExt::mode(&self.metadata) & 0o100 != 0
    }

    fn open(&self) -> io::Result<impl io::Read> {
        let mut file = &self.file;
        io::Seek::rewind(&mut file)?;
        Ok(file)
    }
}

/// Writes a file anew unless one with the same bytes is there. It takes the place of what has its name, so that a
/// link there is replaced and never followed.
pub(super) fn write_changed(content: &impl Content, parent: &OwnedFd, name: &CStr) -> io::Result<()> {
    if let Ok(there) = openat(parent, name, FILE, Mode::empty())
        && is_same(content, &File::from(there))?
    {
        return Ok(());
    }
    match unlinkat(parent, FRESH, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mode = Mode::from_raw_mode(if content.is_executable() { 0o777 } else { 0o666 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut fresh = File::from(openat(parent, FRESH, flags, mode)?);
    io::copy(&mut content.open()?, &mut fresh)?;
    Ok(renameat(parent, FRESH, parent, name)?)
}

fn is_same(one: &impl Content, other: &File) -> io::Result<bool> {
    let found = other.metadata()?;
    if !found.is_file() || found.len() != one.size() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one.open()?).bytes(), BufReader::new(other).bytes());
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (one, other) if one != other => return Ok(false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn an_input_lies_where_it_lay_below_here() {
        let check = |input: &str, expect: &str| {
            assert_eq!(place_of(Path::new(input)), Some(expect.into()), "{input}");
        };
        check("a", "a");
        check("./d/a", "d/a");
        check("/etc/hosts", "hosts");
        check("../x/a", "a");
        assert_eq!(place_of(Path::new("..")), None);
    }

    #[test]
    fn nothing_that_a_program_made_leads_out_of_where_it_is_copied() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        for name in ["work/d", "work/same", "ours/outside", "elsewhere"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("elsewhere/kept"), "kept").unwrap();
        // The program turned a link of ours into a directory, and a directory into a link.
        symlink(path("elsewhere"), path("ours/d")).unwrap();
        fs::write(path("work/d/kept"), "overwritten").unwrap();
        let (work, ours) = (open_directory(&path("work")).unwrap(), open_directory(&path("ours")).unwrap());
        assert!(copy_all(&work, &ours, Links::Left).is_err());
        assert_eq!(fs::read_to_string(path("elsewhere/kept")).unwrap(), "kept");
        fs::remove_file(path("ours/d")).unwrap();
        symlink(path("elsewhere"), path("work/link")).unwrap();
        symlink(path("elsewhere/kept"), path("ours/file")).unwrap();
        fs::write(path("work/file"), "new").unwrap();
        rustix::fs::mknodat(CWD, path("work/fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(copy_all(&work, &ours, Links::Left).unwrap(), 2);
        assert_eq!(fs::read_to_string(path("ours/file")).unwrap(), "new");
        assert_eq!(fs::read_to_string(path("elsewhere/kept")).unwrap(), "kept");
        assert!(!path("ours/link").exists() && !path("ours/fifo").exists());
    }

    #[test]
    fn what_is_the_same_is_left_alone_and_no_privilege_is_taken_over() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        for name in ["work", "ours"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("same"), "same").unwrap();
        }
        fs::write(path("work/tool"), "tool").unwrap();
        fs::set_permissions(path("work/tool"), fs::Permissions::from_mode(0o6777)).unwrap();
        let before = fs::metadata(path("ours/same")).unwrap().modified().unwrap();
        let (work, ours) = (open_directory(&path("work")).unwrap(), open_directory(&path("ours")).unwrap());
        copy_all(&work, &ours, Links::Left).unwrap();
        assert_eq!(fs::metadata(path("ours/same")).unwrap().modified().unwrap(), before);
        assert_eq!(fs::metadata(path("ours/tool")).unwrap().permissions().mode() & 0o6000, 0);
    }
}
