//! Files in memory for the tests of this module.

use std::collections::BTreeMap;
use std::io::Cursor;

use model::BlobHash;
use model::plan::Content;

use super::files::{SpecFiles, glob_matches};
use crate::split::{SplitFormat, SplitIndex, SplitRule, index};

#[derive(Clone, Debug, Default)]
pub struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    pub fn with(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(path.to_owned(), bytes.into());
        self
    }

    fn get(&self, path: &str) -> Result<&[u8], String> {
        self.0.get(path).map(Vec::as_slice).ok_or_else(|| "no such file".to_owned())
    }
}

impl SpecFiles for Files {
    fn glob(&mut self, pattern: &str) -> Result<Vec<String>, String> {
        glob_matches(pattern, self.0.keys().map(String::as_str))
    }

    fn read(&mut self, path: &str, limit: usize) -> Result<Vec<u8>, String> {
        let bytes = self.get(path)?;
        if bytes.len() > limit { Err(format!("longer than {limit} bytes")) } else { Ok(bytes.to_vec()) }
    }

    fn content(&mut self, path: &str) -> Result<Content, String> {
        let bytes = self.get(path)?;
        Ok(Content { hash: BlobHash(*blake3::hash(bytes).as_bytes()), size: bytes.len() as u64 })
    }

    fn split(&mut self, path: &str, format: SplitFormat, rule: SplitRule) -> Result<SplitIndex, String> {
        index(Cursor::new(self.get(path)?), format, rule).map_err(|error| error.to_string())
    }
}
