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

#[cfg(test)]
mod tests {
    use protocol::client_link::LEASE_KEYS;
    use serde_json::json;

    use super::*;

    /// What comes of a lease with these keys, for the lease of this fencing number.
    fn check(length: usize, sealed_for: u64, expect: Result<(), &str>) {
        let opening = OpeningKey::generate();
        let info = keys_info(model::Fence(sealed_for), "1.2".parse().expect("a subjob"));
        let keys = link::keys::seal(&opening.public(), &info, &vec![3; length]).expect("a public key");
        let lease = json!({
            "fence": 7, "subjob": { "job": 1, "index": 2 }, "attempt": 1, "job_name": "", "user": "a",
            "application": model::BlobHash([1; 32]), "application_size": 1, "application_signature": "",
            "command": ["x"], "env": [], "stdin": null, "inputs": [], "outputs": [], "secrets": null,
            "resources": model::Resources::default(), "limits": model::Limits::default(), "keys": keys,
        });
        let lease: Lease = serde_json::from_value(lease).expect("a lease");
        let found = LeaseKeys::open(&opening, &lease).map(|_| ()).map_err(|reason| reason.to_string());
        match (&found, expect) {
            (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
            (found, expect) => assert_eq!(found.is_ok(), expect.is_ok(), "{found:?}"),
        }
        let without = LeaseKeys::open(&opening, &Lease { keys: None, ..lease });
        assert!(without.is_err_and(|reason| reason.to_string().contains("gave no keys")));
    }

    #[test]
    fn keys_open_for_their_lease_and_have_their_length() {
        check(LEASE_KEYS, 7, Ok(()));
        check(LEASE_KEYS, 8, Err("sealed for another client or lease"));
        check(LEASE_KEYS - 1, 7, Err("another length"));
        check(LEASE_KEYS + 32, 7, Err("another length"));
    }
}
