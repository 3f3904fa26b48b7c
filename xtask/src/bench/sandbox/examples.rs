//! What the sandbox's own examples measure: pausing a busy tree of processes, what bombs leave of the desktop, and
//! brokered connections.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::workspace::{Workspace, cargo, line_of, step};

/// An example of the crate `sandbox`, called with init, a tree, and the path of a static program in it.
#[derive(Debug)]
struct Example {
    name: &'static str,
    /// Below `crates/sandbox/tests/suite`: the program.
    sources: &'static [&'static str],
    /// Rounds for each of ours.
    rounds: usize,
}

const EXAMPLES: &[Example] = &[
    Example { name: "pause", sources: &["hostile.c", "files.c"], rounds: 10 },
    Example { name: "disturbance", sources: &["hostile.c", "files.c"], rounds: 2 },
    Example { name: "network", sources: &["network.c"], rounds: 1 },
];

/// Runs them one after the other; by name, the lines that each printed.
///
/// # Errors
/// One that can't be built or fails.
pub(super) fn run(workspace: &Workspace, scratch: &Path, rounds: usize) -> Result<Value> {
    let mut found = serde_json::Map::new();
    for example in EXAMPLES.iter().filter(|example| workspace.exists(&example.path())) {
        found.insert(example.name.to_owned(), example.run(workspace, scratch, rounds)?);
    }
    Ok(Value::Object(found))
}

impl Example {
    fn path(&self) -> String {
        format!("crates/sandbox/examples/{}.rs", self.name)
    }

    fn run(&self, workspace: &Workspace, scratch: &Path, rounds: usize) -> Result<Value> {
        let build = ["build", "--quiet", "--release", "--locked", "--package", "sandbox"];
        step(cargo().args(build).args(["--bin", "sandbox-init", "--example", self.name]))?;
        let tree = scratch.join(self.name);
        fs::create_dir_all(&tree).with_context(|| format!("make {}", tree.display()))?;
        let suite = workspace.root.join("crates/sandbox/tests/suite");
        let sources = self.sources.iter().map(|source| suite.join(source));
        step(
            Command::new("cc").args(["-w", "-static", "-pthread", "-o"]).arg(tree.join("act")).args(sources),
        )?;
        let release = workspace.target.join("release");
        let mut command = Command::new(release.join("examples").join(self.name));
        command
            .arg(release.join("sandbox-init"))
            .arg(&tree)
            .arg("/act")
            .arg((rounds * self.rounds).to_string());
        let output = command.output().with_context(|| format!("start {}", line_of(&command)))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} ended with {}: {said}", line_of(&command), output.status);
        let lines = String::from_utf8_lossy(&output.stdout);
        Ok(json!(lines.lines().collect::<Vec<_>>()))
    }
}
