//! Real programs, each split as its users split it.

use model::plan::{
    Aggregate, Axis, CellSource, Comments, Concat, Piece, Plan, SortKey, Source, Template, ValuePart,
};
use model::{BlobHash, ByteSize};

use super::{files, plan};

fn text(text: &str) -> Template {
    Template(vec![Piece::Text(text.to_owned())])
}

fn value(axis: u32) -> Piece {
    Piece::Value { axis, column: 0, part: ValuePart::Whole }
}

/// The values of each column of each axis.
fn values(plan: &Plan) -> Vec<Vec<Vec<&str>>> {
    let columns = |axis: &'_ Axis| axis.columns.len();
    plan.axes
        .iter()
        .map(|axis| (0..columns(axis)).map(|column| axis.columns[column].values.iter().collect()).collect())
        .collect()
}

fn hash(text: &str) -> BlobHash {
    BlobHash(*blake3::hash(text.as_bytes()).as_bytes())
}

#[test]
fn hmmsearch_over_a_cut_database() {
    let plan = plan(
        r##"
        spec = 1
        command = "hmmsearch --cpu 0 --max -Z {split.total} --domZ 1000 --noali -o report.txt --tblout hits.tbl --domtblout dom.tbl {in.query} {chunk}"
        inputs = { query = "query.hmm", db = { path = "db.fa", as = "slice.fa" } }
        split = { input = "db", format = "fasta", parts = 2 }
        outputs = ["hits.tbl", "dom.tbl", { path = "report.txt", optional = true }]
        aggregate = [
          { how = "concat", from = "hits.tbl", out = "hits.tbl", comment = "#", comments = "drop", squeeze_blanks = true, sort = "line" },
          { how = "concat", from = "dom.tbl", out = "dom.tbl", comment = "#", sort = ["field:5:numeric", "field:6:numeric:descending"], top = 1000 },
        ]
        resources = { memory = "512MiB" }
        "##,
        &mut files(),
    );
    assert_eq!(plan.name, "hmmsearch");
    assert_eq!(plan.command[5], text("3"));
    assert_eq!(plan.command.last(), Some(&text("slice.fa")));
    let split = plan.split.as_ref().expect("split");
    assert_eq!(split.path, "slice.fa");
    let chunks: Vec<_> = split.chunks.iter().map(|chunk| (chunk.hash, chunk.size, chunk.records)).collect();
    assert_eq!(chunks, [(hash(">a\nMK\n"), 6, 1), (hash(">b\nML\n>c\nMM\n"), 12, 2)]);
    // The whole database is no input of a subjob.
    assert_eq!(plan.inputs.iter().map(|input| &*input.path).collect::<Vec<_>>(), ["query.hmm"]);
    let line = SortKey { field: None, numeric: false, descending: false };
    let hits = Concat {
        from: Source::Output(0),
        out: "hits.tbl".to_owned(),
        header_lines: 0,
        comment: Some("#".to_owned()),
        comments: Comments::Drop,
        squeeze_blanks: true,
        sort: vec![line],
        top: None,
    };
    let field = |field, descending| SortKey { field: Some(field), numeric: true, descending };
    let dom = Concat {
        from: Source::Output(1),
        out: "dom.tbl".to_owned(),
        comments: Comments::Head,
        squeeze_blanks: false,
        sort: vec![field(5, false), field(6, true)],
        top: Some(1000),
        ..hits.clone()
    };
    assert_eq!(plan.aggregate, [Aggregate::Concat(hits), Aggregate::Concat(dom)]);
    assert_eq!(plan.resources.memory, ByteSize::mib(512));
    assert_eq!(plan.subjobs(), Some(2));
}

#[test]
fn vina_over_ligands_and_settings() {
    let plan = plan(
        r#"
        spec = 1
        command = ["vina", "--receptor", "{in.rec}", "--ligand", "{sweep.ligand}", "--exhaustiveness", "{sweep.ex}",
                   "--cpu", "{cpus}", "--seed", "20050611", "--out", "{out}/{sweep.ligand.stem}.out.pdbqt"]
        inputs.rec = "protein.pdbqt"
        outputs = ["{out}/{sweep.ligand.stem}.out.pdbqt"]
        [sweep.values]
        ligand = { glob = "ligands/*.pdbqt" }
        ex = [8, 32]
        [[aggregate]]
        how = "table"
        from = "{sweep.ligand.stem}.out.pdbqt"
        out = "scores.csv"
        columns = ["ligand", "ex", "index", { name = "stem", value = "{sweep.ligand.stem}" },
                   { name = "affinity", regex = 'VINA RESULT: +(\S+)' }]
        sort = ["affinity:numeric", "ligand"]
        top = 200
        [[aggregate]]
        how = "files"
        to = "poses/{sweep.ligand.stem}-{sweep.ex}.pdbqt"
        "#,
        &mut files(),
    );
    assert_eq!(values(&plan), [[["lig01.pdbqt", "lig02.pdbqt"]], [["8", "32"]]]);
    let ligands = plan.axes[0].columns[0].files.as_ref().expect("files");
    assert_eq!(
        ligands.iter().map(|content| (content.hash, content.size)).collect::<Vec<_>>(),
        [(hash("1"), 1), (hash("22"), 2)]
    );
    assert_eq!(plan.command[4], Template(vec![value(0)]));
    assert_eq!(plan.command[8], text("1"));
    let stem = Piece::Value { axis: 0, column: 0, part: ValuePart::Stem };
    let tail = |tail: &str| Piece::Text(tail.to_owned());
    assert_eq!(plan.command[12], Template(vec![tail("./"), stem.clone(), tail(".out.pdbqt")]));
    assert_eq!(plan.outputs[0].path, Template(vec![stem.clone(), tail(".out.pdbqt")]));
    let [Aggregate::Table(table), Aggregate::Files { from, to }] = plan.aggregate.as_slice() else {
        panic!("a table and files: {:?}", plan.aggregate)
    };
    assert_eq!(table.columns[1].value, CellSource::Template(Template(vec![value(1)])));
    assert_eq!(table.columns[2].value, CellSource::Template(Template(vec![Piece::Index { width: 0 }])));
    assert_eq!(table.columns[4].value, CellSource::Regex(r"VINA RESULT: +(\S+)".to_owned()));
    let column = |field, numeric| SortKey { field: Some(field), numeric, descending: false };
    assert_eq!(table.sort, [column(5, true), column(1, false)]);
    assert_eq!((table.from, *from), (Source::Output(0), Source::Output(0)));
    assert_eq!(*to, Template(vec![tail("poses/"), stem, tail("-"), value(1), tail(".pdbqt")]));
    assert_eq!(plan.subjobs(), Some(4));
}

#[test]
fn lammps_over_temperatures() {
    let mut files = files().with("in.sweep", "units real").with("data.peptide", "LAMMPS");
    let plan = plan(
        r#"
        spec = 1
        command = "lmp -in {in.script} -var dir . -var temp {sweep.temp} -log log.{sweep.temp} -screen none"
        inputs = { script = "in.sweep", data = "data.peptide" }
        env = { OMP_NUM_THREADS = 1 }
        app.include = ["orted"]
        sweep.values.temp = { range = [255, 325, 10] }
        outputs = ["log.{sweep.temp}", "dump.{sweep.temp}"]
        limits.runtime_max = "1h"
        "#,
        &mut files,
    );
    assert_eq!(values(&plan), [[["255", "265", "275", "285", "295", "305", "315", "325"]]]);
    assert_eq!(plan.env, [("OMP_NUM_THREADS".to_owned(), text("1"))]);
    let kept = |output, name: &str| Aggregate::Files {
        from: Source::Output(output),
        to: Template(vec![Piece::Index { width: 0 }, Piece::Text(format!("/{name}.")), value(0)]),
    };
    assert_eq!(plan.aggregate, [kept(0, "log"), kept(1, "dump")]);
}

#[test]
fn povray_frames() {
    let plan = plan(
        r#"
        spec = 1
        command = ["povray", "-D", "+WT1", "+W192", "+H144", "+I{in.scene}", "+Oframe.ppm", "+KFI1", "+KFF8",
                   "+SF{sweep.frame}", "+EF{sweep.frame}"]
        inputs.scene = "scene.pov"
        sweep.values.frame = { range = [1, 8] }
        outputs = ["frame{sweep.frame}.ppm"]
        aggregate = { how = "files", to = "frames/frame{sweep.frame}.ppm" }
        "#,
        &mut files().with("scene.pov", "camera {}"),
    );
    assert_eq!(plan.command[9], Template(vec![Piece::Text("+SF".to_owned()), value(0)]));
    assert_eq!(plan.subjobs(), Some(8));
}

#[test]
fn mafft_of_many_families() {
    let files =
        ["fam01.fa", "fam02.fa"].into_iter().fold(files(), |files, name| files.with(name, ">a\nMK\n"));
    let plan = plan(
        r#"
        spec = 1
        command = "mafft --quiet --thread 1 --maxiterate 20 --localpair {sweep.family}"
        sweep.values.family = { glob = "fam*.fa" }
        limits.processes = 64
        aggregate = { how = "files", from = "stdout", to = "{sweep.family.stem}.afa" }
        "#,
        &mut files.clone(),
    );
    assert_eq!(values(&plan), [[["fam01.fa", "fam02.fa"]]]);
    assert_eq!(plan.limits.processes, 64);
}

#[test]
fn beast_chains_with_seeds() {
    let plan = plan(
        r#"
        spec = 1
        command = ["java", "-Xmx512m", "-classpath", "/usr/share/beast-mcmc/beast.jar", "dr.app.beast.BeastMain",
                   "-seed", "{seed}", "-overwrite", "{in.model}"]
        app.include = ["/usr/share/beast-mcmc/beast.jar"]
        inputs.model = "model.xml"
        repeat = { times = 6, seed = 101 }
        outputs = ["chain.log", "chain.trees"]
        "#,
        &mut files().with("model.xml", "<beast/>"),
    );
    assert_eq!(plan.command[6], Template(vec![Piece::Seed]));
    assert_eq!(plan.repeat.map(|repeat| (repeat.times, repeat.seed)), Some((6, 101)));
}

#[test]
fn io8k_of_a_program_of_ones_own() {
    let plan = plan(
        r#"
        spec = 1
        command = ["./io8k", "{out}", "256", "{sweep.first}", "{sweep.last}"]
        sweep = { mode = "zip", values = { first = [1, 3, 5, 7], last = [2, 4, 6, 8] } }
        aggregate = { how = "concat", out = "result.txt" }
        resources.disk = "1GiB"
        "#,
        &mut files(),
    );
    assert_eq!(plan.name, "io8k");
    assert_eq!(plan.command[1], text("."));
    assert_eq!(values(&plan), [[["1", "3", "5", "7"], ["2", "4", "6", "8"]]]);
    assert_eq!(plan.subjobs(), Some(4));
}

#[test]
fn cases_of_a_table() {
    let plan = plan(
        r#"
        spec = 1
        command = ["fold", "--temp", "{sweep.temp}", "{sweep.model}"]
        stdin = "{sweep.model}"
        sweep.table = { file = "cases.tsv", inputs = ["model"] }
        "#,
        &mut files(),
    );
    // The column `id` is in no text and so not in the plan.
    assert_eq!(values(&plan), [[["300", "310"], ["lig01.pdbqt", "lig02.pdbqt"]]]);
    let model = Template(vec![Piece::Value { axis: 0, column: 1, part: ValuePart::Whole }]);
    assert_eq!(plan.stdin.as_ref(), Some(&model));
    let kept = Template(vec![Piece::Index { width: 0 }, Piece::Text("/stdout".to_owned())]);
    assert_eq!(plan.aggregate, [Aggregate::Files { from: Source::Stdout, to: kept }]);
}
