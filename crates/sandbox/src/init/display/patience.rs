//! When a dialog has waited long enough, and how it is closed.
//!
//! ```text
//! opened ──quiet──► asked to close ──quiet──► Escape ──quiet──► Return ──quiet──► its program is cut off
//! ```
//! Only looks at which nothing in the subjob works count, and they must be in a row.

use std::time::Duration;

/// Time between two looks.
pub(super) const PERIOD: Duration = Duration::from_millis(500);

/// Faces that a dialog may show in turn and still stand still: a text cursor that blinks has two.
const MAX_FACES: usize = 2;

/// How to get rid of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As by the button in its frame.
    Delete,
    Escape,
    Return,
    /// Ends the connection of its program, which most programs don't survive.
    CutOff,
}

/// In which order, after how many quiet looks since the one before, and why.
const WAYS: &[(Way, u32, &str)] = &[
    (Way::Delete, 8, "4 s: a program that works again by itself mostly does within two"),
    (Way::Escape, 4, "a dialog without a close button is mostly left by this key"),
    (Way::Return, 4, "one that can't be cancelled takes its default answer"),
    (Way::CutOff, 40, "20 s: rather a lost program than one that waits for the wall limit, but no haste"),
];

/// How long one dialog has been waited for.
#[derive(Debug, Default)]
pub(super) struct Patience {
    quiet: u32,
    tried: usize,
    /// The last ones that were new, latest first.
    faces: Vec<u64>,
}

impl Patience {
    /// Takes a look: whether the subjob stands still, and a digest of how the dialog looks. Says what to do now.
    pub(super) fn look(&mut self, still: bool, face: u64) -> Option<Way> {
        if !self.faces.contains(&face) {
            self.faces.truncate(MAX_FACES - 1);
            self.faces.insert(0, face);
            self.quiet = 0;
        }
        if !still {
            self.quiet = 0;
            return None;
        }
        self.quiet += 1;
        let (way, after, _) = WAYS.get(self.tried)?;
        if self.quiet < *after {
            return None;
        }
        self.quiet = 0;
        self.tried += 1;
        Some(*way)
    }

    /// Whether nothing has been done about the dialog yet.
    pub(super) fn is_untried(&self) -> bool {
        self.tried == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done at each of the looks given as (still, face), by their numbers from 1 on.
    fn done(looks: impl IntoIterator<Item = (bool, u64)>) -> Vec<(usize, Way)> {
        let mut patience = Patience::default();
        let looks = (1..).zip(looks);
        looks.filter_map(|(number, (still, face))| Some((number, patience.look(still, face)?))).collect()
    }

    #[test]
    fn a_dialog_that_stands_still_is_closed_ever_more_firmly() {
        let ways = [(8, Way::Delete), (12, Way::Escape), (16, Way::Return), (56, Way::CutOff)];
        assert_eq!(done([(true, 1); 500]), ways);
        assert!(WAYS.iter().all(|(_, _, reason)| !reason.is_empty()));
    }

    #[test]
    fn a_cursor_may_blink() {
        assert_eq!(done((0..9).map(|look| (true, look % 2))), [(9, Way::Delete)]);
    }

    #[test]
    fn a_dialog_that_shows_progress_is_left_alone() {
        assert_eq!(done((0..500).map(|look| (true, look))), []);
        assert_eq!(done((0..500).map(|look| (true, look / 7))), [], "slow progress");
    }

    #[test]
    fn work_anywhere_in_the_subjob_starts_the_count_again() {
        assert_eq!(done((0..500).map(|look| (look % 8 != 0, 1))), []);
        let looks = [vec![(true, 1); 7], vec![(false, 1)], vec![(true, 1); 8]].concat();
        assert_eq!(done(looks), [(16, Way::Delete)]);
    }
}
