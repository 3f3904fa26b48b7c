//! Measures how fast a FASTA file is indexed and a large parameter table resolved.
//!
//! `cargo run --release -p protocol --example spec_speed`

use std::fmt::Write as _;
use std::io::{BufReader, Cursor};
use std::num::NonZeroU64;
use std::time::Instant;

use model::BlobHash;
use model::plan::Content;
use protocol::spec::{Document, Spec, SpecFiles, resolve};
use protocol::split::{READ_BUFFER, SplitFormat, SplitIndex, SplitRule, index_fasta};

fn main() {
    // The table goes first: the most memory a process ever had is known only as a whole.
    resolve_speed();
    index_speed();
}

fn index_speed() {
    // Proteins of 360 residues in lines of 60, as databases have them; 1 GiB.
    let line = "MKVLAAGIVGLCAKAYERQWTSPNDEHFIMKVLAAGIVGLCAKAYERQWTSPNDEHFIMK\n";
    let record = format!(">sp|P12345|NAME_HUMAN A protein of some family -> known\n{}", line.repeat(6));
    let file = record.repeat((1 << 30) / record.len());
    let gigabytes = file.len() as f64 / 1e9;
    let number = |number| NonZeroU64::new(number).expect("not zero");
    let rules = [
        ("records = 10000", SplitRule::Records(number(10_000))),
        ("parts = 500", SplitRule::Parts(number(500))),
        ("bytes = 64 MiB", SplitRule::Bytes(number(64 << 20))),
        ("records = 3", SplitRule::Records(number(3))),
    ];
    for (name, rule) in rules {
        let reader = BufReader::with_capacity(READ_BUFFER, Cursor::new(&file));
        let start = Instant::now();
        let index = index_fasta(reader, rule).expect("a good file");
        let speed = gigabytes / start.elapsed().as_secs_f64();
        println!("index, {name}: {speed:.2} GB/s, {} chunks", index.chunks.len());
    }
}

/// One table in memory.
struct Table(String);

impl SpecFiles for Table {
    fn glob(&mut self, _pattern: &str) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    fn read(&mut self, _path: &str, _limit: usize) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn content(&mut self, path: &str) -> Result<Content, String> {
        Ok(Content { hash: BlobHash(*blake3::hash(path.as_bytes()).as_bytes()), size: 1 })
    }

    fn split(&mut self, _: &str, _: SplitFormat, _: SplitRule) -> Result<SplitIndex, String> {
        Err("no file is split".to_owned())
    }
}

fn resolve_speed() {
    let rows = 1_000_000;
    let mut table = "name,model,pH,temp,note\n".to_owned();
    for row in 0..rows {
        let (ph, temp) = (row % 14, 250 + row % 97);
        writeln!(table, "case-{row},models/m{row}.pdb,{ph}.5,{temp},\"a note, quoted\"")
            .expect("a string takes all");
    }
    let megabytes = table.len() as f64 / 1e6;
    let mut files = Table(table);
    let text = r#"
        spec = 1
        command = ["fold", "{sweep.model}", "{sweep.pH}", "{sweep.temp}"]
        sweep = { table = { file = "cases.csv", inputs = ["model"] } }
        outputs = ["{sweep.name}.out"]
        aggregate = { how = "files", to = "{sweep.name}-{sweep.pH}.out" }
    "#;
    let start = Instant::now();
    let document = Document::toml("fold.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
    let spec = Spec::read(&document).unwrap_or_else(|errors| panic!("{errors}"));
    let resolved = resolve(&spec, &mut files, BlobHash([0; 32])).unwrap_or_else(|errors| panic!("{errors}"));
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "resolve, {rows} rows of {megabytes:.0} MB: {seconds:.2} s, {:?} subjobs",
        resolved.plan.subjobs()
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!(
        "resolve, most memory: {} of which the table {megabytes:.0} MB, twice",
        peak.unwrap_or("unknown").trim()
    );
}
