//! Plans for the tests of this crate, and numbers that look random but are the same in each run.

use std::time::Duration;

use model::plan::{Column, Piece, Plan, Template, Values};
use model::{BlobHash, Limits, NetworkAccess, Resources};

/// A plan of one subjob that does nothing; tests override what they are about.
pub(crate) fn plan() -> Plan {
    Plan {
        name: "test".into(),
        application: BlobHash([0; 32]),
        command: Vec::new(),
        env: Vec::new(),
        stdin: None,
        inputs: Vec::new(),
        axes: Vec::new(),
        split: None,
        repeat: None,
        outputs: Vec::new(),
        aggregate: Vec::new(),
        resources: Resources::default(),
        limits: Limits { runtime_max: Duration::from_secs(60), ..Limits::default() },
        network: NetworkAccess::default(),
        display: None,
        attempts: 3,
    }
}

pub(crate) fn text(text: &str) -> Template {
    Template(vec![Piece::Text(text.into())])
}

pub(crate) fn column(name: &str, values: &[&str]) -> Column {
    let mut stored = Values::default();
    for value in values {
        stored.push(value).unwrap();
    }
    Column { name: name.into(), values: stored, files: None }
}

/// Marsaglia's 64-bit xorshift.
pub(crate) struct Xorshift(u64);

impl Xorshift {
    /// `seed` must not be 0, from which the generator never leaves.
    pub(crate) fn new(seed: u64) -> Self {
        assert_ne!(seed, 0);
        Xorshift(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number under `bound`; its slight bias doesn't matter here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
