//! `cargo xtask bench sandbox`: what a sandbox costs, ours and others', each measured in turns with no sandbox at all:
//! start-up, single system calls, and whole programs by processor time.
//!
//! Single runs scatter by 10 % on a shared machine; what is compared is interleaved, so that it scatters alike.

mod examples;
mod programs;
mod sealed;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::programs::{PROGRAMS, Program};
pub(super) use self::sealed::run as sealed;
use self::tools::{Meter, Task, Tool, installed};
use super::grid::Scratch;
use super::{Options, build, quantile};
use crate::workspace::{Workspace, step};

/// Rounds of start-ups for each round of programs.
const STARTS: usize = 4;

/// Rounds before any is counted: they fill the caches.
const WARM_UP: usize = 1;

/// Longest wait for a quiet moment before each start-up.
const QUIET: Duration = Duration::from_secs(2);

/// What a figure should not exceed; the aims.
const AIMS: &str = "aims: start-up 10 ms over native; getpid 60 ns and vfork+exec 100 us over native; processor time \
                    of programs 1.01 times native as a geometric mean, none above 1.10";

pub(super) fn run(workspace: &Workspace, options: Options<'_>) -> Result<()> {
    let dcgrid = build(workspace)?;
    let scratch = Scratch::new(workspace)?;
    let (tools, lacking) = installed(&dcgrid);
    let machine = machine()?;
    let mut failures = Vec::new();
    let start = start_up(&tools, &scratch.0, options.rounds * STARTS, &mut failures)?;
    progress("start-up, ms", &start);
    let calls = calls(workspace, &tools, &scratch.0, options.rounds, &mut failures)?;
    progress("calls, ns", &calls);
    let all: Vec<&Program> = PROGRAMS.iter().collect();
    let programs = programs(workspace, &all, &tools, &scratch.0, options.rounds, &mut failures)?;
    progress("processor time of programs, ratio", &programs);
    let examples = examples::run(workspace, &scratch.0, options.rounds)?;
    let result = json!({
        "machine": machine, "load_at_end": load()?, "rounds": options.rounds, "not_installed": lacking,
        "failures": failures, "start_up_ms": start, "calls_ns": calls, "programs_cpu_ratio": programs,
        "examples": examples,
    });
    if options.json {
        println!("{result:#}");
    } else {
        print(&result);
    }
    Ok(())
}

/// Tells a part as soon as it is measured: the whole takes many minutes, and who stops it shall have something.
fn progress(part: &str, found: &Value) {
    eprintln!("{part}: {found}");
}

/// Processor, kernel and load: what the figures hold for.
pub(super) fn machine() -> Result<Value> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    Ok(json!({
        "processor": model.map_or("unknown", |(_, name)| name),
        "processors": count,
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "load": load()?,
    }))
}

/// Mean number of busy processes over the last minute. Above the number of processors, others had a part in it.
pub(super) fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    text.split(' ').next().and_then(|load| load.parse().ok()).context("malformed loadavg")
}

/// Waits, not for ever, until nobody else runs. Ours has the lowest priority, so that what it takes beside others is
/// what they leave.
fn wait_for_quiet() -> Result<()> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string("/proc/loadavg")?;
        let running = text.split([' ', '/']).nth(3).and_then(|count| count.parse::<u32>().ok());
        // We are one of them.
        if running.context("malformed loadavg")? <= 1 || begun.elapsed() > QUIET {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a measurement in every tool in turn, the first one changing from round to round. A tool that fails is out,
/// and told of.
fn rounds<T>(
    tools: &[Tool],
    count: usize,
    failures: &mut Vec<String>,
    mut measure: impl FnMut(&Tool) -> Result<T>,
) -> Result<BTreeMap<&'static str, Vec<T>>> {
    let mut found: BTreeMap<&str, Vec<T>> = BTreeMap::new();
    let mut tools: Vec<Option<&Tool>> = tools.iter().map(Some).collect();
    let all = tools.len();
    for round in 0..WARM_UP + count {
        for place in (0..all).map(|place| (place + round) % all) {
            let Some(tool) = tools[place] else { continue };
            match measure(tool) {
                Ok(value) if round >= WARM_UP => found.entry(tool.name()).or_default().push(value),
                Ok(_) => {}
                Err(error) if matches!(tool, Tool::Native | Tool::Dcgrid(_) | Tool::Sealed(_)) => {
                    return Err(error);
                }
                Err(error) => {
                    failures.push(format!("{}: {error:#}", tool.name()));
                    found.remove(tool.name());
                    tools[place] = None;
                }
            }
        }
    }
    Ok(found)
}

/// Milliseconds from start to end of a program that does nothing.
fn start_up(tools: &[Tool], scratch: &Path, count: usize, failures: &mut Vec<String>) -> Result<Value> {
    let here = scratch.join("start");
    fs::create_dir_all(&here)?;
    let task = Task { directory: &here, command: vec!["/bin/true"], options: &[] };
    let found = rounds(tools, count, failures, |tool| {
        wait_for_quiet()?;
        Ok(tool.time(&task, scratch)?.0.as_secs_f64() * 1e3)
    })?;
    let native = Summary::of(&found["native"]);
    let tool = |(name, times): (&&str, &Vec<f64>)| {
        let Summary { min, median } = Summary::of(times);
        let entry = json!({
            "min": min, "median": median, "over_native_min": min - native.min,
            "over_native_median": median - native.median, "ratio_median": median / native.median,
        });
        ((*name).to_owned(), entry)
    };
    Ok(Value::Object(found.iter().map(tool).collect()))
}

struct Summary {
    min: f64,
    median: f64,
}

impl Summary {
    fn of(values: &[f64]) -> Self {
        Summary { min: quantile(values, 0.0), median: quantile(values, 0.5) }
    }
}

/// Nanoseconds of each kind of system call, the quickest of all rounds: what is slower was disturbed.
fn calls(
    workspace: &Workspace,
    tools: &[Tool],
    scratch: &Path,
    count: usize,
    failures: &mut Vec<String>,
) -> Result<Value> {
    let here = scratch.join("calls");
    fs::create_dir_all(&here)?;
    let program = here.join("calls");
    let source = workspace.root.join("xtask/src/bench/sandbox/calls.c");
    step(Command::new("cc").args(["-O2", "-static", "-pthread", "-o"]).arg(&program).arg(source))?;
    let program = program.to_str().context("the target directory's path is not text")?;
    let task = Task { directory: &here, command: vec![program], options: &[] };
    let found = rounds(tools, count, failures, |tool| parse_calls(&tool.time(&task, scratch)?.1))?;
    let tool = |(name, runs): (&&str, &Vec<BTreeMap<String, f64>>)| {
        let kinds = runs.first().into_iter().flat_map(BTreeMap::keys);
        let best = kinds.map(|kind| {
            let times: Vec<f64> = runs.iter().filter_map(|run| run.get(kind).copied()).collect();
            (kind.clone(), Value::from(quantile(&times, 0.0)))
        });
        ((*name).to_owned(), Value::Object(best.collect()))
    };
    Ok(Value::Object(found.iter().map(tool).collect()))
}

fn parse_calls(text: &str) -> Result<BTreeMap<String, f64>> {
    let line = |line: &str| {
        let (name, time) = line.split_once('\t').with_context(|| format!("understand '{line}'"))?;
        Ok((name.to_owned(), time.parse()?))
    };
    text.lines().map(line).collect()
}

/// Processor time of whole programs, sandbox included, as a multiple of the bare program's; gVisor and firejail are
/// left out: the one takes minutes, the other adds what bubblewrap does.
fn programs(
    workspace: &Workspace,
    programs: &[&Program],
    tools: &[Tool],
    scratch: &Path,
    count: usize,
    failures: &mut Vec<String>,
) -> Result<Value> {
    let tools: Vec<Tool> =
        tools.iter().filter(|tool| !matches!(tool, Tool::Runsc | Tool::Firejail)).cloned().collect();
    let meter = match Meter::new() {
        Ok(meter) => meter,
        Err(error) => {
            failures.push(format!("programs: processor time can't be told here: {error:#}"));
            return Ok(Value::Null);
        }
    };
    let mut each = serde_json::Map::new();
    let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for program in programs {
        if let Some(lacking) = program.lacks() {
            failures.push(format!("{}: {lacking} is not installed", program.name));
            continue;
        }
        let place: PathBuf = program.prepare(workspace, &scratch.join("programs"))?;
        let task = program.task(&place);
        let found =
            rounds(&tools, count, failures, |tool| Ok(tool.cpu_time(&task, &meter, scratch)?.as_secs_f64()))?;
        let native = &found["native"];
        let mut entry = json!({ "about": program.about, "native_seconds": quantile(native, 0.5) });
        for (name, times) in found.iter().filter(|(name, _)| **name != "native") {
            // Of pairs: what slows a round slows both.
            let pairs: Vec<f64> = times.iter().zip(native).map(|(time, native)| time / native).collect();
            let ratio = quantile(&pairs, 0.5);
            ratios.entry(name).or_default().push(ratio);
            entry[*name] = ratio.into();
        }
        each.insert(program.name.to_owned(), entry);
    }
    let means = ratios.iter().map(|(name, ratios)| {
        let worst = quantile(ratios, 1.0);
        ((*name).to_owned(), json!({ "geometric_mean": geometric_mean(ratios), "worst": worst }))
    });
    Ok(json!({ "programs": each, "means": means.collect::<serde_json::Map<_, _>>() }))
}

fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

/// What the figures hold for, and what is not among them.
pub(super) fn print_circumstances(result: &Value) {
    let machine = &result["machine"];
    println!(
        "{} x {}, kernel {}, load {} before and {} after, {} rounds",
        machine["processors"],
        machine["processor"].as_str().unwrap_or_default(),
        machine["kernel"].as_str().unwrap_or_default(),
        machine["load"],
        result["load_at_end"],
        result["rounds"],
    );
    for (key, label) in [("not_installed", "not installed"), ("failures", "left out")] {
        for text in result[key].as_array().into_iter().flatten().filter_map(Value::as_str) {
            println!("{label}: {text}");
        }
    }
}

fn print(result: &Value) {
    print_circumstances(result);
    println!("\nstart-up of /bin/true, ms");
    println!("{:10} {:>8} {:>8} {:>12} {:>15}", "", "min", "median", "over native", "(by the minima)");
    for (tool, found) in result["start_up_ms"].as_object().into_iter().flatten() {
        let figure = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
        println!(
            "{tool:10} {:8.2} {:8.2} {:12.2} {:15.2}",
            figure("min"),
            figure("median"),
            figure("over_native_median"),
            figure("over_native_min")
        );
    }
    print_calls(&result["calls_ns"]);
    print_programs(&result["programs_cpu_ratio"]);
    for (name, lines) in result["examples"].as_object().into_iter().flatten() {
        println!("\n{name}");
        lines
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .for_each(|line| println!("  {line}"));
    }
    println!("\n{AIMS}");
}

fn print_calls(calls: &Value) {
    println!("\nsystem calls, ns");
    let tools: Vec<&String> = calls.as_object().into_iter().flat_map(serde_json::Map::keys).collect();
    println!("{:12} {}", "", tools.iter().map(|tool| format!("{tool:>10}")).collect::<String>());
    for kind in calls["native"].as_object().into_iter().flat_map(serde_json::Map::keys) {
        let cells = tools.iter().map(|tool| calls[tool.as_str()][kind].as_f64().unwrap_or(f64::NAN));
        println!("{kind:12} {}", cells.map(|cell| format!("{cell:10.0}")).collect::<String>());
    }
}

fn print_programs(programs: &Value) {
    println!("\nprocessor time of programs, as a multiple of native's");
    for (name, found) in programs["programs"].as_object().into_iter().flatten() {
        let native = found["native_seconds"].as_f64().unwrap_or(f64::NAN);
        let others =
            found.as_object().into_iter().flatten().filter(|(key, _)| key.as_str() != "native_seconds");
        let others = others.filter_map(|(tool, ratio)| Some(format!("  {tool} {:.3}", ratio.as_f64()?)));
        let about = found["about"].as_str().unwrap_or_default();
        println!("{name:10} native {native:5.2} s{}   {about}", others.collect::<String>());
    }
    for (tool, found) in programs["means"].as_object().into_iter().flatten() {
        let figure = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
        println!("{tool:10} geometric mean {:.4}, worst {:.3}", figure("geometric_mean"), figure("worst"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_geometric_mean_of_ratios_is_fair_to_both_sides() {
        assert!((geometric_mean(&[2.0, 0.5]) - 1.0).abs() < 1e-12);
        assert!((geometric_mean(&[1.1]) - 1.1).abs() < 1e-12);
    }

    #[test]
    fn a_tool_that_fails_is_left_out_and_told_of() {
        let tools = [Tool::Native, Tool::Bubblewrap];
        let mut failures = Vec::new();
        let measure = |tool: &Tool| match tool {
            Tool::Native => Ok(1),
            _ => anyhow::bail!("it does not run here"),
        };
        let found = rounds(&tools, 4, &mut failures, measure).expect("native runs");
        assert_eq!(found, BTreeMap::from([("native", vec![1; 4])]));
        assert_eq!(failures, ["bwrap: it does not run here"]);
    }

    #[test]
    fn what_the_measuring_program_prints_is_understood() {
        let found = parse_calls("getpid\t98.5\nvfork+exec\t270000.0\n").expect("it is well-formed");
        assert_eq!(found["vfork+exec"], 270_000.0);
        assert!(parse_calls("getpid 98").is_err());
    }
}
