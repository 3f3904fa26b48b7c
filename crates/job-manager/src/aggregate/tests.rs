//! Whole aggregates: the outputs of real programs, hostile texts, and any cut of a text against the whole.

use model::plan::{
    Aggregate, Axis, CellSource, Comments, Concat, Piece, Plan, Repeat, SortKey, Source, Table, TableColumn,
    Template, ValuePart,
};

use super::{AggregateError, Aggregator, target};
use crate::fixtures::{Xorshift, column, plan, text};

fn concat() -> Concat {
    Concat {
        from: Source::Stdout,
        out: "all.txt".into(),
        header_lines: 0,
        comment: None,
        comments: Comments::Drop,
        squeeze_blanks: false,
        sort: Vec::new(),
        top: None,
    }
}

fn table(row: Option<&str>, columns: &[(&str, &str)]) -> Table {
    let columns = columns.iter().map(|(name, pattern)| TableColumn {
        name: (*name).into(),
        value: CellSource::Regex((*pattern).into()),
    });
    Table {
        from: Source::Stdout,
        out: "all.csv".into(),
        row: row.map(str::to_owned),
        columns: columns.collect(),
        sort: Vec::new(),
        top: None,
    }
}

fn by(field: u32, numeric: bool, descending: bool) -> SortKey {
    SortKey { field: Some(field), numeric, descending }
}

const BY_LINE: SortKey = SortKey { field: None, numeric: false, descending: false };

fn run(plan: &Plan, texts: &[&[u8]]) -> Result<Vec<u8>, AggregateError> {
    let mut out = Vec::new();
    let mut aggregator = Aggregator::new(plan, 0)?;
    for (index, text) in (0..).zip(texts) {
        aggregator.add(index, text, &mut out)?;
    }
    aggregator.finish(&mut out)?;
    Ok(out)
}

fn check(aggregate: Aggregate, texts: &[&[u8]], expect: &[u8]) {
    let plan = Plan { aggregate: vec![aggregate], ..plan() };
    let found = run(&plan, texts).unwrap();
    assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(expect));
    assert_eq!(found, expect);
}

fn check_concat(rule: Concat, texts: &[&[u8]], expect: &[u8]) {
    check(Aggregate::Concat(rule), texts, expect);
}

#[test]
fn texts_follow_each_other() {
    check_concat(concat(), &[], b"");
    check_concat(concat(), &[b"", b""], b"");
    check_concat(concat(), &[b"a", b"", b"b\n\n", b"c"], b"a\nb\n\nc\n");
    check_concat(concat(), &[b"a\r\nb", b"\0\xff"], b"a\r\nb\n\0\xff\n");
    check_concat(Concat { top: Some(3), ..concat() }, &[b"a\nb", b"c\nd\n", b"e"], b"a\nb\nc\n");
    check_concat(Concat { top: Some(0), ..concat() }, &[b"a\nb"], b"");
}

#[test]
fn a_header_is_kept_once() {
    let rule = || Concat { header_lines: 2, ..concat() };
    check_concat(rule(), &[b"h\ni\na\n", b"h\ni\nb", b"h\ni\n", b"h"], b"h\ni\na\nb\n");
    // An empty text has no header to give.
    check_concat(rule(), &[b"", b"h\ni\na\n", b"h\ni\nb"], b"h\ni\na\nb\n");
    check_concat(Concat { squeeze_blanks: true, ..rule() }, &[b"t   e\n----\n1  2 \n"], b"t e\n----\n1 2\n");
    check_concat(
        Concat { sort: vec![by(1, true, false)], top: Some(2), ..rule() },
        &[b"n\n-\n3\n2\n", b"n\n-\n1\n"],
        b"n\n-\n1\n2\n",
    );
}

#[test]
fn comments_are_dropped_or_kept_at_the_head() {
    let rule = |comments| Concat { comment: Some("#".into()), comments, ..concat() };
    let texts: &[&[u8]] = &[b"# a\n#  b\nx\n# c\n", b"# a\n#  b\ny\n"];
    check_concat(rule(Comments::Drop), texts, b"x\ny\n");
    check_concat(rule(Comments::Head), texts, b"# a\n#  b\nx\ny\n");
    check_concat(
        Concat {
            sort: vec![SortKey { descending: true, ..BY_LINE }],
            squeeze_blanks: true,
            ..rule(Comments::Head)
        },
        texts,
        b"# a\n#  b\ny\nx\n",
    );
    check_concat(rule(Comments::Head), &[b"", b"# a\n", b"# b\nx"], b"# a\nx\n");
    check_concat(rule(Comments::Drop), &[b"# a", b"#", b"#\n#\n"], b"");
    // Comments of the first text are still shown when no line is.
    check_concat(Concat { top: Some(0), ..rule(Comments::Head) }, texts, b"# a\n#  b\n");
    check_concat(Concat { comment: Some(String::new()), ..concat() }, &[b"a\n"], b"a\n");
    check_concat(
        Concat { header_lines: 1, ..rule(Comments::Head) },
        &[b"# h\n# a\nx", b"# h\ny"],
        b"# h\n# a\nx\ny\n",
    );
}

#[test]
fn lines_are_sorted_as_they_are() {
    let rule = |key: SortKey| Concat { sort: vec![key], ..concat() };
    check_concat(rule(BY_LINE), &[b"b\na", b"\xff\n\0\n", b"", b"B\n\n"], b"\n\0\nB\na\nb\n\xff\n");
    // The return of a CRLF line is no part of its last field, but stays in the line.
    check_concat(rule(by(2, true, false)), &[b"a 10\r\nb 9\r\n", b"c 9.5"], b"b 9\r\nc 9.5\na 10\r\n");
    check_concat(rule(by(3, true, true)), &[b" a  b\t1\n", b"a b 2\nx"], b"a b 2\n a  b\t1\nx\n");
}

/// Two parts of a search as `hmmsearch --tblout` writes them; column widths follow the longest name of each.
const HITS: [&[u8]; 3] = [
    b"#                                                               --- full sequence ---- --- best 1 domain ----
# target name        accession  query name           accession    E-value  score  bias   E-value  score  bias   exp reg clu  ov env dom rep inc description of target
#------------------- ---------- -------------------- ---------- --------- ------ ----- --------- ------ -----   --- --- --- --- --- --- --- --- ---------------------
sq000017             -          globins4             -            6.5e-65  222.7   3.2   7.2e-65  222.6   3.2   1.0   1   0   0   1   1   1   1 made for a test
sq000003             -          globins4             -            8.8e-05   14.1   0.0     0.012    7.0   0.0   2.4   2   1   0   2   2   2   1 -
#
# Program:         hmmsearch
# Option settings: hmmsearch --tblout hits.tbl -Z 20000 globins4.hmm part.fa
# [ok]
",
    b"#                                                                    --- full sequence ---- --- best 1 domain ----
# target name             accession  query name           accession    E-value  score  bias   E-value  score  bias   exp reg clu  ov env dom rep inc description of target
#------------------------ ---------- -------------------- ---------- --------- ------ ----- --------- ------ -----   --- --- --- --- --- --- --- --- ---------------------
sq000044_with_a_long_name -          globins4             -           1.2e-101  341.9   8.1  1.3e-101  341.8   8.1   1.0   1   0   0   1   1   1   1 made for a test
#
# [ok]
",
    b"#                                                               --- full sequence ---- --- best 1 domain ----
#
# [ok]
",
];

#[test]
fn a_protein_search_is_one_table_of_hits() {
    let rule = Concat {
        comment: Some("#".into()),
        squeeze_blanks: true,
        sort: vec![by(5, true, false), by(1, false, false)],
        ..concat()
    };
    let hits = "\
sq000044_with_a_long_name - globins4 - 1.2e-101 341.9 8.1 1.3e-101 341.8 8.1 1.0 1 0 0 1 1 1 1 made for a test
sq000017 - globins4 - 6.5e-65 222.7 3.2 7.2e-65 222.6 3.2 1.0 1 0 0 1 1 1 1 made for a test
sq000003 - globins4 - 8.8e-05 14.1 0.0 0.012 7.0 0.0 2.4 2 1 0 2 2 2 1 -
";
    check_concat(rule.clone(), &HITS, hits.as_bytes());
    let head = HITS[0].split_inclusive(|byte| *byte == b'\n').take(3).collect::<Vec<_>>().concat();
    let first = hits.split_inclusive('\n').next().unwrap().as_bytes();
    check_concat(Concat { comments: Comments::Head, top: Some(1), ..rule }, &HITS, &[&head, first].concat());
}

/// What AutoDock Vina prints about one ligand.
fn docking(affinities: &[f64]) -> Vec<u8> {
    let mut log = "Detected 2 CPUs\nUsing random seed: 20050611\nPerforming search ... done.\n\n\
mode |   affinity | dist from best mode
     | (kcal/mol) | rmsd l.b.| rmsd u.b.
-----+------------+----------+----------
"
    .to_owned();
    for (mode, affinity) in (1..).zip(affinities) {
        let distance = f64::from(mode - 1) * 1.823;
        log += &format!("{mode:4}    {affinity:>9}  {distance:>9}  {distance:>9}\n");
    }
    log.into_bytes()
}

/// One subjob per ligand.
fn screening(rule: Table) -> Plan {
    let mut ligands = Table { columns: Vec::new(), ..rule.clone() };
    ligands.columns.push(TableColumn {
        name: "ligand".into(),
        value: CellSource::Template(Template(vec![Piece::Value {
            axis: 0,
            column: 0,
            part: ValuePart::Stem,
        }])),
    });
    ligands.columns.extend(rule.columns);
    Plan {
        axes: vec![Axis {
            columns: vec![column("ligand", &["in/lig01.pdbqt", "in/lig,02.pdbqt", "in/lig03.pdbqt"])],
        }],
        aggregate: vec![Aggregate::Table(ligands)],
        ..plan()
    }
}

#[test]
fn a_screening_is_a_table_of_affinities_best_first() {
    let best = table(None, &[("affinity", r"^\s+1\s+(-?[\d.]+)")]);
    let plan = screening(Table { sort: vec![by(2, true, false)], ..best });
    let logs = [docking(&[-7.1, -6.998]), docking(&[-10.21]), b"Parse error\n".to_vec()];
    let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
    let expect = "ligand,affinity\n\"lig,02\",-10.21\nlig01,-7.1\nlig03,\n";
    assert_eq!(String::from_utf8(run(&plan, &logs).unwrap()).unwrap(), expect);

    let modes = table(
        Some(r"^\s+\d+\s+-?\d+(\.\d+)?\s.*$"),
        &[("mode", r"^\s+(\d+)"), ("affinity", r"^\s+\d+\s+(\S+)"), ("rmsd", r"(\S+)\s+\S+$")],
    );
    let plan = screening(Table { sort: vec![by(3, true, false), by(1, false, true)], top: Some(3), ..modes });
    let expect = "ligand,mode,affinity,rmsd\n\"lig,02\",1,-10.21,0\nlig01,1,-7.1,0\nlig01,2,-6.998,1.823\n";
    assert_eq!(String::from_utf8(run(&plan, &logs).unwrap()).unwrap(), expect);

    // Text keys are the bare cells, not their quoted form.
    let plan = screening(Table { sort: vec![by(1, false, true)], ..table(None, &[]) });
    assert_eq!(run(&plan, &logs).unwrap(), b"ligand\nlig03\nlig01\n\"lig,02\"\n");
}

#[test]
fn rows_are_found_in_any_bytes() {
    let check = |rule: Table, texts: &[&[u8]], expect: &[u8]| check(Aggregate::Table(rule), texts, expect);
    check(table(None, &[("n", r"n=(\d+)")]), &[b"", b"n=5"], b"n\n\"\"\n5\n");
    check(table(Some("^.*$"), &[("line", ".*")]), &[b"", b"a\r\n\r\nb\xff", b"\n\n"], b"line\na\nb\xff\n");
    check(table(Some(r"\d*"), &[("n", r"\d+")]), &[b"a1b\0 23"], b"n\n1\n23\n");
    check(
        table(Some("^r .*$"), &[("e", "^e"), ("all", "^r.*$")]),
        &[b"r 1\ne\nr 2\n"],
        b"e,all\n,r 1\n,r 2\n",
    );
    check(table(Some("b"), &[("x", "b|(c)")]), &[b"b"], b"x\n\"\"\n");
    check(table(Some("Å+"), &[("x", "(?u:[Åé])")]), &["ÅÅ".as_bytes()], "x\nÅ\n".as_bytes());
    check(Table { top: Some(2), ..table(Some("."), &[("x", ".")]) }, &[b"ab", b"cd"], b"x\na\nb\n");
    check(table(Some("."), &[("a,b", "."), ("", ".")]), &[], b"\"a,b\",\n");
}

#[test]
fn an_unsound_aggregate_is_refused() {
    let check = |aggregate: Aggregate, expect: &str| {
        let plan = Plan { aggregate: vec![aggregate], ..plan() };
        assert_eq!(Aggregator::new(&plan, 0).unwrap_err().to_string(), expect);
    };
    let zero = vec![by(0, true, false)];
    check(
        Aggregate::Concat(Concat { sort: zero.clone(), ..concat() }),
        "all.txt: the fields to sort by count from 1",
    );
    check(
        Aggregate::Table(Table { sort: zero, ..table(None, &[]) }),
        "all.csv: the fields to sort by count from 1",
    );
    check(
        Aggregate::Table(Table { sort: vec![by(2, true, false)], ..table(None, &[("a", "b")]) }),
        "all.csv: no column 2 to sort by, the table has 1",
    );
    check(
        Aggregate::Table(table(Some("("), &[])),
        "all.csv: the regular expression of the rows is not usable",
    );
    // Too large once compiled, and too deep: refused before any of it is run.
    let deep = "(".repeat(1_000) + &")".repeat(1_000);
    for pattern in ["a{1000}{1000}", "((a{100}){100}){100}", "[é]", deep.as_str()] {
        check(
            Aggregate::Table(table(None, &[("energy", pattern)])),
            "all.csv: the regular expression of column 'energy' is not usable",
        );
    }
    check(
        Aggregate::Files { from: Source::Stdout, to: text("x") },
        "aggregate 0 keeps a file of each subjob and joins nothing",
    );
    assert_eq!(Aggregator::new(&plan(), 3).unwrap_err().to_string(), "the job has no aggregate 3");
}

#[test]
fn misuse_and_a_full_disk_are_errors() {
    let lines = Plan { aggregate: vec![Aggregate::Concat(concat())], ..plan() };
    let mut aggregator = Aggregator::new(&lines, 0).unwrap();
    aggregator.add(4, b"a", &mut Vec::new()).unwrap();
    let again = aggregator.add(4, b"a", &mut Vec::new()).unwrap_err();
    assert_eq!(again.to_string(), "all.txt: subjob 4 was added after subjob 4");
    let mut no_room: &mut [u8] = &mut [0; 3];
    let full = aggregator.add(5, b"four", &mut no_room).unwrap_err();
    assert_eq!(full.to_string(), "all.txt: the result could not be written");

    let lost = screening(table(None, &[]));
    let mut aggregator = Aggregator::new(&lost, 0).unwrap();
    let lost = aggregator.add(3, b"", &mut Vec::new()).unwrap_err();
    assert_eq!(lost.to_string(), "all.csv: the plan has no subjob 3 that fits its templates");
}

#[test]
fn kept_files_have_names_of_their_own() {
    let to =
        Template(vec![Piece::Text("frames/".into()), Piece::Index { width: 3 }, Piece::Text(".png".into())]);
    let plan = Plan {
        repeat: Some(Repeat { times: 20, seed: 1 }),
        aggregate: vec![Aggregate::Files { from: Source::Output(0), to }, Aggregate::Concat(concat())],
        ..plan()
    };
    assert_eq!(target(&plan, 0, 7).as_deref(), Some("frames/007.png"));
    assert_eq!(target(&plan, 0, 20), None);
    assert_eq!(target(&plan, 1, 7), None);
    assert_eq!(target(&plan, 2, 7), None);
}

#[test]
fn any_cut_of_the_lines_gives_the_serial_result() {
    let mut random = Xorshift::new(42);
    for _ in 0..200 {
        let lines: Vec<Vec<u8>> = (0..random.below(60)).map(|_| random_line(&mut random)).collect();
        let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
        for line in &lines {
            if random.below(5) == 0 {
                texts.push(Vec::new());
            }
            let last = texts.last_mut().unwrap();
            last.extend_from_slice(line);
            last.push(b'\n');
        }
        for text in &mut texts {
            // Half of the texts miss their last newline; after an empty last line it can't be left out.
            if random.below(2) == 0 && text.ends_with(b"\n") && !text.ends_with(b"\n\n") && text != b"\n" {
                text.pop();
            }
        }
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let top = [None, Some(random.below(20))][random.below(2) as usize];
        let take = top.map_or(usize::MAX, |top| top as usize);
        let joined = |lines: &[Vec<u8>]| -> Vec<u8> {
            lines.iter().take(take).flat_map(|line| [line.as_slice(), b"\n"].concat()).collect()
        };
        check_concat(Concat { top, ..concat() }, &texts, &joined(&lines));
        let mut sorted = lines.clone();
        sorted.sort();
        check_concat(Concat { sort: vec![BY_LINE], top, ..concat() }, &texts, &joined(&sorted));
        let descending = SortKey { numeric: true, descending: true, ..BY_LINE };
        let mut sorted = lines.clone();
        sorted.sort_by(|a, b| naive_number(a).total_cmp(&naive_number(b)));
        check_concat(Concat { sort: vec![descending], top, ..concat() }, &texts, &joined(&sorted));
    }
}

/// Few short words and small numbers, so that equal lines are common.
fn random_line(random: &mut Xorshift) -> Vec<u8> {
    match random.below(3) {
        0 => (0..random.below(4)).map(|_| b"ab \0\xff\t,"[random.below(7) as usize]).collect(),
        1 => random.below(9).to_string().into_bytes(),
        _ => format!("{}e-{}", random.below(9), random.below(3)).into_bytes(),
    }
}

/// Sorts as the line's number does when descending; what is no number is behind all.
fn naive_number(line: &[u8]) -> f64 {
    let number = std::str::from_utf8(line).ok().and_then(|text| text.trim().parse::<f64>().ok());
    // `0.0 -` rather than a negation: no zero may be negative, total order tells the two apart.
    number.map_or(f64::INFINITY, |number| 0.0 - number)
}

/// A measurement too: the test runner shows what it took.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimization: run with --release")]
fn a_million_lines_are_sorted_by_number() {
    million(by(2, true, false));
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow without optimization: run with --release")]
fn a_million_lines_are_sorted_by_text() {
    million(BY_LINE);
}

/// 40 texts of 25,000 hits each.
fn million(key: SortKey) {
    let mut random = Xorshift::new(1);
    let texts: Vec<Vec<u8>> = (0..40)
        .map(|_| {
            let hits = (0..25_000).map(|_| {
                format!(
                    "sq{:06} {}.{}e-{} made for a test\n",
                    random.below(1_000_000),
                    random.below(10),
                    random.below(10),
                    random.below(99)
                )
            });
            hits.collect::<String>().into_bytes()
        })
        .collect();
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let plan = Plan { aggregate: vec![Aggregate::Concat(Concat { sort: vec![key], ..concat() })], ..plan() };
    let out = run(&plan, &texts).unwrap();
    let lines: Vec<&str> = std::str::from_utf8(&out).unwrap().lines().collect();
    assert_eq!(lines.len(), 1_000_000);
    if key.numeric {
        let number = |line: &str| line.split(' ').nth(1).unwrap().parse::<f64>().unwrap();
        assert!(lines.is_sorted_by_key(|line| number(line)));
    } else {
        assert!(lines.is_sorted());
    }
}
