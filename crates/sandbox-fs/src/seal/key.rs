//! The key of a store, and those that are made of it.

use std::{fmt, io};

use ring::aead::{LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroize;

use super::{SealKey, Suite};
use crate::operations::Ino;
use crate::sys::{Locked, Wiped};

/// Bytes of a [`StoreKey`].
const KEY: usize = 32;

/// Bytes of a session's salt.
pub(crate) const SALT: usize = 16;

/// What a store is sealed with: 32 secret bytes, which stay in memory that is neither swapped out nor dumped, and are
/// wiped in the end. They are never shown and never written.
pub struct StoreKey(Locked<KEY>);

impl StoreKey {
    /// Takes the key out of `source`, which is zeros afterwards.
    ///
    /// # Errors
    /// The kernel's, if this process may not lock another page of memory.
    pub fn take(source: &mut [u8; KEY]) -> io::Result<StoreKey> {
        let locked = Locked::new().map(|mut locked| {
            locked.bytes_mut().copy_from_slice(source);
            StoreKey(locked)
        });
        source.zeroize();
        locked
    }

    /// A new key, for a store that need not outlive its process.
    ///
    /// # Errors
    /// As [`StoreKey::take`].
    pub fn random() -> io::Result<StoreKey> {
        let mut locked = Locked::new()?;
        fill_random(locked.bytes_mut())?;
        Ok(StoreKey(locked))
    }

    /// What contents are called that are kept under this key: who has not the key can't tell which contents those are.
    pub(crate) fn name_of(&self, hash: &[u8; 32]) -> [u8; 32] {
        let prk = Wiped::new(Salt::new(HKDF_SHA256, b"dcgrid blob name").extract(self.0.bytes()));
        let mut name = [0; 32];
        prk.expand(&[hash], HKDF_SHA256)
            .and_then(|expanded| expanded.fill(&mut name))
            .expect("32 bytes are less than HKDF's limit");
        name
    }

    /// Hands the key to another process of ours, over a socket that nobody else holds.
    pub(crate) fn write_to(&self, socket: &mut impl io::Write) -> io::Result<()> {
        socket.write_all(self.0.bytes())
    }

    /// The key of the session that has this salt.
    pub(crate) fn session(&self, suite: Suite, salt: &[u8; SALT]) -> SessionKey {
        let prk = Salt::new(HKDF_SHA256, salt).extract(self.0.bytes());
        SessionKey { suite, prk: Wiped::new(prk) }
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey")
    }
}

/// A new salt.
pub(crate) fn random_salt() -> io::Result<[u8; SALT]> {
    let mut salt = [0; SALT];
    fill_random(&mut salt)?;
    Ok(salt)
}

fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| io::Error::other("the system gives no random bytes"))
}

/// What the keys of one session are made of: a session is one opening of a store by one process.
pub(crate) struct SessionKey {
    suite: Suite,
    prk: Wiped<Prk>,
}

impl SessionKey {
    /// For the blocks of one file.
    pub(crate) fn of_file(&self, file: Ino) -> SealKey {
        self.expand(&[b"dcgrid file", &[self.suite.code()], &file.to_le_bytes()])
    }

    /// For checkpoints.
    pub(crate) fn of_state(&self) -> SealKey {
        self.expand(&[b"dcgrid state", &[self.suite.code()]])
    }

    /// For the blocks of contents that are written once.
    pub(crate) fn of_blob(&self, hash: &[u8; 32], size: u64) -> SealKey {
        self.expand(&[b"dcgrid blob", &[self.suite.code()], hash, &size.to_le_bytes()])
    }

    fn expand(&self, purpose: &[&[u8]]) -> SealKey {
        let expanded = self.prk.expand(purpose, self.suite.algorithm());
        let key = UnboundKey::from(expanded.expect("32 bytes are less than HKDF's limit"));
        SealKey::new(LessSafeKey::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &SealKey) -> super::super::Tag {
        key.seal(1, b"", &mut [0; 64])
    }

    #[test]
    fn taking_a_key_wipes_where_it_was() {
        let mut source = [9; KEY];
        let key = StoreKey::take(&mut source).unwrap();
        assert_eq!(source, [0; KEY]);
        assert_eq!(key.0.bytes(), &[9; KEY]);
        assert_eq!(format!("{key:?}"), "StoreKey");
    }

    #[test]
    fn each_store_session_suite_file_and_purpose_has_a_key_of_its_own() {
        let mut tags = Vec::new();
        for key in [1, 2] {
            for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
                for salt in [3, 4] {
                    let session = StoreKey::take(&mut [key; KEY]).unwrap().session(suite, &[salt; SALT]);
                    tags.extend([session.of_file(1), session.of_file(2), session.of_state()].iter().map(tag));
                }
            }
        }
        let count = tags.len();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!((tags.len(), count), (24, 24));
    }

    /// The way from key to key is part of the format: a checkpoint of today must open tomorrow. The values are of
    /// another implementation of RFC 5869 and of GCM.
    #[test]
    fn the_keys_are_those_of_the_format() {
        let session = StoreKey::take(&mut [1; KEY]).unwrap().session(Suite::Aes256Gcm, &[2; SALT]);
        let hex = |tag: super::super::Tag| tag.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hex(tag(&session.of_file(7))), "3a6c3fec0483aab75c8f4a713ba6b62e");
        assert_eq!(hex(tag(&session.of_state())), "7a447a0ce17028a846a9ae5dc81d1806");
    }
}
