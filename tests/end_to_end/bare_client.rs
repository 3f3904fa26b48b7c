//! Unmodified programs on a client whose own system has none of them: its root directory holds the client's binary,
//! the C library, and the kernel's /proc, /sys and /dev. All else a subjob needs has come with its application.

use std::path::Path;
use std::process::{Command, Stdio};

use grid_tests::{Grid, Process, binary, have, repository, run};

use crate::examples::pixels;

/// Makes the root directory, moves into it for good and becomes the client. The last step before it lets go of the
/// machine's own root, with that root's own program.
const BARE_ROOT: &str = r#"
    set -e
    root=$1 binary=$2 state=$3; shift 3
    mount -t tmpfs bare "$root"
    cd "$root"
    mkdir proc sys dev tmp state machine
    for kernel in proc sys dev; do mount --rbind "/$kernel" "$kernel"; done
    mount --bind "$state" state
    for file in "$binary" $(ldd "$binary" | grep -o '/[^ ]*'); do
        mkdir -p ".$(dirname "$file")"
        cp -L "$file" ".$file"
    done
    pivot_root . machine
    cd /
    libraries=machine/usr/lib/x86_64-linux-gnu:machine/lib/x86_64-linux-gnu
    LD_LIBRARY_PATH=$libraries machine/bin/umount -l machine
    exec "$binary" client --state /state "$@"
"#;

const MODEL: &str = "/usr/share/doc/hmmer/examples/tutorial/globins4.hmm";

/// One run of a program, here and on the grid.
struct Case {
    needs: &'static [&'static str],
    /// Makes the inputs in a directory.
    prepare: fn(&Path),
    inputs: &'static [&'static str],
    command: &'static str,
    /// The file that counts; standard output if there is none.
    output: Option<&'static str>,
    /// What must be the same in it.
    content: fn(&[u8]) -> Vec<u8>,
}

#[test]
fn hmmsearch() {
    check(&Case {
        needs: &["hmmsearch", "hmmemit", MODEL],
        prepare: emit_family,
        inputs: &["model", "family"],
        command: "hmmsearch --cpu 0 --noali -o /dev/null --tblout hits model family",
        output: Some("hits"),
        content: |table| lines(table, |line| !line.starts_with('#')),
    });
}

#[test]
fn vina() {
    check(&Case {
        needs: &["vina", "/usr/share/doc/autodock-vina/test-data/protein.pdbqt.gz"],
        prepare: |native| prepare_example("docking", native),
        inputs: &["receptor.pdbqt", "ligands/phenol.pdbqt"],
        command: "vina --receptor receptor.pdbqt --ligand phenol.pdbqt --out pose.pdbqt --center_x 11 --center_y 90.5 \
                  --center_z 57.5 --size_x 16 --size_y 16 --size_z 16 --exhaustiveness 1 --cpu 1 --seed 1",
        output: Some("pose.pdbqt"),
        content: <[u8]>::to_vec,
    });
}

#[test]
fn lammps() {
    check(&Case {
        needs: &["lmp", "/usr/share/lammps/examples/peptide/in.peptide"],
        prepare: |native| prepare_example("molecular-dynamics", native),
        inputs: &["in.peptide", "data.peptide"],
        command: "lmp -in in.peptide -var temperature 300 -log none",
        output: None,
        // The rows of the table of steps, without what tells how long they took.
        content: |log| lines(log, |line| line.split_whitespace().all(|word| word.parse::<f64>().is_ok())),
    });
}

#[test]
fn povray() {
    check(&Case {
        needs: &["povray"],
        prepare: |native| {
            let scene = "sphere { 0, 1 pigment { rgb <1, 0.5, 0> } } camera { location -3*z look_at 0 } \
                         light_source { <5, 5, -5> rgb 1 }\n";
            std::fs::write(native.join("ball.pov"), scene).expect("a scene");
        },
        inputs: &["ball.pov"],
        command: "povray +Iball.pov +Oball.png +FN +W80 +H60 -D +WT1",
        output: Some("ball.png"),
        content: pixels,
    });
}

#[test]
fn mafft_a_shell_script() {
    check(&Case {
        needs: &["mafft", "hmmemit", MODEL],
        prepare: emit_family,
        inputs: &["family"],
        command: "mafft --auto --thread 1 --quiet family",
        output: None,
        content: <[u8]>::to_vec,
    });
}

#[test]
fn python() {
    check(&Case {
        needs: &["/usr/bin/python3"],
        prepare: |native| prepare_example("monte-carlo", native),
        inputs: &["percolation.py"],
        command: "/usr/bin/python3 percolation.py --density 0.6 --seed 1 --size 50",
        output: None,
        content: <[u8]>::to_vec,
    });
}

#[test]
fn keytool_on_a_java_virtual_machine() {
    check(&Case {
        needs: &["keytool"],
        prepare: |native| {
            let keytool = |arguments: &str| {
                let mut command = Command::new("keytool");
                command.args(["-keystore", "store", "-storepass", "of this test"]).current_dir(native);
                run(command.args(arguments.split(' '))).ok();
            };
            keytool("-genkeypair -keyalg EC -dname CN=test -alias test");
            keytool("-exportcert -rfc -file certificate -alias test");
        },
        inputs: &["certificate"],
        command: "keytool -printcert -file certificate",
        output: None,
        // The dates name the time zone, of which a subjob has none.
        content: |text| lines(text, |line| !line.starts_with("Valid from")),
    });
}

fn check(case: &Case) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: making a root directory for a client needs root");
        return;
    }
    if !have(case.needs) {
        return;
    }
    let mut grid = Grid::start(0);
    let client = start_bare_client(&grid);
    grid.clients.push(client);
    grid.wait_until("the client is there", |grid| {
        grid.cli(&["--json", "clients"]).json().as_array().is_some_and(|clients| clients.len() == 1)
    });
    let seen = Path::new("/proc").join(grid.clients[0].id().to_string()).join("root");
    assert!(seen.join("proc/self").exists(), "the client's root can be looked into");
    for lacking in ["usr/bin", "usr/share", "usr/lib", "bin", "etc", "machine/usr"] {
        assert!(!seen.join(lacking).exists(), "the client's root has /{lacking}");
    }

    let (native, fetched) = (grid.scratch.path().join("native"), grid.scratch.path().join("fetched"));
    std::fs::create_dir(&native).expect("a directory");
    (case.prepare)(&native);
    for input in case.inputs.iter().filter(|input| input.contains('/')) {
        // An input lies in a subjob's directory under its name alone.
        let path = native.join(input);
        std::fs::copy(&path, native.join(path.file_name().expect("a file"))).expect("a copy");
    }

    let mut arguments = vec!["run", "--dest", fetched.to_str().expect("a path of our own making")];
    arguments.extend(case.inputs.iter().flat_map(|input| ["-i", *input]));
    arguments.extend(case.output.iter().flat_map(|output| ["-o", *output]));
    arguments.push("--");
    arguments.extend(case.command.split_whitespace());
    let ours = run(grid.command(&arguments).current_dir(&native)).ok();

    let mut words = case.command.split_whitespace();
    let mut here = Command::new(words.next().expect("a program"));
    let here = run(here.args(words).current_dir(&native)).ok();

    let (ours, here) = match case.output {
        None => (ours.into_bytes(), here.into_bytes()),
        Some(output) => (read(&fetched.join(output)), read(&native.join(output))),
    };
    let (ours, here) = ((case.content)(&ours), (case.content)(&here));
    assert!(!here.is_empty(), "{} leaves nothing to compare", case.command);
    let text = String::from_utf8_lossy;
    assert!(ours == here, "{}\non the grid: {}\nhere: {}", case.command, text(&ours), text(&here));
}

/// Has an example make its inputs.
fn prepare_example(example: &str, native: &Path) {
    let mut script = Command::new(repository().join("examples").join(example).join("prepare.sh"));
    run(script.arg(native)).ok();
}

/// A family of proteins, and the model that it was drawn from.
fn emit_family(native: &Path) {
    std::fs::copy(MODEL, native.join("model")).expect("a copy");
    let mut emit = Command::new("hmmemit");
    run(emit.args(["-N", "12", "--seed", "1", "-o", "family", "model"]).current_dir(native)).ok();
}

fn start_bare_client(grid: &Grid) -> Process {
    let (root, state) = (grid.scratch.path().join("bare-root"), grid.client_state(0));
    for directory in [&root, &state] {
        std::fs::create_dir_all(directory).expect("a directory");
    }
    let token = grid.cli(&["token", "create", "join", "--uses", "1"]).ok();
    let log = std::fs::File::create(grid.scratch.path().join("client-0.log")).expect("a log file");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", BARE_ROOT, "sh"]);
    command.arg(root).arg(binary()).arg(state);
    command.args(["--server", &grid.url, "--cpus", "2", "--disk-floor", "1MiB", "--token", token.trim()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Process::start("client", &mut command)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(bytes: &[u8], keep: impl Fn(&str) -> bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let kept: Vec<&str> = text.lines().filter(|line| !line.is_empty() && keep(line)).collect();
    kept.join("\n").into_bytes()
}
