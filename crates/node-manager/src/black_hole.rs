//! Client black holes (§4.2.3): a client on which subjobs end at once would eat the whole grid's work, because
//! it asks for the next as soon as one has ended.
//!
//! ```text
//! trusted ──3 different subjobs end quickly in a row──► backed off ──time──► on trial (one subjob at a time)
//!    ▲                                                      ▲                        │
//!    │                                                      └──quick end, doubled────┤
//!    └───────────────────────────success─────────────────────────────────────────────┘
//! ```
//! A quick end only counts when the client is to blame: its own fault, or a job that runs well elsewhere, or
//! several jobs. One malformed job on a grid of one client is not a black hole. And a subjob that failed for good
//! is wrong itself: it is taken off every client's row.

use std::time::Duration;

use model::{JobId, SubjobId, Timestamp};

/// Quick ends of different subjobs in a row that make a client suspect (§4.2.3).
pub const QUICK_ENDS: usize = 3;

/// A failure sooner than this after the start is quick.
pub const QUICK: Duration = Duration::from_secs(10);

/// First back-off; each further one is twice as long.
pub const BACK_OFF: Duration = Duration::from_secs(5 * 60);

/// Longest back-off.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What an attempt's end says about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    Success,
    /// It succeeded faster than the job's minimum run time.
    QuickSuccess,
    /// It failed after a while, or for a reason outside the client: says nothing.
    Neutral,
    /// What lay on the client's disk was changed, however long it took until that was noticed.
    Tampered,
    /// It failed quickly.
    Quick {
        /// Whether the reason itself, or other clients' success with the same job, blames the client.
        client_is_to_blame: bool,
    },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Quick ends in a row, of different subjobs.
    quick: Vec<(SubjobId, bool)>,
    back_off: Option<BackOff>,
}

#[derive(Clone, Debug)]
struct BackOff {
    until: Timestamp,
    /// How many there were, this one included, without a success between.
    times: u32,
    why: String,
}

impl Trust {
    pub(crate) fn finished(
        &mut self,
        subjob: SubjobId,
        suspicion: Suspicion,
        now: Timestamp,
    ) -> Option<String> {
        let blamed = match suspicion {
            Suspicion::Success => {
                *self = Trust::default();
                return None;
            }
            Suspicion::Neutral => return None,
            // What was begun before the back-off is no trial after it.
            _ if self.backed_off(now).is_some() => return None,
            Suspicion::QuickSuccess | Suspicion::Tampered => true,
            Suspicion::Quick { client_is_to_blame } => client_is_to_blame,
        };
        self.quick.retain(|(earlier, _)| *earlier != subjob);
        self.quick.push((subjob, blamed));
        let on_trial = self.back_off.is_some();
        let enough = if on_trial { 1 } else { QUICK_ENDS };
        if self.quick.len() < enough || !self.client_is_to_blame() {
            return None;
        }
        let times = self.back_off.as_ref().map_or(1, |earlier| earlier.times + 1);
        let wait = BACK_OFF.saturating_mul(1 << (times - 1).min(16)).min(BACK_OFF_MAX);
        let why =
            format!("{} different subjobs in a row ended quickly, the last was {subjob}", self.quick.len());
        self.back_off = Some(BackOff { until: now.plus(wait), times, why: why.clone() });
        self.quick.clear();
        Some(why)
    }

    /// Forgets the quick ends of a subjob.
    pub(crate) fn exonerate(&mut self, subjob: SubjobId) {
        self.quick.retain(|(earlier, _)| *earlier != subjob);
    }

    /// Whether the quick ends point at the client rather than at one job.
    fn client_is_to_blame(&self) -> bool {
        let mut jobs: Vec<JobId> = self.quick.iter().map(|(subjob, _)| subjob.job).collect();
        jobs.dedup();
        jobs.len() > 1 || self.quick.iter().all(|(_, blamed)| *blamed)
    }

    pub(crate) fn backed_off(&self, now: Timestamp) -> Option<(Timestamp, &str)> {
        self.back_off.as_ref().filter(|b| now < b.until).map(|b| (b.until, b.why.as_str()))
    }

    pub(crate) fn lease_cap(&self, now: Timestamp) -> usize {
        match &self.back_off {
            None => usize::MAX,
            Some(back_off) => usize::from(now >= back_off.until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjob(job: u64, index: u64) -> SubjobId {
        SubjobId { job: JobId(job), index }
    }

    /// Feeds quick failures of `(job, index, blamed)` and says after which the client is backed off.
    fn check(ends: &[(u64, u64, bool)], expect: Option<usize>) {
        let mut trust = Trust::default();
        let found = ends.iter().position(|(job, index, client_is_to_blame)| {
            let suspicion = Suspicion::Quick { client_is_to_blame: *client_is_to_blame };
            trust.finished(subjob(*job, *index), suspicion, Timestamp(0)).is_some()
        });
        assert_eq!(found, expect, "{ends:?}");
    }

    #[test]
    fn three_different_subjobs_in_a_row_are_needed() {
        check(&[(1, 0, true), (1, 1, true)], None);
        check(&[(1, 0, true), (1, 1, true), (1, 2, true)], Some(2));
        check(&[(1, 0, true), (1, 0, true), (1, 0, true), (1, 1, true)], None);
    }

    #[test]
    fn one_malformed_job_is_not_blamed_on_the_client_but_several_are() {
        check(&[(1, 0, false), (1, 1, false), (1, 2, false), (1, 3, false)], None);
        check(&[(1, 0, false), (1, 1, false), (2, 0, false)], Some(2));
    }

    #[test]
    fn a_subjob_that_failed_for_good_is_held_against_nobody() {
        let mut trust = Trust::default();
        let quick = Suspicion::Quick { client_is_to_blame: false };
        for job in 0..9 {
            assert_eq!(trust.finished(subjob(job, 0), quick, Timestamp(0)), None);
            trust.exonerate(subjob(job, 0));
        }
    }

    #[test]
    fn after_the_back_off_one_subjob_decides_and_the_next_back_off_is_longer() {
        let mut trust = Trust::default();
        let quick = Suspicion::Quick { client_is_to_blame: true };
        for index in 0..3 {
            trust.finished(subjob(1, index), quick, Timestamp(0));
        }
        assert_eq!(trust.finished(subjob(1, 8), quick, Timestamp(1)), None, "it was begun before");
        let until = Timestamp(0).plus(BACK_OFF);
        assert_eq!(trust.backed_off(Timestamp(0)).map(|(until, _)| until), Some(until));
        assert_eq!((trust.lease_cap(Timestamp(0)), trust.lease_cap(until)), (0, 1));
        assert!(trust.finished(subjob(1, 9), quick, until).is_some());
        assert_eq!(trust.backed_off(until).map(|(until, _)| until), Some(until.plus(BACK_OFF * 2)));
        trust.finished(subjob(1, 10), Suspicion::Success, until);
        assert_eq!(trust.lease_cap(until), usize::MAX);
    }

    #[test]
    fn a_success_between_breaks_the_row() {
        let mut trust = Trust::default();
        let quick = Suspicion::Quick { client_is_to_blame: true };
        for index in 0..6 {
            assert_eq!(trust.finished(subjob(1, index), quick, Timestamp(0)), None);
            if index % 2 == 1 {
                trust.finished(subjob(2, index), Suspicion::Success, Timestamp(0));
            }
        }
    }
}
