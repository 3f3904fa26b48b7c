//! Sealed files, mounted for whoever measures or tries them: by the example `mount` of the crate `sandbox-fs`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace::{Workspace, cargo, step};

/// The example, built.
#[derive(Clone, Debug)]
pub struct Mounter(PathBuf);

impl Mounter {
    /// Builds it.
    ///
    /// # Errors
    /// When it doesn't build.
    pub fn build(workspace: &Workspace) -> Result<Self> {
        let build =
            ["build", "--quiet", "--release", "--locked", "--package", "sandbox-fs", "--example", "mount"];
        step(cargo().args(build))?;
        Ok(Mounter(workspace.target.join("release/examples/mount")))
    }
}

/// A mount. It is gone when this is.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
    server: Child,
    stdout: ChildStdout,
    stderr: BufReader<ChildStderr>,
    is_mounted: bool,
}

impl Mount {
    /// Mounts the store `store` at `at`, both made if they are not there. `root` is the state that is meant of a store
    /// that was used before; its key is kept beside it, in a file of the name and the ending `key`.
    ///
    /// # Errors
    /// What the server says.
    pub fn start(mounter: &Mounter, store: &Path, at: &Path, root: Option<&str>) -> Result<Self> {
        for directory in [store, at] {
            fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        }
        let key = store.with_extension("key");
        if root.is_none() {
            write_key(&key)?;
        }
        let mut command = Command::new(&mounter.0);
        command.arg(store).arg(at).arg("--counts").arg("--key-file").arg(&key);
        command.args(root.iter().flat_map(|root| ["--root", root]));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = command.spawn().with_context(|| format!("start {}", mounter.0.display()))?;
        let stdout = server.stdout.take().context("stdout is piped")?;
        let mut stderr = BufReader::new(server.stderr.take().context("stderr is piped")?);
        let said = until_mounted(&mut stderr)?;
        let mount = Mount { at: at.to_owned(), server, stdout, stderr, is_mounted: said.is_none() };
        match said {
            None => Ok(mount),
            Some(said) => anyhow::bail!("can't mount at {}: {said}", at.display()),
        }
    }

    /// The process that serves it.
    pub fn server(&self) -> u32 {
        self.server.id()
    }

    /// Unmounts. Returns the root of the checkpoint that the server wrote, and what else it said: how many requests of
    /// each kind there were.
    ///
    /// # Errors
    /// When it is in use, or the server had trouble.
    pub fn end(mut self) -> Result<(String, String)> {
        step(Command::new("umount").arg(&self.at))?;
        self.is_mounted = false;
        let (mut root, mut said) = (String::new(), String::new());
        self.stderr.read_to_string(&mut said).context("read what the server says")?;
        self.stdout.read_to_string(&mut root).context("read the root of the checkpoint")?;
        let status = self.server.wait().context("wait for the server")?;
        ensure!(status.success(), "the server ended with {status}: {}", said.trim());
        Ok((root.trim().to_owned(), said))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted {
            // Whoever still has a file in it can't have the rest of it wait for him.
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        }
        // Ends it also when it never mounted, and with it all that is still waiting for an answer.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Reads what the server says until the mount is there; returns what it says instead.
fn until_mounted(stderr: &mut impl std::io::BufRead) -> Result<Option<String>> {
    let mut said = String::new();
    for line in stderr.lines() {
        let line = line.context("read what the server says")?;
        if line.starts_with("mounted at ") {
            return Ok(None);
        }
        said.push_str(&line);
        said.push('\n');
    }
    Ok(Some(said.trim().to_owned()))
}

/// A random key, 64 hexadecimal digits, for its owner alone.
fn write_key(path: &Path) -> Result<()> {
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes).context("read random bytes")?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(path, digits).with_context(|| format!("write {}", path.display()))
}

/// Why this machine can't mount, if it can't.
pub fn cannot_mount() -> Option<&'static str> {
    let is_root = fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0\t")));
    if !is_root {
        Some("only root may mount")
    } else if !Path::new("/dev/fuse").exists() {
        Some("there is no /dev/fuse")
    } else {
        None
    }
}

/// A directory below `/var/tmp` that all users can reach, as the ones that the suites act as must; removed at the end.
#[derive(Debug)]
pub struct Place(pub PathBuf);

impl Place {
    /// Makes it; `name` tells whose it is.
    ///
    /// # Errors
    /// What the disk says.
    pub fn new(name: &str) -> Result<Self> {
        let path = Path::new("/var/tmp").join(format!("dcgrid-{name}-{}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o755).create(&path);
        made.with_context(|| format!("make {}", path.display()))?;
        Ok(Place(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A temporary directory is the one place where what can't be removed may stay.
        let _ = fs::remove_dir_all(&self.0);
    }
}
