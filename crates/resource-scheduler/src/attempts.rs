//! What an attempt's failure means for its subjob (§4.2.3, "Dealing with Resource Problems").
//!
//! Three things are counted apart, because they have different causes: strikes (the subjob itself is wrong),
//! clients that could not or would not run it, and clients that vanished.

use std::collections::BTreeSet;

use model::{ClientId, FailureClass, FailureReason};

/// A subjob that this many different clients gave up is failed (§4.2.3).
pub const THREE_CLIENTS: usize = 3;

/// A subjob whose clients vanished this often is failed: it may be what makes them vanish.
pub const MAX_LOSSES: u32 = 20;

/// Clients remembered as having failed a subjob; the oldest is forgotten first.
pub const MAX_AVOIDED: usize = 16;

/// What becomes of a subjob after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It waits for another attempt.
    Again,
    /// It is failed for good.
    Failed,
}

/// The failed attempts of one subjob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Attempts that have ended or are running.
    pub attempts: u32,
    strikes: u32,
    losses: u32,
    lost_by: BTreeSet<ClientId>,
    gave_up: BTreeSet<ClientId>,
    avoided: Vec<ClientId>,
}

impl History {
    /// Counts a failed attempt. `strikes_allowed` is the job's `attempts`.
    pub fn failed(&mut self, client: ClientId, reason: &FailureReason, strikes_allowed: u32) -> Verdict {
        let too_many = match reason {
            FailureReason::LeaseExpired | FailureReason::LeaseLost => {
                self.losses += 1;
                self.losses >= MAX_LOSSES
            }
            _ => match reason.class() {
                FailureClass::MalformedSubjob => {
                    self.strikes += 1;
                    self.strikes >= strikes_allowed
                }
                FailureClass::DesktopContention | FailureClass::ClientFault => {
                    self.gave_up.insert(client);
                    self.gave_up.len() >= THREE_CLIENTS
                }
            },
        };
        if too_many {
            return Verdict::Failed;
        }
        // A client that was restarted once did nothing wrong by the subjob; it may well have it again.
        let is_excused = *reason == FailureReason::LeaseLost && self.lost_by.insert(client);
        if !is_excused && !self.avoided.contains(&client) {
            if self.avoided.len() == MAX_AVOIDED {
                self.avoided.remove(0);
            }
            self.avoided.push(client);
        }
        Verdict::Again
    }

    /// Clients that the next attempt should not go to while there are others.
    pub fn avoided(&self) -> &[ClientId] {
        &self.avoided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many of `reasons`, each on the client of its number, the subjob is failed (from 1).
    fn check(reasons: &[(u8, FailureReason)], strikes_allowed: u32, expect: Option<usize>) {
        let mut history = History::default();
        let failed = reasons.iter().position(|(client, reason)| {
            history.failed(ClientId([*client; 16]), reason, strikes_allowed) == Verdict::Failed
        });
        assert_eq!(failed.map(|at| at + 1), expect, "{reasons:?}");
    }

    fn exit() -> FailureReason {
        FailureReason::ExitCode { code: 1 }
    }

    fn evicted() -> FailureReason {
        FailureReason::Evicted { why: "owner".into() }
    }

    #[test]
    fn strikes_are_counted_whoever_the_client_is() {
        check(&[(1, exit()), (1, exit()), (1, exit())], 3, Some(3));
        check(&[(1, exit())], 1, Some(1));
    }

    #[test]
    fn three_different_clients_must_give_a_subjob_up() {
        check(&[(1, evicted()), (1, evicted()), (1, evicted()), (1, evicted())], 3, None);
        check(&[(1, evicted()), (2, evicted()), (1, evicted()), (3, evicted())], 3, Some(4));
    }

    #[test]
    fn a_client_that_loses_a_subjob_twice_is_avoided() {
        let (mut history, client) = (History::default(), ClientId([1; 16]));
        history.failed(client, &FailureReason::LeaseLost, 3);
        assert_eq!(history.avoided(), []);
        history.failed(client, &FailureReason::LeaseLost, 3);
        assert_eq!(history.avoided(), [client]);
    }

    #[test]
    fn vanished_clients_are_no_strikes_but_have_a_bound() {
        let lost = vec![(1, FailureReason::LeaseExpired); MAX_LOSSES as usize];
        check(&lost[1..], 1, None);
        check(&lost, 1, Some(MAX_LOSSES as usize));
    }
}
