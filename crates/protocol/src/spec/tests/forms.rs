//! The forms of one spec: TOML, JSON, and its own serialization; and texts that are no spec at all.

use std::path::Path;

use model::BlobHash;

use super::super::fixtures::Files;
use super::super::{Document, Spec, resolve};
use super::{files, golden, resolved, schema};

/// A spec with every key.
const FULL: &str = r##"
spec = 1
name = "all of it"
command = ["run", "{in.hmm}", "{chunk}", "{sweep.b}", "{sweep.a}", "{sweep.lig}", "{sweep.temp}", "{seed}", "{{"]
app = { program = "bin/run", include = ["helper"], jit = true, gui = "800x600" }
env = { T = "{cpus}", N = 1_000, F = 0.10 }
stdin = "{chunk}"
inputs = { hmm = "query.hmm", db = { path = "db.fa", as = "in/part.fa" } }
split = { input = "db", format = "fasta", bytes = "7B" }
repeat = { times = 2, seed = 18446744073709551615 }
outputs = ["o/{index:04}.txt", { path = "log", optional = true }]
attempts = 5
sealed = true

[sweep]
table = { file = "cases.tsv" }
[sweep.values]
b = [true, "x", 0x10, 1.50]
a = { range = [0.1, 0.3, 0.1] }
lig = { glob = "ligands/*.pdbqt" }

[[aggregate]]
how = "concat"
from = "stdout"
out = "all.txt"
header_lines = 1
comment = "#"
comments = "head"
squeeze_blanks = true
sort = ["line", "field:2:numeric:descending"]
top = 10
[[aggregate]]
how = "table"
from = "log"
out = "t.csv"
row = 'r.*'
columns = ["a", "seed", { name = "v", value = "{sweep.lig.stem}" }, { name = "x", regex = 'x=(\d+)' }]
sort = ["x:numeric:descending", "a"]
top = 3
[[aggregate]]
how = "files"
from = "o/{index:04}.txt"
to = "o/{index:04}.txt"

[resources]
cpus = 2
memory = "1.5GiB"
disk = "4GB"
[limits]
runtime_min = "20s"
runtime_max = "1.5h"
processes = 9
output = "1MB"
cpu_max = "1h"
io_rate = "20MB"
[network]
allow = ["10.2.0.5:5432", "[2001:db8::7]:443", "db.example:5432"]
rate = "1MB"
[secrets]
KEY = { env = "MY_KEY" }
LICENSE = { file = "license.txt" }
"##;

fn spec(text: &str) -> Spec {
    let document = Document::toml("full.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
    Spec::read(&document).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn a_spec_is_the_same_in_every_form() {
    let toml = spec(FULL);
    let json = serde_json::to_string_pretty(&toml).expect("a spec is plain data");
    let document = Document::json("full.json", &json).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(Spec::read(&document).unwrap_or_else(|errors| panic!("{errors}")), toml);
    assert_eq!(serde_json::from_str::<Spec>(&json).expect("a spec"), toml);
    assert_eq!(schema::violation(&document), None);
    assert_eq!(schema::violation(&Document::toml("full.toml", FULL).expect("read before")), None);
    let plan = |spec: &Spec| resolve(spec, &mut files(), BlobHash([7; 32])).unwrap_or_else(|e| panic!("{e}"));
    let again = Spec::read(&document).expect("read before");
    assert_eq!(plan(&again), plan(&toml));
}

#[test]
fn a_full_spec_gives_its_plan() {
    let resolved = resolved(FULL, &mut files()).unwrap_or_else(|errors| panic!("{errors}"));
    let json = serde_json::to_string_pretty(&resolved.plan).expect("a plan is plain data") + "\n";
    golden::check(Path::new("src/spec/tests/full-plan.json"), include_str!("full-plan.json"), &json);
    let (content, index) = resolved.split.expect("split");
    assert_eq!((content.size, index.size, index.records, index.chunks.len()), (18, 18, 3, 2));
    assert_eq!(index.chunks[1].offset, 12);
}

/// Whatever a text is, reading it ends in a plan or in errors that can be shown.
fn read_whatever(text: &str, files: &mut Files) {
    if let Err(errors) = resolved(text, files) {
        assert!(!errors.0.is_empty() && errors.0.len() <= 10);
        assert!(!errors.to_string().is_empty());
    }
    if let Ok(document) = Document::json("x.json", text) {
        let spec = Spec::read(&document);
        let outcome = spec.and_then(|spec| resolve(&spec, files, BlobHash([0; 32])));
        if let Err(errors) = outcome {
            assert!(!document.locate(errors).to_string().is_empty());
        }
    }
}

#[test]
fn no_text_brings_the_reader_down() {
    let json = serde_json::to_string(&spec(FULL)).expect("a spec is plain data");
    let scraps = [
        "",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "=",
        ",",
        "\n",
        "\\",
        "\0",
        "é",
        "..",
        "/",
        "-1",
        "0",
        "1e999",
        "99999999999999999999",
        "null",
        "{chunk}",
        "{sweep.a}",
        "{index:099}",
        "{in.}",
        ":",
        "how = \"files\"",
        "nan",
        "\u{202e}",
        "*",
        "[[aggregate]]",
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        // xorshift64: the same texts in every run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % limit.max(1) as u64) as usize
    };
    let mut files = files();
    for round in 0..3_000 {
        let source = if round % 2 == 0 { FULL } else { &json };
        let mut chars: Vec<char> = source.chars().collect();
        for _ in 0..=below(3) {
            let at = below(chars.len());
            let end = (at + below(12)).min(chars.len());
            match below(3) {
                0 => drop(chars.drain(at..end)),
                1 => drop(chars.splice(at..at, scraps[below(scraps.len())].chars())),
                _ => {
                    let moved: Vec<char> = chars[at..end].to_vec();
                    let to = below(chars.len());
                    chars.splice(to..to, moved);
                }
            }
        }
        read_whatever(&chars.iter().collect::<String>(), &mut files);
    }
    // Each line alone taken away, and each line doubled.
    let lines: Vec<&str> = FULL.lines().collect();
    for at in 0..lines.len() {
        let without = [&lines[..at], &lines[at + 1..]].concat().join("\n");
        let doubled = [&lines[..=at], &lines[at..]].concat().join("\n");
        read_whatever(&without, &mut files);
        read_whatever(&doubled, &mut files);
    }
}
