//! The ciphers a store can be sealed with.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce};

use crate::sys::Wiped;

/// How the blocks and the checkpoints of a store are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// For every processor that has instructions for AES.
    Aes256Gcm,
    /// For the others: it needs none, and takes constant time in plain code.
    ChaCha20Poly1305,
}

/// Its byte in the file that holds a checkpoint.
const CODES: &[(Suite, u8)] = &[(Suite::Aes256Gcm, 1), (Suite::ChaCha20Poly1305, 2)];

impl Suite {
    /// The fastest one on this processor.
    pub fn best() -> Suite {
        let has_aes = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
        if has_aes { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 }
    }

    pub(crate) fn code(self) -> u8 {
        let code = CODES.iter().find(|(suite, _)| *suite == self);
        code.expect("each suite is in the table").1
    }

    pub(crate) fn of_code(code: u8) -> Option<Suite> {
        CODES.iter().find(|(_, other)| *other == code).map(|(suite, _)| *suite)
    }

    pub(crate) fn algorithm(self) -> &'static Algorithm {
        match self {
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

/// Bytes of a [`Tag`].
pub(crate) const TAG: usize = 16;

/// What must be kept to open a sealed text again, and to know that it is the one.
pub(crate) type Tag = [u8; TAG];

/// What was to be opened is not what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// A key that is ready for use.
pub(crate) struct SealKey(Wiped<LessSafeKey>);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

impl SealKey {
    pub(crate) fn new(key: LessSafeKey) -> SealKey {
        SealKey(Wiped::new(key))
    }

    /// Seals `text` where it is. The caller never uses a `nonce` twice with one key.
    pub(crate) fn seal(&self, nonce: u64, context: &[u8], text: &mut [u8]) -> Tag {
        let tag = self.0.seal_in_place_separate_tag(wide(nonce), Aad::from(context), text);
        let tag = tag.expect("a text of less than 64 GiB can be sealed");
        tag.as_ref().try_into().expect("the tags of all suites have 16 bytes")
    }

    /// Opens `text` where it is, or leaves nothing of use in it.
    pub(crate) fn open(&self, nonce: u64, context: &[u8], tag: &Tag, text: &mut [u8]) -> Result<(), Broken> {
        match self.0.open_in_place_separate_tag(wide(nonce), Aad::from(context), (*tag).into(), text, 0..) {
            Ok(_) => Ok(()),
            Err(ring::error::Unspecified) => Err(Broken),
        }
    }
}

fn wide(nonce: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::aead::UnboundKey;

    fn key(suite: Suite, byte: u8) -> SealKey {
        SealKey::new(LessSafeKey::new(UnboundKey::new(suite.algorithm(), &[byte; 32]).unwrap()))
    }

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        for &(suite, code) in CODES {
            assert_eq!(Suite::of_code(code), Some(suite));
            let text = [5u8; 4096];
            let mut sealed = text;
            let tag = key(suite, 1).seal(9, b"here", &mut sealed);
            assert_ne!(sealed[..64], text[..64]);

            let open = |byte, nonce, context: &[u8], tag: &Tag| {
                let mut text = sealed;
                key(suite, byte).open(nonce, context, tag, &mut text).map(|()| text)
            };
            assert_eq!(open(1, 9, b"here", &tag), Ok(text));
            let mut other = tag;
            other[15] ^= 1;
            assert_eq!(open(2, 9, b"here", &tag), Err(Broken));
            assert_eq!(open(1, 8, b"here", &tag), Err(Broken));
            assert_eq!(open(1, 9, b"there", &tag), Err(Broken));
            assert_eq!(open(1, 9, b"here", &other), Err(Broken));
        }
    }

    #[test]
    fn what_does_not_open_is_not_left_in_plain() {
        let mut text = [5u8; 4096];
        let tag = key(Suite::Aes256Gcm, 1).seal(9, b"", &mut text);
        text[4000] ^= 1;
        key(Suite::Aes256Gcm, 1).open(9, b"", &tag, &mut text).unwrap_err();
        assert!(!text.windows(16).any(|part| part == [5; 16]));
    }

    #[test]
    fn unknown_codes_are_no_suite() {
        for code in [0, 3, 255] {
            assert_eq!(Suite::of_code(code), None);
        }
    }
}
