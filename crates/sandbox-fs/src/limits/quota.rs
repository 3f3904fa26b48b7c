//! Bytes and files, counted as they are taken.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

/// The most that a file system may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// In blocks of files, extended attributes and targets of symbolic links.
    pub bytes: u64,
    /// Names and inodes, whichever are more.
    pub inodes: u64,
}

/// What a file system holds, held at most, and was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub bytes: u64,
    pub inodes: u64,
    pub peak_bytes: u64,
    pub peak_inodes: u64,
    /// Something was not written for want of bytes.
    pub out_of_bytes: bool,
    /// Something was not made for want of inodes.
    pub out_of_inodes: bool,
}

/// Keeps count against a [`Quota`].
#[derive(Debug)]
pub(crate) struct Account {
    bytes: Counter,
    inodes: Counter,
}

#[derive(Debug)]
struct Counter {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
    refused: AtomicBool,
}

impl Account {
    pub(crate) fn new(quota: Quota) -> Self {
        Account { bytes: Counter::new(quota.bytes), inodes: Counter::new(quota.inodes) }
    }

    pub(crate) fn quota(&self) -> Quota {
        Quota { bytes: self.bytes.limit, inodes: self.inodes.limit }
    }

    /// Counts what was there before, whatever the quota is now.
    pub(crate) fn restore(&self, bytes: u64, inodes: u64) {
        for (counter, amount) in [(&self.bytes, bytes), (&self.inodes, inodes)] {
            counter.used.store(amount, Ordering::Relaxed);
            counter.peak.store(amount, Ordering::Relaxed);
        }
    }

    /// # Errors
    /// ENOSPC, and nothing is taken.
    pub(crate) fn take_bytes(&self, bytes: u64) -> Result<(), Errno> {
        self.bytes.take(bytes)
    }

    pub(crate) fn give_bytes(&self, bytes: u64) {
        self.bytes.give(bytes);
    }

    /// # Errors
    /// ENOSPC, and nothing is taken.
    pub(crate) fn take_inode(&self) -> Result<(), Errno> {
        self.inodes.take(1)
    }

    pub(crate) fn give_inode(&self) {
        self.inodes.give(1);
    }

    pub(crate) fn usage(&self) -> Usage {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            bytes: read(&self.bytes.used),
            inodes: read(&self.inodes.used),
            peak_bytes: read(&self.bytes.peak),
            peak_inodes: read(&self.inodes.peak),
            out_of_bytes: self.bytes.refused.load(Ordering::Relaxed),
            out_of_inodes: self.inodes.refused.load(Ordering::Relaxed),
        }
    }
}

impl Counter {
    fn new(limit: u64) -> Self {
        Counter { limit, used: AtomicU64::new(0), peak: AtomicU64::new(0), refused: AtomicBool::new(false) }
    }

    fn take(&self, amount: u64) -> Result<(), Errno> {
        let within = |used: u64| used.checked_add(amount).filter(|sum| *sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(before) => {
                self.peak.fetch_max(before + amount, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => {
                self.refused.store(true, Ordering::Relaxed);
                Err(Errno::NOSPC)
            }
        }
    }

    fn give(&self, amount: u64) {
        let before = self.used.fetch_sub(amount, Ordering::Relaxed);
        debug_assert!(before >= amount, "more is given back than was taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_not_taken() {
        let account = Account::new(Quota { bytes: 10, inodes: 1 });
        assert_eq!(account.take_bytes(8), Ok(()));
        assert_eq!(account.take_bytes(3), Err(Errno::NOSPC));
        assert_eq!(account.take_bytes(u64::MAX), Err(Errno::NOSPC));
        assert_eq!(account.take_bytes(2), Ok(()));
        account.give_bytes(10);
        assert_eq!(account.take_inode(), Ok(()));
        assert_eq!(account.take_inode(), Err(Errno::NOSPC));
        let expect = Usage {
            bytes: 0,
            inodes: 1,
            peak_bytes: 10,
            peak_inodes: 1,
            out_of_bytes: true,
            out_of_inodes: true,
        };
        assert_eq!(account.usage(), expect);
    }
}
