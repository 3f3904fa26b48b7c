//! `cargo xtask bench sealed`: the paper's Table 1 again with sealed files (§5), by the processor time of everything that a
//! subjob takes, its file server included; beside it the program of Figure 4.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::programs::{PROGRAMS, Program, RANDOM_DATA};
use super::tools::Tool;
use super::{load, machine, print_programs, programs};
use crate::bench::grid::Scratch;
use crate::bench::{Options, build};
use crate::workspace::Workspace;

/// The aim for the six programs.
const AIM: &str = "aim for sealed: 1.02 times native as a geometric mean, none above 1.15";

/// The parts of the result: the six programs, and the one that does nothing but write and read.
const PARTS: [&str; 2] = ["programs", "figure_4"];

pub(in crate::bench) fn run(workspace: &Workspace, options: Options<'_>) -> Result<()> {
    let dcgrid = build(workspace)?;
    let scratch = Scratch::new(workspace)?;
    let tools = [Tool::Native, Tool::Dcgrid(dcgrid.clone()), Tool::Sealed(dcgrid)];
    let machine = machine()?;
    let mut failures = Vec::new();
    let (six, one) = chosen(options.only)?;
    let mut found = json!({});
    for (part, of) in PARTS.into_iter().zip([six, one]) {
        if !of.is_empty() {
            found[part] = programs(workspace, &of, &tools, &scratch.0, options.rounds, &mut failures)?;
        }
    }
    let result = json!({
        "machine": machine, "load_at_end": load()?, "rounds": options.rounds, "failures": failures,
        "programs_cpu_ratio": found,
    });
    if options.json {
        println!("{result:#}");
        return Ok(());
    }
    println!(
        "load {} before and {} after, {} rounds",
        result["machine"]["load"], result["load_at_end"], options.rounds
    );
    for failure in &failures {
        println!("left out: {failure}");
    }
    PARTS
        .iter()
        .map(|part| &result["programs_cpu_ratio"][part])
        .filter(|part| !Value::is_null(part))
        .for_each(print_programs);
    println!("\n{AIM}");
    Ok(())
}

/// The programs of the names with commas between, or all: of the six, and the other one.
fn chosen(only: Option<&str>) -> Result<(Vec<&'static Program>, Vec<&'static Program>)> {
    const OTHER: &[Program] = &[RANDOM_DATA];
    let names: Option<Vec<&str>> = only.map(|only| only.split(',').collect());
    let all = || PROGRAMS.iter().chain(OTHER).map(|program| program.name);
    for name in names.iter().flatten() {
        let known = all().collect::<Vec<_>>().join(", ");
        ensure!(all().any(|other| other == *name), "no program '{name}'; there are: {known}");
    }
    let is_chosen = |program: &&Program| names.as_ref().is_none_or(|names| names.contains(&program.name));
    Ok((PROGRAMS.iter().filter(is_chosen).collect(), OTHER.iter().filter(is_chosen).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_chosen_by_name() {
        let names = |programs: Vec<&Program>| programs.iter().map(|program| program.name).collect::<Vec<_>>();
        let (six, one) = chosen(Some("random-data,vina")).expect("both are there");
        assert_eq!((names(six), names(one)), (vec!["vina"], vec!["random-data"]));
        let (six, one) = chosen(None).expect("nothing is named");
        assert_eq!((six.len(), one.len()), (6, 1));
        assert!(chosen(Some("doom")).is_err());
    }
}
