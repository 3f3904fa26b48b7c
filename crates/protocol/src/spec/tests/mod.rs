//! Tests of the whole way from text to plan.

mod errors;
mod forms;
mod golden;
mod manual;
mod schema;
mod workloads;

use model::BlobHash;
use model::plan::Plan;

use super::fixtures::Files;
use super::{Document, Resolved, Spec, SpecErrors, resolve};

/// Reads a TOML spec called `search.toml` and resolves it.
fn resolved(text: &str, files: &mut Files) -> Result<Resolved, SpecErrors> {
    let document = Document::toml("search.toml", text)?;
    let spec = Spec::read(&document)?;
    resolve(&spec, files, BlobHash([7; 32])).map_err(|errors| document.locate(errors))
}

fn plan(text: &str, files: &mut Files) -> Plan {
    resolved(text, files).unwrap_or_else(|errors| panic!("{errors}")).plan
}

/// The files that the tests' specs speak of.
fn files() -> Files {
    Files::default()
        .with("query.hmm", "HMM")
        .with("db.fa", ">a\nMK\n>b\nML\n>c\nMM\n")
        .with("protein.pdbqt", "ATOM")
        .with("ligands/lig01.pdbqt", "1")
        .with("ligands/lig02.pdbqt", "22")
        .with("more/lig01.pdbqt", "333")
        .with("cases.tsv", "id\ttemp\tmodel\na\t300\tligands/lig01.pdbqt\nb\t310\tligands/lig02.pdbqt\n")
        .with("empty.fa", "")
}
