//! The jobs of `examples/` on a grid of two clients, each compared with its own serial run: the same files, with the
//! same bytes in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use grid_tests::{Grid, have, repository, run};

/// Files of a directory by their path in it.
type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn a_protein_search_in_forty_parts() {
    let needs = [
        "hmmsearch",
        "/usr/share/doc/hmmer/examples/tutorial/globins4.hmm",
        "/usr/share/doc/mmseqs2/example-data/DB.fasta.gz",
    ];
    let Some(result) = check("protein-search", 40, &needs, <[u8]>::to_vec) else { return };
    for (table, least) in [("hits.tbl", 500), ("domains.tbl", 800)] {
        let text = String::from_utf8_lossy(&result[table]);
        assert_eq!(text.lines().take_while(|line| line.starts_with('#')).count(), 3, "{text}");
        assert!(text.lines().filter(|line| !line.starts_with('#')).count() > least, "{text}");
    }
}

/// The examples run sealed wherever that can be had; that makes no difference.
#[test]
fn a_protein_search_on_clients_that_do_not_seal() {
    let needs = [
        "hmmsearch",
        "/usr/share/doc/hmmer/examples/tutorial/globins4.hmm",
        "/usr/share/doc/mmseqs2/example-data/DB.fasta.gz",
    ];
    check_on(&["--seal", "off"], "protein-search", 40, &needs, <[u8]>::to_vec);
}

#[test]
fn molecular_dynamics_at_eight_temperatures() {
    let needs = ["lmp", "/usr/share/lammps/examples/peptide/in.peptide"];
    let Some(result) = check("molecular-dynamics", 8, &needs, <[u8]>::to_vec) else { return };
    let text = String::from_utf8_lossy(&result["thermo.csv"]);
    assert_eq!(text.lines().count(), 1 + 8 * 11, "{text}");
}

#[test]
fn an_animation_of_24_frames() {
    let needs = ["povray", "/usr/share/povray-3.7/include/textures.inc"];
    let Some(result) = check("animation", 24, &needs, pixels) else { return };
    assert_eq!(result.len(), 24);
    assert!(result["frame00.png"] != result["frame01.png"], "nothing moves");
}

#[test]
fn a_docking_of_six_ligands() {
    let needs = ["vina", "/usr/share/doc/autodock-vina/test-data/protein.pdbqt.gz"];
    let Some(result) = check("docking", 12, &needs, <[u8]>::to_vec) else { return };
    let text = String::from_utf8_lossy(&result["affinities.csv"]);
    let affinities: Vec<f64> =
        text.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!((affinities.len(), result.len()), (12, 13), "{text}");
    assert!(affinities.is_sorted() && affinities[0] < -1.0, "the best binder is not first: {text}");
}

#[test]
fn a_monte_carlo_with_a_seed_for_each_run() {
    let Some(result) = check("monte-carlo", 42, &["/usr/bin/python3"], <[u8]>::to_vec) else { return };
    let text = String::from_utf8_lossy(&result["runs.csv"]);
    let mut seeds: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(',').nth(1)).collect();
    seeds.dedup();
    assert_eq!(seeds.len(), 42, "{text}");
}

#[test]
fn an_alignment_of_twelve_families() {
    let needs = ["mafft", "hmmemit", "/usr/share/doc/hmmer/examples/tutorial/globins4.hmm"];
    let Some(result) = check("alignment", 12, &needs, <[u8]>::to_vec) else { return };
    assert_eq!(result.len(), 12);
    for (name, text) in &result {
        assert_eq!(text.iter().filter(|byte| **byte == b'>').count(), 12, "{name}");
    }
}

/// Prepares an example, runs it on a grid and serially, and compares what `content` finds in the files. Gives these
/// contents back, or nothing if the example can't run here.
fn check(name: &str, subjobs: u64, needs: &[&str], content: fn(&[u8]) -> Vec<u8>) -> Option<Files> {
    check_on(&[], name, subjobs, needs, content)
}

/// Like [`check`], on clients with these options.
fn check_on(
    options: &[&str],
    name: &str,
    subjobs: u64,
    needs: &[&str],
    content: fn(&[u8]) -> Vec<u8>,
) -> Option<Files> {
    if !have(needs) {
        return None;
    }
    let mut grid = Grid::start(0);
    for number in 0..2 {
        grid.clients.push(grid.start_client_with(number, 2, options));
    }
    let example = grid.scratch.path().join(name);
    copy(&repository().join("examples").join(name), &example);
    run(&mut Command::new(example.join("prepare.sh"))).ok();

    let spec = example.join("job.toml");
    let spec = spec.to_str().expect("a path of our own making");
    let view = grid.cli(&["--json", "submit", "--wait", spec]).json();
    let counts = &view["counts"];
    assert_eq!((&counts["total"], &counts["succeeded"]), (&subjobs.into(), &subjobs.into()), "{view}");
    grid.cli(&["get", &view["job"].to_string(), "--dest", "result"]).ok();
    run(&mut Command::new(example.join("serial.sh"))).ok();

    let files = |directory: &Path| -> Files {
        files(directory).into_iter().map(|(path, bytes)| (path, content(&bytes))).collect()
    };
    let (result, serial) = (files(&grid.scratch.path().join("result")), files(&example.join("serial")));
    assert_eq!(result.keys().collect::<Vec<_>>(), serial.keys().collect::<Vec<_>>());
    for (path, bytes) in &result {
        assert!(*bytes == serial[path], "{path} differs from the serial run's");
    }
    Some(result)
}

/// A PNG image without the parts that tell when it was made: its header and its compressed pixels.
pub fn pixels(png: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    let mut rest = png.strip_prefix(b"\x89PNG\r\n\x1a\n").expect("a PNG file");
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        // A chunk is its length, its kind in four letters, so many bytes, and a checksum.
        let (chunk, next) = after.split_at(4 + u32::from_be_bytes(*length) as usize);
        if chunk.starts_with(b"IHDR") || chunk.starts_with(b"IDAT") {
            found.extend_from_slice(chunk);
        }
        rest = &next[4..];
    }
    assert!(found.len() > 100, "a PNG file without pixels");
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the example is there") {
        let path = entry.expect("the example can be listed").path();
        // What somebody who tried the example made beside it is not part of it.
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().expect("an entry has a name"))).expect("a copy");
        }
    }
}

fn files(directory: &Path) -> Files {
    let mut found = Files::new();
    let mut waiting: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).expect("a result") {
            let path = entry.expect("a result can be listed").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(directory).expect("it lies below").display().to_string();
                found.insert(name, std::fs::read(&path).expect("a result can be read"));
            }
        }
    }
    found
}
