//! What the automation knows of the workspace: its crates by `cargo metadata`, its files by `git ls-files`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The workspace as it lies on disk.
#[derive(Debug)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
    pub crates: Vec<Crate>,
    /// Tracked files and new ones that are not ignored, relative to the root, sorted.
    pub files: Vec<String>,
}

/// A crate of ours. All paths are relative to the workspace's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crate {
    pub name: String,
    pub manifest: String,
    /// Root files of its libraries and programs (not of its tests and examples).
    pub roots: Vec<String>,
    pub dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependency {
    pub name: String,
    /// Whether it lies in the workspace.
    pub ours: bool,
    /// Whether only tests use it.
    pub dev: bool,
}

impl Workspace {
    /// Asks cargo and git.
    ///
    /// # Errors
    /// When one of the two fails, or prints what can't be understood.
    pub fn load() -> Result<Self> {
        let printed = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
        let metadata: Value = serde_json::from_str(&printed).context("read what cargo metadata printed")?;
        let root = PathBuf::from(text(&metadata, "workspace_root")?);
        let mut crates = Vec::new();
        for package in list(&metadata, "packages")? {
            crates.push(read_crate(&root, package)?);
        }
        let listed = output(Command::new("git").current_dir(&root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        let mut files: Vec<String> =
            listed.split('\0').filter(|file| root.join(file).is_file()).map(str::to_owned).collect();
        files.sort();
        files.dedup();
        Ok(Workspace { target: text(&metadata, "target_directory")?.into(), root, crates, files })
    }

    /// The text of a file, or nothing when it is not text.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn text(&self, file: &str) -> Result<Option<String>> {
        let bytes = std::fs::read(self.root.join(file)).with_context(|| format!("read {file}"))?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// Whether there is a file or folder at a path relative to the root.
    pub fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

/// The cargo that runs this program, so that a chosen toolchain stays chosen.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Runs a command with its output shown as it comes.
///
/// # Errors
/// When it can't be started or does not succeed.
pub fn step(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", line_of(command)))?;
    ensure!(status.success(), "{} ended with {status}", line_of(command));
    Ok(())
}

/// A command as one would type it, for messages.
pub fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {}", line_of(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", line_of(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what {} printed", line_of(command)))
}

fn read_crate(root: &Path, package: &Value) -> Result<Crate> {
    let mut roots = Vec::new();
    for target in list(package, "targets")? {
        let kinds = list(target, "kind")?;
        if kinds.iter().any(|kind| matches!(kind.as_str(), Some("lib" | "bin" | "proc-macro"))) {
            roots.push(relative(root, text(target, "src_path")?)?);
        }
    }
    let mut dependencies = Vec::new();
    for dependency in list(package, "dependencies")? {
        dependencies.push(Dependency {
            name: text(dependency, "name")?.to_owned(),
            ours: dependency.get("path").is_some_and(Value::is_string),
            dev: dependency.get("kind").and_then(Value::as_str) == Some("dev"),
        });
    }
    Ok(Crate {
        name: text(package, "name")?.to_owned(),
        manifest: relative(root, text(package, "manifest_path")?)?,
        roots,
        dependencies,
    })
}

fn relative(root: &Path, path: &str) -> Result<String> {
    let inside =
        Path::new(path).strip_prefix(root).with_context(|| format!("place {path} in the workspace"))?;
    Ok(inside.to_string_lossy().into_owned())
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value.get(key).and_then(Value::as_str).with_context(|| format!("cargo metadata has no text '{key}'"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value.get(key).and_then(Value::as_array).with_context(|| format!("cargo metadata has no list '{key}'"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crate_is_read_with_its_roots_and_both_kinds_of_dependencies() {
        let package = json!({
            "name": "link",
            "manifest_path": "/grid/crates/link/Cargo.toml",
            "targets": [
                { "kind": ["lib"], "src_path": "/grid/crates/link/src/lib.rs" },
                { "kind": ["test"], "src_path": "/grid/crates/link/tests/replay.rs" },
            ],
            "dependencies": [
                { "name": "model", "path": "/grid/crates/model", "kind": null },
                { "name": "tempfile", "kind": "dev" },
            ],
        });
        let expect = Crate {
            name: "link".into(),
            manifest: "crates/link/Cargo.toml".into(),
            roots: vec!["crates/link/src/lib.rs".into()],
            dependencies: vec![
                Dependency { name: "model".into(), ours: true, dev: false },
                Dependency { name: "tempfile".into(), ours: false, dev: true },
            ],
        };
        assert_eq!(read_crate(Path::new("/grid"), &package).expect("readable"), expect);
    }

    #[test]
    fn what_cargo_does_not_say_is_an_error_that_names_it() {
        let error = read_crate(Path::new("/grid"), &json!({ "name": "link" })).expect_err("no targets");
        assert_eq!(error.to_string(), "cargo metadata has no list 'targets'");
    }
}
