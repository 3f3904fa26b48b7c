//! A job whose right result is known: it computes, reads a shared input, and writes files small and large.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use grid_tests::{Grid, run};
use serde_json::Value;

/// Subjobs of the job.
const SUBJOBS: u64 = 60;

/// What each does, after a time in which the machine is left to the others. Every tenth also writes a file that is
/// uploaded in parts.
const SCRIPT: &str = r"
n=$1; i=0; s=7
sleep $2
while [ $i -lt 20000 ]; do i=$((i + 1)); s=$(((s * 31 + i * n) % 1000003)); done
echo $n $s $(tail -c 8 salt) > line.txt
if [ $((n % 10)) -eq 0 ]; then seq $n 800000 > big.txt; fi
";

/// The job, submitted.
pub struct Job {
    pub id: String,
}

impl Job {
    pub fn submit(grid: &Grid) -> Self {
        write_inputs(grid.scratch.path());
        let spec = format!(
            r#"
            spec = 1
            name = "crashes"
            command = ["sh", "{{in.script}}", "{{sweep.n}}", "0.5"]
            app = {{ include = ["seq", "sleep", "tail"] }}
            inputs = {{ script = "script.sh", salt = "salt" }}
            sweep = {{ values = {{ n = {{ range = [1, {SUBJOBS}] }} }} }}
            outputs = ["line.txt", {{ path = "big.txt", optional = true }}]
            aggregate = [
                {{ how = "concat", from = "line.txt", out = "lines.txt" }},
                {{ how = "files", from = "big.txt", to = "big/{{sweep.n}}" }},
            ]
            resources = {{ memory = "256MiB", disk = "64MiB" }}
            "#
        );
        grid.file("crashes.toml", spec);
        Job { id: grid.cli(&["submit", "crashes.toml"]).ok().trim().to_owned() }
    }

    pub fn has_ended(&self, grid: &Grid) -> bool {
        let state = &grid.cli(&["--json", "show", &self.id]).json()["state"];
        state != "running" && state != "aggregating"
    }

    /// Waits for the end, and checks that every subjob counts once and that the result is the serial run's.
    #[track_caller]
    pub fn check(&self, grid: &Grid) {
        grid.wait_until("the job has ended", |grid| self.has_ended(grid));
        let view = grid.cli(&["--json", "show", &self.id]).json();
        assert_eq!(view["state"], "succeeded", "{view:#}");
        let expect = serde_json::json!({
            "total": SUBJOBS, "waiting": 0, "running": 0, "succeeded": SUBJOBS, "failed": 0, "cancelled": 0,
        });
        assert_eq!(view["counts"], expect);
        for index in 0..SUBJOBS {
            let subjob = grid.cli(&["--json", "show", &format!("{}.{index}", self.id)]).json();
            let attempts = subjob["attempts"].as_array().expect("a list");
            let outcomes = attempts.iter().filter(|attempt| attempt["failure"].is_null()).count();
            assert_eq!((&subjob["state"], outcomes), (&"succeeded".into(), 1), "{subjob:#}");
            // A crash is nobody's fault: who was blamed would get no more work.
            let blamed =
                |attempt: &&Value| !attempt["failure"].is_null() && attempt["class"] != "desktop_contention";
            assert_eq!(attempts.iter().find(blamed), None);
        }
        self.check_result(grid);
    }

    #[track_caller]
    fn check_result(&self, grid: &Grid) {
        let (result, serial) = (grid.scratch.path().join("result"), grid.scratch.path().join("serial"));
        grid.cli(&["get", &self.id, "-d", "result"]).ok();
        std::fs::create_dir(&serial).expect("made");
        write_inputs(&serial);
        let mut lines = String::new();
        let mut big = BTreeSet::new();
        for n in 1..=SUBJOBS {
            run(Command::new("sh").args(["script.sh", &n.to_string(), "0"]).current_dir(&serial)).ok();
            lines += &std::fs::read_to_string(serial.join("line.txt")).expect("written");
            if n % 10 == 0 {
                let found = std::fs::read(result.join(format!("big/{n}"))).expect("fetched");
                assert!(found == std::fs::read(serial.join("big.txt")).expect("written"), "big/{n} differs");
                big.insert(n.to_string());
            }
        }
        assert_eq!(std::fs::read_to_string(result.join("lines.txt")).expect("fetched"), lines);
        let found: BTreeSet<String> = std::fs::read_dir(result.join("big"))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(found, big);
    }
}

fn write_inputs(directory: &Path) {
    let salt: Vec<u8> =
        (0..6_000_000u32).map(|n| b'a' + (n.wrapping_mul(2_654_435_761) >> 28) as u8).collect();
    std::fs::write(directory.join("salt"), salt).expect("written");
    std::fs::write(directory.join("script.sh"), SCRIPT).expect("written");
}
