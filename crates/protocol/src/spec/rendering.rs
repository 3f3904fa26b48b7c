//! What templates become for the subjobs of a plan: paths that stay inside, names that differ.
//!
//! A template stands for up to a hundred million texts. What only some columns decide is checked over the rows of
//! those columns, texts one by one only up to a limit.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use model::plan::{Axis, Piece, Plan, Template, ValuePart};

use super::path::check_path;

/// Most texts of one template that are made for a check: a fraction of a second.
const MAX_RENDERED: u64 = 1_000_000;

/// Most texts that may be made for one of `templates` templates, so that many cost no more than four.
pub(super) fn rendering_limit(templates: usize) -> u64 {
    MAX_RENDERED * 4 / (templates as u64).max(4)
}

/// Digits of the largest index.
const INDEX_DIGITS: &str = "18446744073709551615";

/// Checks that the template is a good path for every subjob, by its texts if these are at most `limit`.
pub(super) fn check_paths(template: &Template, axes: &[Axis], limit: u64) -> Result<(), String> {
    let used: BTreeSet<usize> = values(template).map(|(axis, _, _)| axis).collect();
    let texts = used.iter().try_fold(1u64, |product, axis| product.checked_mul(axes[*axis].rows()));
    if texts.is_none_or(|texts| texts > limit) {
        return check_paths_by_column(template, axes);
    }
    let mut rows = vec![0; axes.len()];
    let mut text = String::new();
    let mut checked = Ok(());
    let _ = for_each_row(axes, &used, &mut rows, &mut |rows| {
        text.clear();
        render(template, axes, rows, INDEX_DIGITS, INDEX_DIGITS, &mut text);
        checked = check_path(&text).map_err(|problem| path_message(template, &text, &problem.to_string()));
        if checked.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    checked
}

fn path_message(template: &Template, text: &str, problem: &str) -> String {
    if values(template).next().is_some() {
        format!("the path of one of the subjobs, '{text}', {problem}")
    } else {
        format!("the path '{text}' {problem}")
    }
}

/// The same for more texts than can be made: each value must be a plain part of a name, so that whatever stands
/// beside it can't make a `..` of it; then the longest of all are tried together.
fn check_paths_by_column(template: &Template, axes: &[Axis]) -> Result<(), String> {
    let mut longest = String::new();
    for piece in &template.0 {
        match piece {
            Piece::Text(text) => longest.push_str(text),
            Piece::Index { .. } | Piece::Seed => longest.push_str(INDEX_DIGITS),
            Piece::Value { axis, column, part } => {
                let column = &axes[*axis as usize].columns[*column as usize];
                let is_plain = |value: &str| !value.contains('/') && value.contains(|c| c != '.');
                let parts = || column.values.iter().map(|value| part.of(value));
                if let Some(value) = parts().find(|value| !is_plain(value)) {
                    return Err(format!(
                        "the value '{value}' of '{}' is no part of a file name",
                        column.name
                    ));
                }
                longest.push_str(parts().max_by_key(|value| value.len()).unwrap_or_default());
            }
        }
    }
    check_path(&longest).map_err(|problem| path_message(template, &longest, &problem.to_string()))
}

/// Why two subjobs get the same text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Equal {
    /// This text is that of two subjobs.
    Text(String),
    /// The subjobs are too many to compare, and the template's form doesn't show that they differ.
    Unknown,
}

/// Checks that the template gives each subjob of the plan another text, by these if they are at most `limit`.
pub(super) fn check_distinct(template: &Template, plan: &Plan, limit: u64) -> Result<(), Equal> {
    let subjobs = plan.subjobs().unwrap_or(u64::MAX);
    if subjobs <= 1 || (is_decodable(template, &plan.axes) && is_distinct_by_column(template, plan)) {
        return Ok(());
    }
    let mut seen = HashSet::new();
    let mut equal = Err(Equal::Unknown);
    if subjobs > limit {
        return equal;
    }
    let chunks = plan.split.as_ref().map_or(1, |split| split.chunks.len() as u64);
    let inner = chunks * plan.repeat.map_or(1, |repeat| repeat.times);
    let all = (0..plan.axes.len()).collect();
    let mut rows = vec![0; plan.axes.len()];
    let (mut text, mut index) = (String::new(), 0u64);
    let done = for_each_row(&plan.axes, &all, &mut rows, &mut |rows| {
        for _ in 0..inner {
            text.clear();
            let seed = plan.repeat.map_or(0, |repeat| repeat.seed.wrapping_add(index));
            render(template, &plan.axes, rows, &index.to_string(), &seed.to_string(), &mut text);
            index += 1;
            if !seen.insert(short_hash(&text)) {
                equal = Err(Equal::Text(text.clone()));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if done.is_continue() { Ok(()) } else { equal }
}

/// Stands for a text in a set of a million: 16 bytes however long the texts are.
fn short_hash(text: &str) -> [u8; 16] {
    *blake3::hash(text.as_bytes()).as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// Whether each value can be read back out of the text: it ends where a character begins that it never has.
fn is_decodable(template: &Template, axes: &[Axis]) -> bool {
    let ends = |piece: &Piece, next: Option<&Piece>| {
        let stop = match next {
            None => return true,
            Some(Piece::Text(text)) => text.chars().next(),
            Some(_) => None,
        };
        let Some(stop) = stop else { return false };
        match piece {
            Piece::Text(_) => true,
            Piece::Index { .. } | Piece::Seed => !stop.is_ascii_digit(),
            Piece::Value { axis, column, part } => {
                let column = &axes[*axis as usize].columns[*column as usize];
                !column.values.iter().any(|value| part.of(value).contains(stop))
            }
        }
    };
    let is_text = |piece: &Piece| matches!(piece, Piece::Text(_));
    template.0.iter().enumerate().all(|(at, piece)| is_text(piece) || ends(piece, template.0.get(at + 1)))
}

/// Whether the values that can be read back tell the subjobs apart.
fn is_distinct_by_column(template: &Template, plan: &Plan) -> bool {
    if template.0.iter().any(|piece| matches!(piece, Piece::Index { .. } | Piece::Seed)) {
        return true;
    }
    let chunks = plan.split.as_ref().map_or(1, |split| split.chunks.len());
    let times = plan.repeat.map_or(1, |repeat| repeat.times);
    chunks == 1
        && times == 1
        && (0..plan.axes.len()).all(|axis| has_distinct_rows(template, &plan.axes, axis))
}

/// Whether the parts of an axis that the template has differ from row to row.
fn has_distinct_rows(template: &Template, axes: &[Axis], axis: usize) -> bool {
    let rows = axes[axis].rows() as usize;
    let parts: Vec<_> = values(template).filter(|(of, _, _)| *of == axis).collect();
    let mut seen = HashSet::with_capacity(rows);
    let mut cells = String::new();
    (0..rows).all(|row| {
        cells.clear();
        for (_, column, part) in &parts {
            cells.push_str(part.of(axes[axis].columns[*column].values.get(row).unwrap_or_default()));
            // No value has a NUL byte in it.
            cells.push('\0');
        }
        seen.insert(short_hash(&cells))
    })
}

/// Axis, column and part of each value in the template.
fn values(template: &Template) -> impl Iterator<Item = (usize, usize, ValuePart)> {
    template.0.iter().filter_map(|piece| match piece {
        Piece::Value { axis, column, part } => Some((*axis as usize, *column as usize, *part)),
        _ => None,
    })
}

/// Visits each combination of rows of the axes in `used`, the last of them fastest; the others stay at their row.
fn for_each_row(
    axes: &[Axis],
    used: &BTreeSet<usize>,
    rows: &mut [usize],
    visit: &mut impl FnMut(&[usize]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if used.iter().any(|axis| axes[*axis].rows() == 0) {
        return ControlFlow::Continue(());
    }
    loop {
        visit(rows)?;
        let next = used.iter().rev().find(|axis| {
            rows[**axis] += 1;
            if (rows[**axis] as u64) < axes[**axis].rows() {
                return true;
            }
            rows[**axis] = 0;
            false
        });
        if next.is_none() {
            return ControlFlow::Continue(());
        }
    }
}

fn render(template: &Template, axes: &[Axis], rows: &[usize], index: &str, seed: &str, out: &mut String) {
    for piece in &template.0 {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Index { width } => {
                let zeros = usize::from(*width).saturating_sub(index.len());
                out.extend(std::iter::repeat_n('0', zeros));
                out.push_str(index);
            }
            Piece::Seed => out.push_str(seed),
            Piece::Value { axis, column, part } => {
                let axis = *axis as usize;
                let value = axes[axis].columns[*column as usize].values.get(rows[axis]);
                out.push_str(part.of(value.unwrap_or_default()));
            }
        }
    }
}

/// How a template's text for some subjob may relate to a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Likeness {
    /// It may be that text.
    pub whole: bool,
    /// It may begin with that text.
    pub start: bool,
}

/// Compares what the template may give some subjob with `text`; a value counts as any text.
pub(super) fn likeness(template: &Template, text: &str) -> Likeness {
    let text = text.as_bytes();
    // The ends of all that the pieces so far can stand for: one pass per piece, however many ways there are.
    let mut ends = BTreeSet::from([0]);
    let mut start = text.is_empty();
    for piece in &template.0 {
        let Some(first) = ends.first().copied() else { break };
        ends = match piece {
            Piece::Text(piece) => {
                start |= ends.iter().any(|end| piece.as_bytes().starts_with(&text[*end..]));
                let fits = ends.into_iter().filter(|end| text[*end..].starts_with(piece.as_bytes()));
                fits.map(|end| end + piece.len()).collect()
            }
            Piece::Index { .. } | Piece::Seed => {
                let digits = |end: usize| text[end..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                start |= ends.iter().any(|end| end + digits(*end) == text.len());
                ends.into_iter().flat_map(|end| end + 1..=end + digits(end)).collect()
            }
            Piece::Value { .. } => {
                start = true;
                (first..=text.len()).collect()
            }
        };
    }
    Likeness { whole: ends.contains(&text.len()), start }
}

#[cfg(test)]
mod tests {
    use model::BlobHash;
    use model::plan::{Chunk, Column, Repeat, Split, Values};

    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn value(axis: u32) -> Piece {
        Piece::Value { axis, column: 0, part: ValuePart::Whole }
    }

    fn axis(list: &[&str]) -> Axis {
        let mut values = Values::default();
        for value in list {
            values.push(value).expect("short");
        }
        Axis { columns: vec![Column { name: "x".to_owned(), values, files: None }] }
    }

    fn many(number: usize) -> Axis {
        let values: Vec<String> = (0..number).map(|value| format!("v{value}")).collect();
        axis(&values.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn plan(axes: Vec<Axis>) -> Plan {
        Plan {
            name: String::new(),
            application: BlobHash([0; 32]),
            command: Vec::new(),
            env: Vec::new(),
            stdin: None,
            inputs: Vec::new(),
            axes,
            split: None,
            repeat: None,
            outputs: Vec::new(),
            aggregate: Vec::new(),
            resources: model::Resources::default(),
            limits: model::Limits::default(),
            network: model::NetworkAccess::default(),
            display: None,
            attempts: 3,
        }
    }

    #[test]
    fn every_subjob_stays_inside() {
        let check = |pieces: &[Piece], axes: &[Axis], expect: Result<(), &str>| {
            let found = check_paths(&Template(pieces.to_vec()), axes, MAX_RENDERED);
            assert_eq!(found, expect.map_err(str::to_owned));
        };
        check(&[text("a/b")], &[], Ok(()));
        check(&[text("../b")], &[], Err("the path '../b' has '..' in it"));
        check(&[value(0)], &[axis(&["a", "b/c"])], Ok(()));
        check(
            &[text("x/"), value(0)],
            &[axis(&["a", ".."])],
            Err("the path of one of the subjobs, 'x/..', has '..' in it"),
        );
        check(&[value(0)], &[axis(&["/a"])], Err("the path of one of the subjobs, '/a', is absolute"));
        check(&[value(0)], &[axis(&[""])], Err("the path of one of the subjobs, '', is empty"));
        let dots = [axis(&["a", "."]), axis(&["b", "."])];
        check(&[value(0), value(1)], &dots, Err("the path of one of the subjobs, '..', has '..' in it"));
    }

    #[test]
    fn too_many_to_try_are_judged_by_their_parts() {
        let check = |pieces: &[Piece], second: Axis, expect: Result<(), &str>| {
            let mut axes = vec![many(1_001), many(1_000)];
            axes.push(second);
            let found = check_paths(&Template(pieces.to_vec()), &axes, MAX_RENDERED);
            assert_eq!(found, expect.map_err(str::to_owned));
        };
        let all = [value(0), text("-"), value(1), value(2)];
        check(&all, axis(&["a", ".b"]), Ok(()));
        check(&all, axis(&["a", "."]), Err("the value '.' of 'x' is no part of a file name"));
        check(&all, axis(&["a", "b/c"]), Err("the value 'b/c' of 'x' is no part of a file name"));
        check(&all, axis(&["a", ""]), Err("the value '' of 'x' is no part of a file name"));
        assert!(
            check_paths(
                &Template(all.to_vec()),
                &[many(1_001), many(1_000), axis(&[&"x".repeat(255)])],
                MAX_RENDERED
            )
            .is_err()
        );
    }

    #[test]
    fn names_must_differ_from_subjob_to_subjob() {
        let check = |pieces: &[Piece], plan: Plan, expect: Result<(), Equal>| {
            assert_eq!(check_distinct(&Template(pieces.to_vec()), &plan, MAX_RENDERED), expect, "{pieces:?}");
        };
        let equal = |text: &str| Err(Equal::Text(text.to_owned()));
        let index = Piece::Index { width: 0 };
        check(&[text("a")], plan(vec![]), Ok(()));
        check(&[text("a")], plan(vec![axis(&["1", "2"])]), equal("a"));
        check(&[value(0)], plan(vec![axis(&["1", "2"])]), Ok(()));
        check(&[value(0)], plan(vec![axis(&["1", "1"])]), equal("1"));
        check(&[value(0)], plan(vec![axis(&["1", "2"]), axis(&["1", "2"])]), equal("1"));
        check(&[value(0), value(1)], plan(vec![axis(&["1", "2"]), axis(&["3", "4"])]), Ok(()));
        check(&[value(0), value(1)], plan(vec![axis(&["1", "11"]), axis(&["1", "11"])]), equal("111"));
        check(&[index.clone(), value(0)], plan(vec![axis(&["a", "b"])]), Ok(()));
        check(std::slice::from_ref(&index), plan(vec![many(2_000), many(2_000)]), Ok(()));
        check(&[value(0), text("/"), value(1)], plan(vec![many(2_000), many(2_000)]), Ok(()));
        check(&[value(0), value(1)], plan(vec![many(2_000), many(2_000)]), Err(Equal::Unknown));
        check(&[value(0)], plan(vec![many(2_000), many(2_000)]), Err(Equal::Unknown));
    }

    #[test]
    fn chunks_and_repeats_need_an_index() {
        let chunk = Chunk { hash: BlobHash([1; 32]), size: 1, records: 1 };
        let split = Some(Split { path: "c".to_owned(), chunks: vec![chunk; 2] });
        let repeat = Some(Repeat { times: 2, seed: 9 });
        let name = Template(vec![value(0)]);
        let of = |split, repeat| Plan { split, repeat, ..plan(vec![axis(&["a", "b"])]) };
        assert_eq!(
            check_distinct(&name, &of(split.clone(), None), MAX_RENDERED),
            Err(Equal::Text("a".to_owned()))
        );
        assert_eq!(check_distinct(&name, &of(None, repeat), MAX_RENDERED), Err(Equal::Text("a".to_owned())));
        let seeded = Template(vec![value(0), Piece::Seed]);
        assert_eq!(check_distinct(&seeded, &of(split, repeat), MAX_RENDERED), Ok(()));
    }

    #[test]
    fn a_template_is_compared_with_a_text() {
        let template = Template(vec![Piece::Index { width: 0 }, text("/"), value(0), text(".txt")]);
        let check = |text, whole, start| {
            assert_eq!(likeness(&template, text), Likeness { whole, start }, "{text}");
        };
        check("12/a.txt", true, true);
        check("1/.txt", true, true);
        check("1/a/b.txt", true, true);
        check("1/a.csv", false, true);
        check("12", false, true);
        check("1/", false, true);
        check("", false, true);
        check("/a.txt", false, false);
        check("x1/a.txt", false, false);
        check("1x", false, false);
        // Takes no time however many ways there are.
        assert!(likeness(&Template(vec![value(0); 64]), &"a".repeat(4096)).whole);
    }
}
