//! What a job spec names on the submitter's disk: inputs, globs, tables, and text that a shell will read.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use model::BlobHash;
use model::plan::Content;
use protocol::spec::{Spec, SpecFiles, glob_matches};
use protocol::split::{READ_BUFFER, SplitFormat, SplitIndex, SplitRule, index};

/// Most bytes of an input that are looked at as a script.
const MAX_SCRIPT: u64 = 1 << 20;

/// The files that a spec names, on this machine. What was looked at is what must be uploaded.
pub struct LocalFiles {
    base: PathBuf,
    pub found: BTreeMap<String, Content>,
}

impl LocalFiles {
    /// The files below `base`.
    pub fn new(base: &Path) -> Self {
        LocalFiles { base: base.to_owned(), found: BTreeMap::new() }
    }

    fn add(&mut self, path: &str) -> Result<Content, String> {
        if let Some(content) = self.found.get(path) {
            return Ok(*content);
        }
        let full = self.base.join(path);
        let failed = |error: std::io::Error| format!("can't read '{}': {error}", full.display());
        let mut file = std::fs::File::open(&full).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(format!("'{}' is not a regular file", full.display()));
        }
        let mut hasher = blake3::Hasher::new();
        let size = std::io::copy(&mut file, &mut hasher).map_err(failed)?;
        let content = Content { hash: BlobHash(*hasher.finalize().as_bytes()), size };
        self.found.insert(path.to_owned(), content);
        Ok(content)
    }

    /// Files below the directory that a pattern begins with.
    fn candidates(&self, pattern: &str) -> Vec<String> {
        let fixed = pattern.find(['*', '?', '[', '{']).unwrap_or(pattern.len());
        let directory = pattern[..fixed].rfind('/').map_or("", |end| &pattern[..=end]);
        let depth = pattern[directory.len()..].matches('/').count();
        let mut found = Vec::new();
        let deep = pattern.contains("**");
        self.walk(directory, if deep { MAX_DEPTH } else { depth }, &mut found);
        found
    }

    fn walk(&self, directory: &str, depth: usize, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(self.base.join(directory)).into_iter().flatten().flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let path = format!("{directory}{name}");
            match std::fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() && depth > 0 => {
                    self.walk(&format!("{path}/"), depth - 1, found);
                }
                Ok(metadata) if metadata.is_file() => found.push(path),
                _ => {}
            }
        }
    }
}

/// Deepest directory that `**` looks into.
const MAX_DEPTH: usize = 16;

impl SpecFiles for LocalFiles {
    fn glob(&mut self, pattern: &str) -> Result<Vec<String>, String> {
        let candidates = self.candidates(pattern);
        glob_matches(pattern, candidates.iter().map(String::as_str))
    }

    fn read(&mut self, path: &str, limit: usize) -> Result<Vec<u8>, String> {
        let content = self.add(path)?;
        if content.size > limit as u64 {
            return Err(format!("'{path}' has {} bytes, more than {limit}", content.size));
        }
        std::fs::read(self.base.join(path)).map_err(|error| format!("can't read '{path}': {error}"))
    }

    fn content(&mut self, path: &str) -> Result<Content, String> {
        self.add(path)
    }

    fn split(&mut self, path: &str, format: SplitFormat, rule: SplitRule) -> Result<SplitIndex, String> {
        self.add(path)?;
        let full = self.base.join(path);
        let file = std::fs::File::open(&full).map_err(|error| format!("can't read '{path}': {error}"))?;
        index(BufReader::with_capacity(READ_BUFFER, file), format, rule).map_err(|e| format!("'{path}': {e}"))
    }
}

/// All text that a shell will read: what follows `-c`, and the inputs that the command names.
pub fn shell_text(spec: &Spec, base: &Path) -> String {
    let mut texts = Vec::new();
    if let Some(at) = spec.command.iter().position(|word| word == "-c") {
        texts.extend(spec.command.get(at + 1).map(|text| text.replace("{{", "{").replace("}}", "}")));
    }
    for (name, input) in &spec.inputs {
        let is_named = spec.command.iter().any(|word| word.contains(&format!("{{in.{name}}}")));
        if is_named && let Ok(file) = std::fs::File::open(base.join(input.path())) {
            let mut text = Vec::new();
            // A file that can't be read is told of when the inputs are looked at.
            if file.take(MAX_SCRIPT).read_to_end(&mut text).is_ok() {
                texts.extend(String::from_utf8(text));
            }
        }
    }
    texts.join("\n")
}
