//! Node Manager (§2.1, Physical Node Management): which clients there are, whether they are alive, and whether
//! they can be trusted with work.
//!
//! Pure: the caller says what time it is and what happened. Keys and inventories are kept, not checked, here.
#![forbid(unsafe_code)]

pub mod black_hole;

use std::collections::HashMap;
use std::time::Duration;

use black_hole::{Suspicion, Trust};
use model::{ClientId, Inventory, SubjobId, Tampering, Timestamp};
use thiserror::Error;

/// A client that was not heard of for this long is shown as offline.
pub const OFFLINE_AFTER: Duration = Duration::from_secs(90);

/// A registered client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Ed25519 public key: the client's identity.
    pub public_key: [u8; 32],
    /// X25519 public key that secrets are sealed to.
    pub seal_key: [u8; 32],
    pub inventory: Inventory,
    pub registered: Timestamp,
    pub revoked: bool,
    pub last_seen: Option<Timestamp>,
    /// Sequence number of the newest poll that was answered.
    pub last_seq: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// The client's flag: an administrator is to look at it.
    pub tampering: Option<Tampering>,
    trust: Trust,
}

/// How a poll's sequence number relates to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Newer than any before: may get new leases.
    Fresh,
    /// The newest again: gets the same leases again.
    Repeated,
}

/// Why a client is not served.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("no client with this key is registered: join again with a join token")]
    Unknown,
    #[error("this client's key was revoked by an administrator")]
    Revoked,
    #[error("poll {seq} is older than {last}, the newest this client made")]
    StaleSequence { seq: u64, last: u64 },
}

/// Whether and why a client is given work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Online,
    Offline,
    /// Suspected to be a black hole.
    BackedOff {
        until: Timestamp,
        why: String,
    },
    Revoked,
}

#[derive(Debug, Default)]
pub struct NodeManager {
    clients: HashMap<ClientId, Client>,
}

impl NodeManager {
    pub fn get(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ClientId, &Client)> {
        self.clients.iter().map(|(id, client)| (*id, client))
    }

    /// Adds a client, or restores one at start. A key that registers again keeps its standing: joining twice is
    /// no way out of a revocation.
    pub fn register(
        &mut self,
        id: ClientId,
        public_key: [u8; 32],
        seal_key: [u8; 32],
        inventory: Inventory,
        now: Timestamp,
    ) -> Result<&Client, Refusal> {
        let client = self.clients.entry(id).or_insert_with(|| Client {
            public_key,
            seal_key,
            inventory: inventory.clone(),
            registered: now,
            revoked: false,
            last_seen: None,
            last_seq: 0,
            succeeded: 0,
            failed: 0,
            tampering: None,
            trust: Trust::default(),
        });
        if client.revoked {
            return Err(Refusal::Revoked);
        }
        client.seal_key = seal_key;
        client.inventory = inventory;
        Ok(client)
    }

    /// Bars a client for good. Returns whether there is such a client.
    pub fn revoke(&mut self, id: ClientId) -> bool {
        self.clients.get_mut(&id).map(|client| client.revoked = true).is_some()
    }

    /// Sets what a restarted server knows of earlier tampering.
    pub fn restore_tampering(&mut self, id: ClientId, tampering: Option<Tampering>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.tampering = tampering;
        }
    }

    /// Sets what a restarted server knows of a client's earlier polls.
    pub fn restore_sequence(&mut self, id: ClientId, seq: u64) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.last_seq = client.last_seq.max(seq);
        }
    }

    /// Takes note of a poll.
    ///
    /// # Errors
    /// The client is unknown or revoked, or the poll is older than one already answered.
    pub fn seen(
        &mut self,
        id: ClientId,
        seq: u64,
        inventory: Option<Inventory>,
        now: Timestamp,
    ) -> Result<Sequence, Refusal> {
        let client = self.clients.get_mut(&id).ok_or(Refusal::Unknown)?;
        if client.revoked {
            return Err(Refusal::Revoked);
        }
        if seq < client.last_seq {
            return Err(Refusal::StaleSequence { seq, last: client.last_seq });
        }
        let sequence = if seq == client.last_seq { Sequence::Repeated } else { Sequence::Fresh };
        client.last_seq = seq;
        client.last_seen = Some(now);
        if let Some(inventory) = inventory {
            client.inventory = inventory;
        }
        Ok(sequence)
    }

    /// Counts an attempt's end for or against the client. Returns the reason when it is now backed off.
    pub fn finished(
        &mut self,
        id: ClientId,
        subjob: SubjobId,
        suspicion: Suspicion,
        now: Timestamp,
    ) -> Option<String> {
        let client = self.clients.get_mut(&id)?;
        match suspicion {
            Suspicion::Success => client.succeeded += 1,
            Suspicion::QuickSuccess | Suspicion::Neutral | Suspicion::Quick { .. } => client.failed += 1,
            Suspicion::Tampered => {
                client.failed += 1;
                let times = client.tampering.map_or(0, |earlier| earlier.times) + 1;
                client.tampering = Some(Tampering { times, last: now });
            }
        }
        client.trust.finished(subjob, suspicion, now)
    }

    /// Holds a subjob that failed for good against no client: it is wrong itself.
    pub fn exonerate(&mut self, subjob: SubjobId) {
        for client in self.clients.values_mut() {
            client.trust.exonerate(subjob);
        }
    }

    /// Whether the client may be given work now.
    pub fn standing(&self, id: ClientId, now: Timestamp) -> Standing {
        let Some(client) = self.clients.get(&id) else { return Standing::Offline };
        if client.revoked {
            return Standing::Revoked;
        }
        if let Some((until, why)) = client.trust.backed_off(now) {
            return Standing::BackedOff { until, why: why.to_owned() };
        }
        match client.last_seen {
            Some(seen) if now.since(seen) < OFFLINE_AFTER => Standing::Online,
            _ => Standing::Offline,
        }
    }

    /// How many leases the client may hold at most: one while it proves itself after a back-off.
    pub fn lease_cap(&self, id: ClientId, now: Timestamp) -> usize {
        match self.clients.get(&id) {
            Some(client) if client.revoked => 0,
            Some(client) => client.trust.lease_cap(now),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ByteSize, Permits};

    fn inventory() -> Inventory {
        Inventory {
            host_name: "lab-1".into(),
            cpu_model: "x".into(),
            cpus: 2,
            memory: ByteSize::gib(4),
            disk: ByteSize::gib(9),
            kernel: "6".into(),
            version: "0".into(),
            permits: Permits::default(),
        }
    }

    fn manager() -> (NodeManager, ClientId) {
        let (mut manager, id) = (NodeManager::default(), ClientId([1; 16]));
        manager.register(id, [1; 32], [2; 32], inventory(), Timestamp(0)).expect("new");
        (manager, id)
    }

    #[test]
    fn a_repeated_poll_is_told_from_a_fresh_and_a_stale_one() {
        let (mut manager, id) = manager();
        let mut seen = |seq| manager.seen(id, seq, None, Timestamp(1));
        assert_eq!(seen(7), Ok(Sequence::Fresh));
        assert_eq!(seen(7), Ok(Sequence::Repeated));
        assert_eq!(seen(6), Err(Refusal::StaleSequence { seq: 6, last: 7 }));
        assert_eq!(seen(8), Ok(Sequence::Fresh));
    }

    #[test]
    fn a_revoked_client_is_refused_and_can_not_join_again() {
        let (mut manager, id) = manager();
        assert!(manager.revoke(id));
        assert_eq!(manager.seen(id, 1, None, Timestamp(1)), Err(Refusal::Revoked));
        let again = manager.register(id, [1; 32], [2; 32], inventory(), Timestamp(2));
        assert_eq!(again.err(), Some(Refusal::Revoked));
        assert_eq!(manager.standing(id, Timestamp(2)), Standing::Revoked);
        assert_eq!(manager.lease_cap(id, Timestamp(2)), 0);
    }

    #[test]
    fn tampering_is_remembered_whatever_succeeds_later() {
        let (mut manager, id) = manager();
        let subjob = |index| SubjobId { job: model::JobId(1), index };
        let mut ends = |index, suspicion, at| manager.finished(id, subjob(index), suspicion, Timestamp(at));
        assert_eq!(ends(0, Suspicion::Tampered, 5), None);
        assert_eq!(ends(1, Suspicion::Success, 6), None);
        assert_eq!(ends(2, Suspicion::Tampered, 7), None);
        assert_eq!(ends(3, Suspicion::Tampered, 8), None);
        assert!(ends(4, Suspicion::Tampered, 9).is_some(), "three in a row");
        let tampering = manager.get(id).expect("registered").tampering;
        assert_eq!(tampering, Some(Tampering { times: 4, last: Timestamp(9) }));
    }

    #[test]
    fn a_silent_client_is_offline() {
        let (mut manager, id) = manager();
        manager.seen(id, 1, None, Timestamp(0)).expect("registered");
        assert_eq!(manager.standing(id, Timestamp(89_999)), Standing::Online);
        assert_eq!(manager.standing(id, Timestamp(90_000)), Standing::Offline);
    }
}
