//! The file that holds a checkpoint.
//!
//! ```text
//! bytes 0..8    "DCGSTORE"
//!       8       format, 1
//!       9       suite
//!       10..16  zeros
//!       16..32  salt of the session that sealed it
//!       32..40  version of the sealing, little endian
//!       40..56  tag; bytes 0..40 are its associated data
//!       56..    sealed: a Head in postcard, then the caller's bytes
//! ```
//! The root is the SHA-256 of the whole file: it names one checkpoint, whoever knows the key.

use std::fmt;
use std::io::{self, Read};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::block::{SessionNumber, Version};
use super::error::{StoreError, io_error};
use super::slots::Generation;
use crate::seal::{Broken, SALT, SealKey, StoreKey, Suite, TAG, Tag};

const MAGIC: &[u8; 8] = b"DCGSTORE";
const FORMAT: u8 = 1;

/// Bytes of the longest state that a checkpoint seals: references to 256 GiB of blocks.
pub const MAX_STATE: usize = 2 << 30;

/// Bytes of the longest file that is read: it may have been made long in order to keep us busy.
const MAX_FILE: u64 = MAX_STATE as u64 + (16 << 20);

/// Bytes before the tag.
const PREFIX: usize = 40;
const HEADER: usize = PREFIX + TAG;

/// Names one checkpoint of one store. Keep it where whoever has the disk can't write; it is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root([u8; 32]);

impl Root {
    pub fn from_bytes(bytes: [u8; 32]) -> Root {
        Root(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// What the store itself must know again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Slots there are.
    pub(super) slots: u64,
    pub(super) generation: Generation,
    /// Those that sealed blocks which are still there, with their salts.
    pub(super) sessions: Vec<(SessionNumber, [u8; SALT])>,
}

/// The bytes of the file, and its root.
pub(super) fn encode(
    suite: Suite,
    salt: &[u8; SALT],
    version: Version,
    key: &SealKey,
    head: &Head,
    state: &[u8],
) -> Result<(Vec<u8>, Root), StoreError> {
    if state.len() > MAX_STATE {
        return Err(StoreError::TooLong { bytes: state.len() });
    }
    let mut file = Vec::with_capacity(HEADER + 64 + 24 * head.sessions.len() + state.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[FORMAT, suite.code(), 0, 0, 0, 0, 0, 0]);
    file.extend_from_slice(salt);
    file.extend_from_slice(&version.nonce().to_le_bytes());
    file.extend_from_slice(&[0; TAG]);
    file = postcard::to_extend(head, file).expect("plain numbers have an encoding");
    file.extend_from_slice(state);
    let (header, text) = file.split_at_mut(HEADER);
    let (prefix, tag) = header.split_at_mut(PREFIX);
    tag.copy_from_slice(&key.seal(version.nonce(), prefix, text));
    let root = root_of(&mut &file[..]).expect("memory can be read").0;
    Ok((file, root))
}

/// What was encoded, and the suite.
pub(super) fn decode(mut file: Vec<u8>, key: &StoreKey) -> Result<(Suite, Head, Vec<u8>), StoreError> {
    let Some((header, text)) = file.split_at_mut_checked(HEADER) else {
        return Err(StoreError::Senseless { what: "it is too short" });
    };
    let (prefix, tag) = header.split_at(PREFIX);
    let (format, code) = (prefix[8], prefix[9]);
    let suite = Suite::of_code(code).filter(|_| format == FORMAT && prefix[..8] == *MAGIC);
    let suite = suite.ok_or(StoreError::UnknownFormat { format, suite: code })?;
    let salt: &[u8; SALT] = prefix[16..32].try_into().expect("the salt has 16 bytes");
    let nonce = u64::from_le_bytes(prefix[32..40].try_into().expect("the version has 8 bytes"));
    let tag: &Tag = tag.try_into().expect("the tag has 16 bytes");
    let opened = key.session(suite, salt).of_state().open(nonce, prefix, tag, text);
    opened.map_err(|Broken| StoreError::WrongKey)?;
    let senseless = |_| StoreError::Senseless { what: "its head has no meaning" };
    let (head, state): (Head, &[u8]) = postcard::take_from_bytes(text).map_err(senseless)?;
    let start = HEADER + text.len() - state.len();
    let state = file.split_off(start);
    Ok((suite, head, state))
}

/// The root of a file, and its length in bytes. Takes no memory, however long it is.
fn root_of(file: &mut dyn Read) -> io::Result<(Root, u64)> {
    let mut hash = Context::new(&SHA256);
    let mut length = 0;
    let mut part = vec![0; 64 << 10];
    loop {
        match file.read(&mut part) {
            Ok(0) => break,
            Ok(count) => {
                hash.update(&part[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let root = hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes");
    Ok((Root(root), length))
}

/// The bytes of the file, if its root is the expected one. `open` opens it at its beginning; it is read twice, so that
/// what isn't the expected one takes no memory.
pub(super) fn read_expected<'a>(
    expected: &Root,
    open: impl Fn() -> io::Result<Option<Box<dyn Read + 'a>>>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = || io_error("read a checkpoint");
    let Some(file) = open().map_err(failed())? else { return Ok(None) };
    let (root, length) = root_of(&mut file.take(MAX_FILE)).map_err(failed())?;
    if root != *expected {
        return Ok(None);
    }
    let Some(file) = open().map_err(failed())? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(failed())?;
    // It may have changed in between.
    let (root, _) = root_of(&mut &bytes[..]).map_err(failed())?;
    Ok((root == *expected).then_some(bytes))
}
