//! A store that fails when told to, for tests of what the server does then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Loaded, Op, Reader, Store, StoreError};

/// Wraps a store; while the switch is on, commits fail as on a full disk and nothing is written.
pub(crate) struct Faulty<S> {
    inner: S,
    full: Arc<AtomicBool>,
}

impl<S: Store> Faulty<S> {
    pub(crate) fn new(inner: S) -> (Self, Arc<AtomicBool>) {
        let full = Arc::new(AtomicBool::new(false));
        (Faulty { inner, full: Arc::clone(&full) }, full)
    }
}

impl<S: Store> Store for Faulty<S> {
    fn commit(&mut self, batch: &[Op]) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::Full { path: "/full".into() });
        }
        self.inner.commit(batch)
    }

    fn load(&self) -> Result<Loaded, StoreError> {
        self.inner.load()
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        self.inner.reader()
    }
}
