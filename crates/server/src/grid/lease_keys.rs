//! The keys that come with a lease, for clients that seal files (§4.4, docs/decisions/0018).

use model::plan::Plan;
use model::{BlobHash, ClientId, Fence, Permits, Sealing, SubjobId};
use protocol::client_link::{LEASE_KEY, LEASE_KEYS, Sealed, keys_info};
use zeroize::Zeroizing;

use super::Grid;

impl Grid {
    /// Whether a client may need keys for a subjob. It decides itself whether it seals what needn't be.
    pub(super) fn may_seal(&self, client: ClientId, plan: &Plan) -> bool {
        let permits = self.nodes.get(client).map_or(Permits::default(), |known| known.inventory.permits);
        permits.sealing.max(plan.resources.needs.sealing) > Sealing::Off
    }

    /// Keys for the files of one lease, sealed for its client. The first is of this answer alone: nobody can seal or
    /// open those files again.
    pub(super) fn lease_keys(&self, client: ClientId, fence: Fence, subjob: SubjobId) -> Option<Sealed> {
        let mut keys = Zeroizing::new([0; LEASE_KEYS]);
        let (store, cache) = keys.split_at_mut(LEASE_KEY);
        getrandom::fill(store).inspect_err(|error| tracing::error!(%error, "no random numbers")).ok()?;
        cache.copy_from_slice(self.keys.cache_key(client).as_slice());
        let to = BlobHash(self.nodes.get(client)?.seal_key);
        let sealed = link::keys::seal(&to, &keys_info(fence, subjob), keys.as_slice());
        sealed.inspect_err(|error| tracing::error!(%error, %client, "keys can't be sealed")).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use link::keys::OpeningKey;
    use model::{Capacity, Inventory, Timestamp};
    use protocol::api::{TokenGrants, TokenRequest};
    use protocol::client_link::PollRequest;

    use super::*;
    use crate::fixtures::{inventory, submission};
    use crate::grid::secret_hash;
    use crate::keys::GridKeys;
    use crate::store::Loaded;

    /// The keys of so many leases that a client gets which says this of itself; of a job that asks or not.
    fn keys(client: u8, says: Sealing, asks: Sealing, leases: u64) -> Vec<Option<[[u8; LEASE_KEY]; 2]>> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("storage.key"), [7; 32]).expect("written");
        let grid_keys = Arc::new(GridKeys::open(directory.path()).expect("made"));
        let mut grid = Grid::load(Loaded::default(), grid_keys, Duration::from_secs(60), Timestamp(0));
        let request = TokenRequest { grants: TokenGrants::Join, uses: None, expires_s: None };
        grid.create_token(Timestamp(0), &request, [5; 24]).expect("made");
        let opening = OpeningKey::generate();
        let permits = Permits { sealing: says, ..Permits::default() };
        let inventory = Inventory { permits, ..inventory() };
        let public = BlobHash([client; 32]);
        let joined = grid.register_client(
            Timestamp(0),
            &secret_hash(&[5; 24]),
            public,
            opening.public(),
            inventory.clone(),
        );
        let id = joined.expect("joins").client;
        let mut job = submission(leases, "key".to_owned());
        job.plan.resources.needs.sealing = asks;
        grid.submit(Timestamp(0), job).expect("submitted");
        let Inventory { memory, disk, .. } = inventory;
        let request = PollRequest {
            seq: 1,
            answered: 0,
            capacity: Capacity { cpus: 99, memory, disk, permits },
            held: Vec::new(),
            reports: Vec::new(),
            inventory: None,
            wait_s: 0,
        };
        let outcome = grid.poll(Timestamp(1), id, &request, Vec::new()).expect("answered");
        let open = |sealed: &Sealed, fence, subjob| {
            let opened = opening.open(sealed, &keys_info(fence, subjob)).expect("of this lease");
            let ([store, cache], []) = opened.as_chunks::<LEASE_KEY>() else { panic!("{}", opened.len()) };
            assert!(opening.open(sealed, &keys_info(Fence(fence.0 + 1), subjob)).is_err());
            [*store, *cache]
        };
        let leases = outcome.leases.iter();
        leases.map(|lease| lease.keys.as_ref().map(|keys| open(keys, lease.fence, lease.subjob))).collect()
    }

    #[test]
    fn each_lease_has_a_key_of_its_own_and_each_client_one_for_its_cache() {
        let mut stores = Vec::new();
        let mut caches = Vec::new();
        for client in [1, 1, 2] {
            let keys = keys(client, Sealing::Always, Sealing::Off, 2);
            let [Some([one, cache]), Some([other, again])] = keys[..] else { panic!("{}", keys.len()) };
            assert_eq!(cache, again);
            stores.extend([one, other]);
            caches.push(cache);
        }
        let count = stores.len();
        stores.sort_unstable();
        stores.dedup();
        assert_eq!((stores.len(), count), (6, 6), "a key was given twice");
        assert_eq!(caches[0], caches[1], "the same client on a server that was restarted");
        assert_ne!(caches[0], caches[2]);
    }

    #[test]
    fn keys_are_for_clients_that_can_seal() {
        let check = |says, asks, expect: &[bool]| {
            let found: Vec<bool> = keys(1, says, asks, 1).iter().map(Option::is_some).collect();
            assert_eq!(found, expect, "{says:?} {asks:?}");
        };
        check(Sealing::Off, Sealing::Off, &[false]);
        check(Sealing::OnRequest, Sealing::Off, &[true]);
        check(Sealing::OnRequest, Sealing::OnRequest, &[true]);
        check(Sealing::Always, Sealing::OnRequest, &[true]);
        // It is given no such job at all.
        check(Sealing::Off, Sealing::OnRequest, &[]);
    }
}
