//! Six programs of scientists, a few seconds each, on inputs from Debian's packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::tools::Task;
use crate::bench::files;
use crate::workspace::{Workspace, step};

/// A program with what it works on.
#[derive(Debug)]
pub(super) struct Program {
    pub name: &'static str,
    pub about: &'static str,
    /// What must be installed.
    needs: &'static [&'static str],
    prepare: Prepare,
    command: &'static str,
    /// More options of `dcgrid evm run`.
    options: &'static [&'static str],
}

/// How the inputs come into an empty directory.
#[derive(Debug)]
enum Prepare {
    /// By `prepare.sh` of the example, and then shell text there.
    Example(&'static str, &'static str),
    /// By compiling a Java class of ours.
    Java(&'static str),
    /// By compiling the driver of `cargo xtask bench fs`.
    Driver,
}

/// The program of the paper's Figure 4, as a subjob (§5).
pub(super) const RANDOM_DATA: Program = Program {
    name: "random-data",
    about: "256 MiB written and read in blocks of 8 KiB",
    needs: &["cc"],
    prepare: Prepare::Driver,
    command: "./driver program 256",
    options: &[],
};

pub(super) const PROGRAMS: &[Program] = &[
    Program {
        name: "hmmsearch",
        about: "reads much, computes, one process",
        needs: &["hmmsearch", "/usr/share/doc/mmseqs2/example-data/DB.fasta.gz"],
        prepare: Prepare::Example(
            "protein-search",
            "head -n 12000 proteins.fasta > part; mv part proteins.fasta",
        ),
        command: "hmmsearch --cpu 0 --max --noali -o /dev/null --tblout hits.tbl profiles.hmm proteins.fasta",
        options: &[],
    },
    Program {
        name: "vina",
        about: "computes, threads",
        needs: &["vina", "/usr/share/doc/autodock-vina/test-data/protein.pdbqt.gz"],
        prepare: Prepare::Example("docking", "mv ligands/* .; set -- *.pdbqt; cp \"$1\" ligand"),
        command: "vina --receptor receptor.pdbqt --ligand ligand --out pose.pdbqt --center_x 11 --center_y 90.5 \
                  --center_z 57.5 --size_x 16 --size_y 16 --size_z 16 --exhaustiveness 4 --num_modes 3 --cpu 2 \
                  --seed 1",
        options: &[],
    },
    Program {
        name: "lammps",
        about: "MPI: a child, sockets, shared memory",
        needs: &["lmp", "/usr/share/lammps/examples/peptide/in.peptide"],
        prepare: Prepare::Example("molecular-dynamics", ":"),
        command: "lmp -in in.peptide -var temperature 275 -log none",
        options: &["--env", "OMP_NUM_THREADS"],
    },
    Program {
        name: "povray",
        about: "many small files, threads",
        needs: &["povray", "/usr/share/povray-3.7/include/textures.inc"],
        prepare: Prepare::Example("animation", ":"),
        command: "povray +Iscene.pov +Oframe.png +W640 +H480 +A0.3 -J +WT2 -D +K0.3",
        options: &["--include", "deb:povray-includes"],
    },
    Program {
        name: "java",
        about: "makes code at run time, threads, garbage",
        needs: &["java", "javac"],
        prepare: Prepare::Java("Sums"),
        command: "java -Xmx256m -cp . Sums",
        options: &[],
    },
    Program {
        name: "mafft",
        about: "a shell script, a hundred processes a family",
        needs: &["mafft", "hmmemit", "/usr/share/doc/hmmer/examples/tutorial/globins4.hmm"],
        prepare: Prepare::Example("alignment", "mv families/* ."),
        command: "sh align.sh",
        options: &["--include", "mafft"],
    },
];

impl Program {
    /// The first thing that it needs and this machine lacks.
    pub(super) fn lacks(&self) -> Option<&'static str> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let has = |need: &str| {
            Path::new(need).is_file() || std::env::split_paths(&path).any(|place| place.join(need).is_file())
        };
        self.needs.iter().copied().find(|need| !has(need))
    }

    /// Makes its inputs below a directory.
    ///
    /// # Errors
    /// A command that fails.
    pub(super) fn prepare(&self, workspace: &Workspace, directory: &Path) -> Result<PathBuf> {
        let place = directory.join(self.name);
        std::fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
        match self.prepare {
            Prepare::Example(example, then) => {
                let script = workspace.root.join("examples").join(example).join("prepare.sh");
                step(Command::new(script).arg(&place))?;
                step(Command::new("sh").args(["-c", then]).current_dir(&place))?;
            }
            Prepare::Java(class) => {
                let source = workspace.root.join(format!("xtask/src/bench/sandbox/{class}.java"));
                step(Command::new("javac").arg("-d").arg(&place).arg(source))?;
            }
            Prepare::Driver => {
                files::compile(workspace, &place)?;
            }
        }
        if self.name == "mafft" {
            std::fs::write(place.join("align.sh"), ALIGN)?;
        }
        Ok(place)
    }

    pub(super) fn task<'a>(&'a self, directory: &'a Path) -> Task<'a> {
        Task { directory, command: self.command.split_whitespace().collect(), options: self.options }
    }
}

/// All families, one after the other.
const ALIGN: &str = "for family in *.fasta; do\n\
                     mafft --localpair --maxiterate 20 --thread 1 --quiet \"$family\" > \"$family.aligned\" || exit 1\n\
                     done\n";
