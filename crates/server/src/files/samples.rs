//! Contents for the tests of the file store, all from a seed, and the golden files of its formats.

use std::path::Path;

/// xorshift64*: small, and the same on every machine and in every version, which golden files need.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// Bytes that can't be compressed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    (0..len).map(|_| (rng.next() >> 56) as u8).collect()
}

/// Bytes like a program's table: they compress to about a third.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut bytes = Vec::with_capacity(len + 64);
    while bytes.len() < len {
        let (score, name) = (rng.below(10_000), rng.below(100_000));
        bytes.extend_from_slice(format!("sequence_{name:06}  score {score:5}  significant\n").as_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The golden file `name`. With `DCGRID_GOLDEN=write` it is first made from `bytes`: for a format that changes
/// on purpose, along with its version.
pub fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/files/golden").join(name);
    if std::env::var_os("DCGRID_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
