//! How the bytes of a record or a frame rest on the disk: as zstd where that saves room, as they are where not.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

/// The fastest level: at 4 KiB the next ones cost half as much again for a few percent less.
const LEVEL: i32 = 1;

/// Shorter contents hold less to save than zstd's own header takes.
const WORTHWHILE: usize = 64;

thread_local! {
    // A context is 100 times as expensive to make as a 4 KiB record is to compress.
    static COMPRESSOR: RefCell<Compressor<'static>> =
        RefCell::new(Compressor::new(LEVEL).expect("the level is one of zstd's, and it only allocates"));
    static DECOMPRESSOR: RefCell<Decompressor<'static>> =
        RefCell::new(Decompressor::new().expect("making a decompressor only allocates"));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Zstd,
}

/// Appends `content` to `out`, compressed if that saves at least a sixteenth.
pub(super) fn encode(content: &[u8], out: &mut Vec<u8>) -> Encoding {
    let start = out.len();
    if content.len() >= WORTHWHILE {
        // The room given is the most that is worthwhile; zstd fails when it doesn't suffice.
        out.resize(start + content.len() - content.len() / 16, 0);
        let packed = COMPRESSOR.with_borrow_mut(|zstd| zstd.compress_to_buffer(content, &mut out[start..]));
        if let Ok(len) = packed {
            out.truncate(start + len);
            return Encoding::Zstd;
        }
        out.truncate(start);
    }
    out.extend_from_slice(content);
    Encoding::Raw
}

/// The `content_len` bytes that `stored` stands for, or `None` if it stands for anything else.
pub(super) fn decode(encoding: Encoding, stored: &[u8], content_len: usize) -> Option<Vec<u8>> {
    if encoding == Encoding::Raw {
        return (stored.len() == content_len).then(|| stored.to_vec());
    }
    let mut content = vec![0; content_len];
    let len =
        DECOMPRESSOR.with_borrow_mut(|zstd| zstd.decompress_to_buffer(stored, &mut content[..])).ok()?;
    (len == content_len).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::samples::{noise, text};

    fn check(content: &[u8], expect: Encoding) {
        let mut out = b"before".to_vec();
        assert_eq!(encode(content, &mut out), expect);
        let stored = out.strip_prefix(b"before").unwrap();
        assert_eq!(decode(expect, stored, content.len()).as_deref(), Some(content));
        assert_eq!(decode(expect, stored, content.len() + 1), None);
        if let Some(shorter) = content.len().checked_sub(1) {
            assert_eq!(decode(expect, stored, shorter), None);
        }
    }

    #[test]
    fn only_what_shrinks_is_compressed() {
        check(b"", Encoding::Raw);
        check(b"x", Encoding::Raw);
        check(&noise(1, 4096), Encoding::Raw);
        check(&text(1, 4096), Encoding::Zstd);
        check(&[0; 1 << 20], Encoding::Zstd);
    }
}
