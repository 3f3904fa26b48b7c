//! `cargo xtask bench fs`: the paper's Figure 4 again, what sealing costs in files (§5), beside no sealing, two public
//! encrypted file systems and the kernel's overlay.
//!
//! Every column does the same parts by the same program (`files/driver.c`), one column after the other, another one first
//! in each round. What is compared is ratios to the plain directory within a round: what slows a round slows all of it.

mod columns;
mod parts;
mod volume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::columns::{Column, Kind};
use self::parts::{Aim, PARTS, Part, ROWS, Row};
use super::sandbox::{load, machine, print_circumstances};
use super::{Options, quantile};
use crate::mount::{self, Mounter, Place};
use crate::workspace::{Workspace, line_of, step};

/// Megabytes of the large file: the smaller size. Its larger one is 2048.
const SIZE: u64 = 512;

/// Rounds before any is counted: they make the directories, and read the programs from the disk.
const WARM_UP: usize = 1;

/// A figure of each counted round, by column and row.
type Figures = BTreeMap<&'static str, BTreeMap<&'static str, Vec<f64>>>;

/// What every measurement of a run has.
struct Session<'a> {
    driver: PathBuf,
    mounter: Mounter,
    place: &'a Path,
    size: u64,
}

pub(super) fn run(workspace: &Workspace, options: Options<'_>) -> Result<()> {
    if let Some(reason) = mount::cannot_mount() {
        anyhow::bail!("nothing can be measured: {reason}");
    }
    let place = Place::new("bench-fs")?;
    let driver = compile(workspace, &place.0)?;
    let size = options.size.unwrap_or(SIZE);
    let session = Session { driver, mounter: Mounter::build(workspace)?, place: &place.0, size };
    let (kinds, lacking) = columns::chosen(options.only)?;
    let machine = machine()?;
    let mut server = BTreeMap::new();
    let (figures, failures) = session.rounds(&kinds, options.rounds, &mut server)?;
    let volume = volume::measure(&session, &kinds)?;
    let result = json!({
        "machine": machine, "load_at_end": load()?, "rounds": options.rounds, "mib": size,
        "not_installed": lacking, "failures": failures, "figures": summary(&figures),
        "server_cpu_seconds": server, "written_to_disk": volume,
    });
    if options.json {
        println!("{result:#}");
    } else {
        print(&result, &kinds);
    }
    Ok(())
}

/// Compiles the program that does the parts.
pub(super) fn compile(workspace: &Workspace, to: &Path) -> Result<PathBuf> {
    let driver = to.join("driver");
    let source = workspace.root.join("xtask/src/bench/files/driver.c");
    step(Command::new("cc").args(["-O2", "-static", "-o"]).arg(&driver).arg(source))?;
    Ok(driver)
}

impl Session<'_> {
    /// All rounds; a column that fails is out, and told of. `server` gets the processor time of the server of the sealed
    /// files in each part, the median of the rounds.
    fn rounds(
        &self,
        kinds: &[Kind],
        count: usize,
        server: &mut BTreeMap<&'static str, f64>,
    ) -> Result<(Figures, Vec<String>)> {
        let mut figures = Figures::new();
        let mut failures = Vec::new();
        let mut busy: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut left: Vec<Kind> = kinds.to_vec();
        for round in 0..WARM_UP + count {
            let first = round % left.len();
            let order: Vec<Kind> = left[first..].iter().chain(&left[..first]).copied().collect();
            for kind in order {
                let found = match self.column(kind, &mut busy) {
                    Ok(found) => found,
                    Err(error) if matches!(kind, Kind::Plain | Kind::Sealed) => return Err(error),
                    Err(error) => {
                        failures.push(format!("{}: {error:#}", kind.name()));
                        figures.remove(kind.name());
                        left.retain(|other| *other != kind);
                        continue;
                    }
                };
                if round < WARM_UP {
                    continue;
                }
                for (row, value) in found {
                    figures.entry(kind.name()).or_default().entry(row).or_default().push(value);
                }
            }
            eprintln!("round {round} of {}", WARM_UP + count - 1);
        }
        server.extend(busy.iter().map(|(part, times)| (*part, quantile(times, 0.5))));
        Ok((figures, failures))
    }

    /// All parts in a fresh column.
    fn column(
        &self,
        kind: Kind,
        busy: &mut BTreeMap<&'static str, Vec<f64>>,
    ) -> Result<Vec<(&'static str, f64)>> {
        let column = Column::make(kind, self.place, &self.mounter)?;
        let mut found = Vec::new();
        for part in PARTS {
            let before = column.server_time()?;
            let printed = self.part(part, &column.work(), self.size)?;
            if let (Some(before), Some(after)) = (before, column.server_time()?) {
                busy.entry(part.name).or_default().push((after - before).as_secs_f64());
            }
            found.extend(part.rows(&printed)?);
        }
        column.end()?;
        Ok(found)
    }

    fn part(&self, part: &Part, directory: &Path, size: u64) -> Result<String> {
        let mut command = Command::new(&self.driver);
        command.arg(part.name).arg(size.to_string()).current_dir(directory).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("start {}", line_of(&command)))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} ended with {}: {said}", line_of(&command), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Medians of the plain directory, and of each other column the ratio to it within a round, with the quartiles.
fn summary(figures: &Figures) -> Value {
    let plain = &figures[Kind::Plain.name()];
    let rows = ROWS.iter().filter_map(|row| {
        let base = plain.get(row.name)?;
        let mut entry = json!({ "unit": row.unit, "plain": quantile(base, 0.5) });
        for (column, rows) in figures.iter().filter(|(column, _)| **column != Kind::Plain.name()) {
            let Some(values) = rows.get(row.name) else { continue };
            let ratios: Vec<f64> = values.iter().zip(base).map(|(value, base)| value / base).collect();
            let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(&ratios, share));
            entry[*column] = json!({ "median": median, "quartiles": [low, high] });
        }
        Some((row.name.to_owned(), entry))
    });
    Value::Object(rows.collect())
}

fn print(result: &Value, kinds: &[Kind]) {
    print_circumstances(result);
    println!("{} MiB in the large file", result["mib"]);
    let others: Vec<Kind> = kinds.iter().copied().filter(|kind| *kind != Kind::Plain).collect();
    println!("\nratio to a plain directory, median (and quartiles); more is better");
    let heads: String = others.iter().map(|kind| format!("{:>18}", kind.name())).collect();
    println!("{:28} {:>14}{heads}   aim", "", "plain");
    for row in ROWS {
        let entry = &result["figures"][row.name];
        let cell = |kind: &Kind| cell(&entry[kind.name()]);
        let cells: String = others.iter().map(cell).collect();
        let plain = entry["plain"].as_f64().unwrap_or(f64::NAN);
        println!("{:28} {plain:>9.0} {:4}{cells}   {}", row.name, row.unit, aim(row, entry));
    }
    println!("\nbytes written to the disk, as a multiple of the plain directory's; less is better");
    for (what, entry) in result["written_to_disk"].as_object().into_iter().flatten() {
        let figure = |name: &str| entry[name].as_f64().unwrap_or(f64::NAN);
        let cells: String = others.iter().map(|kind| format!("{:>18.3}", figure(kind.name()))).collect();
        println!("{what:28} {:>9.1} MiB {cells}   {}", figure("plain_mib"), volume::aim(what));
    }
    println!("\nprocessor time of the sealed files' server in each part, s");
    for (part, time) in result["server_cpu_seconds"].as_object().into_iter().flatten() {
        println!("  {part:20} {:7.2}", time.as_f64().unwrap_or(f64::NAN));
    }
}

fn cell(entry: &Value) -> String {
    let figure = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let quartile = |at: usize| figure(&entry["quartiles"][at]);
    format!("{:6.2} ({:4.2}-{:4.2})", figure(&entry["median"]), quartile(0), quartile(1))
}

/// What a row should reach, and whether sealed files do.
fn aim(row: &Row, entry: &Value) -> String {
    let Aim::AtLeast(aim) = row.aim else { return String::new() };
    let reached = entry[Kind::Sealed.name()]["median"].as_f64();
    let verdict = reached.map_or("", |reached| if reached >= aim { "reached" } else { "MISSED" });
    format!("{aim:.2} {verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_pairs_within_a_round() {
        let row = ROWS[0].name;
        let mut figures = Figures::new();
        figures.entry("plain").or_default().insert(row, vec![100.0, 50.0, 10.0]);
        figures.entry("sealed").or_default().insert(row, vec![50.0, 50.0, 20.0]);
        let found = summary(&figures);
        assert_eq!(found[row]["plain"], 50.0);
        assert_eq!(found[row]["sealed"]["median"], 1.0);
        assert_eq!(found[row]["sealed"]["quartiles"], json!([0.75, 1.5]));
        assert!(found[row].get("overlay").is_none());
    }

    #[test]
    fn an_aim_is_said_with_whether_it_is_reached() {
        let row = Row { name: "write", unit: "MiB", of: ("write", "close"), aim: Aim::AtLeast(0.75) };
        let entry = |median: f64| json!({ "sealed": { "median": median } });
        assert_eq!(aim(&row, &entry(0.75)), "0.75 reached");
        assert_eq!(aim(&row, &entry(0.7)), "0.75 MISSED");
        assert_eq!(aim(&row, &json!({})), "0.75 ");
        assert_eq!(aim(&Row { aim: Aim::None, ..row }, &entry(0.7)), "");
    }
}
