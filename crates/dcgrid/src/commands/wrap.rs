//! `dcgrid wrap`: what a program needs, without submitting anything.

use std::path::Path;

use anyhow::Context as _;
use desktop_controller::tree::{self, TreeError};
use model::{BlobHash, ByteSize};
use protocol::manifest::Entry;
use serde::Serialize;

use crate::args::WrapArgs;
use crate::exit::{Exit, fault};
use crate::output;

#[derive(Serialize)]
struct Wrapped<'a> {
    program: &'a str,
    manifest_hash: BlobHash,
    files: usize,
    bytes: u64,
    /// Programs that may make code while they run, with the engine by which they were known.
    jit: &'a std::collections::BTreeMap<String, String>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<&'a protocol::manifest::Manifest>,
}

pub fn run(args: &WrapArgs, json: bool) -> anyhow::Result<Exit> {
    let request = wrap::Request {
        program: args.program.clone(),
        include: args.include.clone(),
        shell_text: None,
        base_dir: std::env::current_dir().context("can't tell the current directory")?,
        search_path: std::env::var_os("PATH").unwrap_or_default(),
        jit: wrap::Jit::Auto,
        display: if args.gui { wrap::Display::Private } else { wrap::Display::None },
    };
    let wrapped = wrap::wrap(&request)?;
    if let Some(directory) = &args.unpack {
        unpack(&wrapped, directory)?;
    }
    let manifest = &wrapped.manifest;
    let summary = Wrapped {
        program: &manifest.program,
        manifest_hash: BlobHash(*blake3::hash(&manifest.encode()).as_bytes()),
        files: manifest.entries.len(),
        bytes: manifest.blobs().values().sum(),
        jit: &wrapped.report.jit,
        warnings: wrapped.report.warnings.iter().map(ToString::to_string).collect(),
        manifest: args.files.then_some(manifest),
    };
    if json {
        output::json(&summary);
        return Ok(Exit::Success);
    }
    output::line(&format!("{}  {} files, {}", summary.program, summary.files, ByteSize(summary.bytes)));
    output::line(&format!("  manifest  {}", summary.manifest_hash));
    for (path, engine) in summary.jit {
        output::line(&format!("  may make code at run time  {path} ({engine})"));
    }
    if args.files {
        for (path, entry) in &manifest.entries {
            output::line(&match entry {
                Entry::File { size, .. } => format!("  {path}  {}", ByteSize(*size)),
                Entry::Symlink { target } => format!("  {path} -> {target}"),
                Entry::Directory => format!("  {path}/"),
            });
        }
    }
    for warning in &summary.warnings {
        output::note(&format!("warning: {warning}"));
    }
    Ok(Exit::Success)
}

fn unpack(wrapped: &wrap::Wrapped, directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        let message = format!("'{}' is there already", directory.display());
        return Err(fault(Exit::Usage, message, "name a directory that does not exist"));
    }
    lay_out(wrapped, directory)
}

/// Lays an application out as a client does, from the files that were wrapped.
///
/// # Errors
/// A file that was changed since, or a disk that fails.
pub fn lay_out(wrapped: &wrap::Wrapped, root: &Path) -> anyhow::Result<()> {
    let copy =
        |hash: &BlobHash, target: &Path| wrapped.sources[hash].copy_to(target).map(|found| found == *hash);
    match tree::lay_out(&wrapped.manifest, root, copy) {
        Err(TreeError::Differs { path }) => {
            let message = format!("the source of '{path}' changed while it was read");
            Err(fault(Exit::Usage, message, "try again when nothing writes to it"))
        }
        laid_out => Ok(laid_out?),
    }
}
