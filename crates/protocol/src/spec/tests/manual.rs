//! The manual's examples are specs, and its tables name every key.

use super::super::decode::{AGGREGATES, SPEC_KEYS};
use super::super::fixtures::Files;
use super::super::{Document, Spec, resolve};
use super::schema::violation;

const MANUAL: &str = include_str!("../../../../../docs/manual/job-spec.md");

/// The text of each code block of a language.
fn blocks<'a>(language: &str) -> Vec<&'a str> {
    let start = format!("```{language}\n");
    MANUAL
        .split(start.as_str())
        .skip(1)
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block)
        .collect()
}

#[test]
fn every_example_is_a_job() {
    let mut files = Files::default()
        .with("cases.tsv", "id\ttemp\tmodel\na\t300\tligands/1.pdbqt\nb\t310\tligands/2.pdbqt\n")
        .with("proteome.fasta", ">a\nMK\n>b\nML\n");
    for name in ["kinase.hmm", "in.melt", "../shared/peptide.data", "protein.pdbqt", "pi.py", "plant.mps"] {
        files = files.with(name, name);
    }
    files = files.with("ligands/1.pdbqt", "1").with("ligands/2.pdbqt", "2");
    let examples = blocks("toml");
    assert!(examples.len() >= 7, "{} examples", examples.len());
    for example in examples {
        let document = Document::toml("job-spec.md", example).unwrap_or_else(|errors| panic!("{errors}"));
        let spec = Spec::read(&document).unwrap_or_else(|errors| panic!("{errors}"));
        let resolved = resolve(&spec, &mut files, model::BlobHash([0; 32]));
        resolved.unwrap_or_else(|errors| panic!("{}", document.locate(errors)));
        assert_eq!(violation(&document), None, "{example}");
    }
}

#[test]
fn the_shown_error_is_the_real_one() {
    let error = Document::toml("search.toml", "spec = 1\ncomand = [\"hmmsearch\"]\n");
    let error = error.and_then(|document| Spec::read(&document)).expect_err("a slip of the finger");
    assert_eq!(blocks("text"), [format!("{error}\n")]);
}

#[test]
fn every_key_is_told() {
    let keys = SPEC_KEYS.iter().chain(AGGREGATES.iter().flat_map(|(_, keys)| *keys));
    for key in keys.filter(|key| **key != "$schema") {
        let told = MANUAL.contains(&format!("`{key}`")) || MANUAL.contains(&format!("`{key}."));
        assert!(told || MANUAL.contains(&format!("`{key} = ")), "{key}");
    }
}
