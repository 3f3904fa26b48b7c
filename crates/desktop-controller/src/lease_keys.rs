//! The keys that come with a lease: they are opened here and are nowhere else, but for whoever seals with them.

use std::sync::Arc;

use link::keys::OpeningKey;
use model::FailureReason;
use protocol::client_link::{LEASE_KEY, Lease, keys_info};
use sandbox_fs::seal::StoreKey;

/// Both are in locked memory, and wiped when they are dropped.
#[derive(Debug)]
pub(crate) struct LeaseKeys {
    /// For the files of this attempt.
    pub(crate) store: StoreKey,
    /// For what is cached; the same in every lease of this client.
    pub(crate) cache: Arc<StoreKey>,
}

impl LeaseKeys {
    /// # Errors
    /// The reason to report: there are no keys, they are another's, or no memory can be locked for them.
    pub(crate) fn open(opening: &OpeningKey, lease: &Lease) -> Result<Self, FailureReason> {
        let setup = |why: String| FailureReason::ClientSetup { why };
        let sealed = lease.keys.as_ref();
        let sealed = sealed.ok_or_else(|| setup("the server gave no keys to seal files with".to_owned()))?;
        let mut opened = opening
            .open(sealed, &keys_info(lease.fence, lease.subjob))
            .map_err(|error| setup(error.to_string()))?;
        let ([store, cache], []) = opened.as_chunks_mut::<LEASE_KEY>() else {
            return Err(setup("the lease's keys have another length".to_owned()));
        };
        let take = |key| {
            StoreKey::take(key).map_err(|error| setup(format!("no memory can be locked for a key: {error}")))
        };
        Ok(LeaseKeys { store: take(store)?, cache: Arc::new(take(cache)?) })
    }
}
