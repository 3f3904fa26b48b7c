//! What the unit tests build their worlds of: a temporary directory as a host's root, and small ELF files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use crate::host::Host;

/// A made-up machine that vanishes with its value.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub fn new() -> Self {
        Tree(tempfile::tempdir().unwrap())
    }

    pub fn host(&self) -> Host {
        Host::new(self.0.path())
    }

    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(path), content).unwrap();
    }

    pub fn program(&self, path: &str, content: impl AsRef<[u8]>) {
        self.file(path, content);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn link(&self, path: &str, target: &str) {
        symlink(target, self.path(path)).unwrap();
    }

    /// Where `path` is for this process; its parent directories exist afterwards.
    pub fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

/// Numbers that are the same in every run (xorshift).
pub(crate) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Random(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

/// An ELF file with nothing but what the loader looks at first.
#[derive(Clone, Copy, Default)]
pub(crate) struct TestElf<'a> {
    pub interpreter: Option<&'a str>,
    pub needed: &'a [&'a str],
    pub soname: Option<&'a str>,
    pub rpath: Option<&'a str>,
    pub runpath: Option<&'a str>,
    pub executable_stack: bool,
}

impl TestElf<'_> {
    /// Header, four program headers, dynamic section, strings; loaded at address 0x10000.
    pub fn bytes(self) -> Vec<u8> {
        const BASE: u64 = 0x10000;
        let mut strings = vec![0];
        let mut add = |text: &str| {
            let at = strings.len() as u64;
            strings.extend(text.as_bytes());
            strings.push(0);
            at
        };
        let mut dynamic: Vec<(u64, u64)> = self.needed.iter().map(|name| (1, add(name))).collect();
        for (tag, text) in [(14, self.soname), (15, self.rpath), (29, self.runpath)] {
            dynamic.extend(text.map(|text| (tag, add(text))));
        }
        let interpreter = self.interpreter.map(&mut add);
        let headers = 64 + 4 * 56;
        let strings_at = headers + 16 * (dynamic.len() as u64 + 3);
        dynamic.extend([(5, BASE + strings_at), (10, strings.len() as u64), (0, 0)]);
        let end = strings_at + strings.len() as u64;

        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0".to_vec();
        for word in [BASE, 64, 0] {
            file.extend(u64::to_le_bytes(word));
        }
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 4, 0, 64, 0, 0, 0, 0, 0]);
        let mut segment = |kind: u32, flags: u32, offset: u64, size: u64| {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for word in [offset, BASE + offset, BASE + offset, size, size, 8] {
                file.extend(u64::to_le_bytes(word));
            }
        };
        segment(1, 5, 0, end);
        segment(2, 6, headers, strings_at - headers);
        match (interpreter, self.interpreter) {
            (Some(at), Some(text)) => segment(3, 4, strings_at + at, text.len() as u64 + 1),
            _ => segment(4, 4, 0, 0),
        }
        segment(0x6474_e551, if self.executable_stack { 7 } else { 6 }, 0, 0);
        for (tag, value) in dynamic {
            file.extend(tag.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        file.extend(strings);
        file
    }
}
