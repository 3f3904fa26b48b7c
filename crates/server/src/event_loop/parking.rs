//! Polls that are held because there is nothing to say, found by client and by the time at which they must end.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use model::ClientId;
use protocol::client_link::{PollReply, PollRequest};
use tokio::sync::oneshot;

use super::Answer;

pub(super) struct Parked {
    pub(super) request: Box<PollRequest>,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<Answer<PollReply>>,
}

/// One held poll per client.
#[derive(Default)]
pub(super) struct Parking {
    by_client: HashMap<ClientId, Parked>,
    /// The same by deadline: the loop asks for the first one at every turn, however many are held.
    deadlines: BTreeSet<(Instant, ClientId)>,
}

impl Parking {
    /// Holds a poll of a client that has none.
    pub(super) fn insert(&mut self, client: ClientId, parked: Parked) {
        self.deadlines.insert((parked.until, client));
        self.by_client.insert(client, parked);
    }

    pub(super) fn get(&self, client: ClientId) -> Option<&Parked> {
        self.by_client.get(&client)
    }

    pub(super) fn remove(&mut self, client: ClientId) -> Option<Parked> {
        let parked = self.by_client.remove(&client)?;
        self.deadlines.remove(&(parked.until, client));
        Some(parked)
    }

    pub(super) fn clients(&self) -> Vec<ClientId> {
        self.by_client.keys().copied().collect()
    }

    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// Clients whose polls must end by now.
    pub(super) fn late(&self, now: Instant) -> Vec<ClientId> {
        self.deadlines.iter().take_while(|(until, _)| *until <= now).map(|(_, client)| *client).collect()
    }
}
