//! `dcgrid evm explain`: what a program in the sandbox can see and do on this machine. All of it is read from the
//! tables that the sandbox is built from.

use std::ffi::OsString;

use model::units::display_duration;
use model::{ByteSize, Limits, Resources};
use protocol::manifest::{Entry, FileKind, Manifest};
use sandbox::{FilterRule, Finding, SeenPlace, filter_rules, seen_places};
use serde::Serialize;

use super::cache::Cache;
use super::run::{Asks, request};
use crate::args::EvmExplainArgs;
use crate::commands::doctor::Check;
use crate::exit::Exit;
use crate::output::{self, Table};

#[derive(Debug, Serialize)]
struct Explained {
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<Application>,
    places: Vec<Place>,
    limits: Vec<Limit>,
    system_calls: Vec<SystemCalls>,
    enforced: Vec<Check>,
}

/// The files of one program.
#[derive(Debug, Serialize)]
struct Application {
    program: String,
    /// Whether it may make code while it runs.
    makes_code: bool,
    files: usize,
    bytes: u64,
    programs: Vec<String>,
    libraries: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Place {
    path: String,
    access: &'static str,
    reason: &'static str,
}

#[derive(Debug, Serialize)]
struct Limit {
    option: &'static str,
    default: String,
}

#[derive(Debug, Serialize)]
struct SystemCalls {
    group: &'static str,
    calls: Vec<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    when: String,
    answer: String,
    reason: &'static str,
}

pub fn run(args: &EvmExplainArgs, json: bool) -> anyhow::Result<Exit> {
    let application = args.program.as_ref().map(|program| application(program, &args.include)).transpose()?;
    let explained = Explained {
        application,
        places: seen_places().into_iter().map(from_place).collect(),
        limits: limits(),
        system_calls: filter_rules().map(from_rule).collect(),
        enforced: sandbox::probe().into_iter().map(|finding: Finding| finding.into()).collect(),
    };
    if json {
        output::json(&explained);
    } else {
        explained.print();
    }
    Ok(Exit::Success)
}

fn application(program: &str, include: &[String]) -> anyhow::Result<Application> {
    let request = request(&[OsString::from(program)], include, Asks::default())?;
    let application = Cache::open()?.application(&request)?;
    let manifest = &application.manifest;
    Ok(Application {
        program: manifest.program.clone(),
        makes_code: manifest.makes_code(),
        files: manifest.entries.len(),
        bytes: manifest.blobs().values().sum(),
        programs: of_kind(manifest, FileKind::is_program),
        libraries: of_kind(manifest, |kind| kind == FileKind::Library),
    })
}

fn of_kind(manifest: &Manifest, is_wanted: impl Fn(FileKind) -> bool) -> Vec<String> {
    let is_wanted = |entry: &Entry| matches!(entry, Entry::File { kind, .. } if is_wanted(*kind));
    let entries = manifest.entries.iter().filter(|(_, entry)| is_wanted(entry));
    entries.map(|(path, _)| path.clone()).collect()
}

/// The limits of a run that names none: those of a job.
fn limits() -> Vec<Limit> {
    let (resources, limits) = (Resources::default(), Limits::default());
    let limit =
        |option, default: Option<String>| Limit { option, default: default.unwrap_or("none".to_owned()) };
    let size = |size: ByteSize| Some(size.to_string());
    vec![
        limit("--memory", size(resources.memory)),
        limit("--processes", Some(limits.processes.to_string())),
        limit("--disk", size(resources.disk)),
        limit("--cpus", Some(resources.cpus.to_string())),
        limit("--wall", Some(display_duration(limits.runtime_max))),
        limit("--cpu-time", limits.cpu_max.map(display_duration)),
        limit("--io-rate", limits.io_rate.and_then(size)),
        limit("--output-limit", None),
    ]
}

fn from_place(place: SeenPlace) -> Place {
    let SeenPlace { path, access, reason } = place;
    Place { path, access, reason }
}

fn from_rule(rule: FilterRule) -> SystemCalls {
    let FilterRule { group, calls, when, answer, reason } = rule;
    SystemCalls { group, calls, when, answer, reason }
}

impl Explained {
    fn print(&self) {
        if let Some(application) = &self.application {
            application.print();
        }
        output::line(
            "PLACES: what is there besides the program's files; nothing that can be written can be executed",
        );
        let mut table = Table::new(&["path", "may", "reason"]);
        for place in &self.places {
            table.row([&place.path, place.access, place.reason].map(str::to_owned));
        }
        table.print();
        output::line("\nLIMITS, unless told otherwise");
        let mut table = Table::new(&["option", "default"]);
        for limit in &self.limits {
            table.row([limit.option.to_owned(), limit.default.clone()]);
        }
        table.print();
        output::line(
            "\nSYSTEM CALLS: of the lines that name a call, the first that holds decides; others are not there",
        );
        let mut table = Table::new(&["about", "answer", "when", "calls", "reason"]);
        for rule in &self.system_calls {
            let when = if rule.when.is_empty() { "always" } else { &rule.when };
            let cells = [rule.group, &rule.answer, when, &rule.calls.join(" "), rule.reason];
            table.row(cells.map(str::to_owned));
        }
        table.print();
        output::line("\nENFORCED on this machine");
        Check::table(&self.enforced).print();
    }
}

impl Application {
    fn print(&self) {
        output::line(&format!("FILES of {}: {}, {}", self.program, self.files, ByteSize(self.bytes)));
        output::line(&format!(
            "  {} programs may be started{}, {} libraries may be loaded, all else is data",
            self.programs.len(),
            if self.makes_code { " and make code while they run" } else { "" },
            self.libraries.len()
        ));
        self.programs.iter().for_each(|program| output::line(&format!("  program  {program}")));
        self.libraries.iter().for_each(|library| output::line(&format!("  library  {library}")));
        output::line("");
    }
}
