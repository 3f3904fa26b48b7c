//! The names that a misspelled one may have meant.

use strsim::damerau_levenshtein;

/// Most names suggested.
const MAX_SUGGESTIONS: usize = 3;

/// The names nearest to `name`, nearest first; none that differ in more than a third of its letters.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<String> {
    let limit = (name.len() / 3).clamp(1, 4);
    let mut near: Vec<_> = candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= limit)
        .map(|candidate| (damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(MAX_SUGGESTIONS).map(|(_, candidate)| candidate.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expect: &[&str]) {
        let candidates = ["hmmsearch", "hmmscan", "lmp", "vina", "ls", "lmp"];
        assert_eq!(nearest(name, candidates.into_iter()), expect, "{name}");
    }

    #[test]
    fn only_near_names_are_suggested() {
        check("hmmserch", &["hmmsearch"]);
        check("lpm", &["lmp"]);
        check("l", &["ls"]);
        check("povray", &[]);
    }
}
