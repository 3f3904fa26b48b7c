//! The job spec as a value: one field per key. Reading it is `decode`, its meaning `resolve`.
//!
//! Texts with placeholders are kept as written; sizes and times are read. What a spec serializes to is a spec
//! again. The doc comments are the descriptions of the published JSON Schema.

use std::collections::BTreeMap;

use model::{ByteSize, DisplaySize, Limits, NetworkAccess, Resources};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::amounts::{
    LimitsKeys, NetworkKeys, ResourcesKeys, serialize_limits, serialize_network, serialize_resources,
    size_text,
};
use super::schema::{Command, Gui, OneOrMany, Scalar};
use crate::split::{SplitFormat, SplitRule};

/// A job: one program, its data, how it is cut into subjobs and how their outputs become one result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, title = "DCGrid job spec")]
pub struct Spec {
    /// Version of this language: 1.
    #[schemars(range(min = 1, max = 1))]
    pub spec: u32,
    /// For people; the program's name if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The program and its arguments, with placeholders; one text is split as a shell would.
    #[schemars(with = "Command")]
    pub command: Vec<String>,
    /// What is wrapped into the sandboxed application.
    #[serde(skip_serializing_if = "App::is_default")]
    #[schemars(default)]
    pub app: App,
    /// Environment variables, with placeholders.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default, with = "BTreeMap<String, Scalar>")]
    pub env: BTreeMap<String, String>,
    /// The file that is the program's standard input: `{in.NAME}`, `{chunk}` or a swept file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Files that the subjobs get.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub inputs: BTreeMap<String, InputFile>,
    /// Cuts one input into runs of whole records, one per subjob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitSpec>,
    /// Runs the command once per set of values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// Runs the command many times, each with a seed of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<RepeatSpec>,
    /// Files that each subjob must leave in its working directory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub outputs: Vec<OutputSpec>,
    /// How the outputs of all subjobs become the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, with = "OneOrMany<AggregateSpec>")]
    pub aggregate: Vec<AggregateSpec>,
    /// What a client must have free.
    #[serde(serialize_with = "serialize_resources")]
    #[schemars(default, with = "ResourcesKeys")]
    pub resources: Resources,
    /// Bounds on one attempt of a subjob.
    #[serde(serialize_with = "serialize_limits")]
    #[schemars(default, with = "LimitsKeys")]
    pub limits: Limits,
    /// What of the network the subjobs reach: nothing if absent.
    #[serde(serialize_with = "serialize_network", skip_serializing_if = "is_offline")]
    #[schemars(default, with = "NetworkKeys")]
    pub network: NetworkAccess,
    /// Whether the program, its inputs and all that it writes must lie encrypted on the disk of the client.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    pub sealed: bool,
    /// Attempts that may fail before a subjob is failed.
    #[schemars(default = "default_attempts", range(min = 1, max = 20))]
    pub attempts: u32,
    /// Environment variables whose values are sealed to the client and never part of the spec.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub secrets: BTreeMap<String, SecretSource>,
}

fn is_offline(network: &NetworkAccess) -> bool {
    *network == NetworkAccess::default()
}

/// Three quick finishes or failures in a row make a subjob malformed (§4.2.3).
pub(super) fn default_attempts() -> u32 {
    3
}

/// What is wrapped into the sandboxed application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct App {
    /// Program to wrap: a name or a path; the first word of the command if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Further programs, files and directories that the program needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub include: Vec<String>,
    /// Whether its programs may make code at run time; found by looking at them if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jit: Option<bool>,
    /// A private, invisible display: `true`, or its size such as `1280x1024`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Gui")]
    pub gui: Option<DisplaySize>,
}

impl App {
    fn is_default(&self) -> bool {
        *self == App::default()
    }
}

/// A file of the submitter: its path, or `{ path, as }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum InputFile {
    /// Path of the file; it gets its own name in the working directory.
    Path(String),
    /// A file that gets another name.
    Named {
        /// Path of the file.
        path: String,
        /// Path below the working directory.
        #[serde(rename = "as")]
        name: String,
    },
}

impl InputFile {
    /// Where the submitter has it, relative to the spec's directory.
    pub fn path(&self) -> &str {
        match self {
            InputFile::Path(path) | InputFile::Named { path, .. } => path,
        }
    }
}

/// Cuts one input into runs of whole records. Exactly one of `records`, `parts` and `bytes` says how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitSpec {
    /// Name of the input.
    pub input: String,
    pub format: SplitFormat,
    #[serde(flatten, serialize_with = "serialize_rule")]
    pub rule: SplitRule,
}

/// Runs the command once per set of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sweep {
    /// Whether every value of one list meets every value of the others, or they go side by side.
    #[schemars(default)]
    pub mode: SweepMode,
    /// The value lists by name; the first varies slowest.
    #[serde(serialize_with = "serialize_pairs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, with = "BTreeMap<String, SweepValues>")]
    pub values: Vec<(String, SweepValues)>,
    /// A CSV or TSV file: one set of values per row; in a product it varies slower than `values`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableFile>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SweepMode {
    #[default]
    Product,
    Zip,
}

/// The values that one name takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SweepValues {
    /// Texts, numbers and booleans, each as it was written.
    List(Vec<String>),
    /// The files that match a pattern, in the order of their names; each subjob gets its file.
    Glob { glob: String },
    /// Numbers from the first to the second, both included, by steps of the third (1 if absent).
    Range { range: Vec<String> },
}

/// A file of parameters: a header row with the names, then one row per set of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TableFile {
    /// Path of the file, which ends in `.csv` (quotes as in RFC 4180), `.tsv` or `.tab`.
    pub file: String,
    /// Columns that hold paths of files; each subjob gets its file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub inputs: Vec<String>,
}

/// Runs the command many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RepeatSpec {
    #[schemars(range(min = 1))]
    pub times: u64,
    /// The first subjob's seed; each further subjob's is one more.
    #[schemars(default)]
    pub seed: u64,
}

/// A file that a subjob leaves: its path, or `{ path, optional }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutputSpec {
    /// Path below the working directory, with placeholders.
    pub path: String,
    /// Whether its absence is no failure.
    pub optional: bool,
}

/// One file or directory of the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "how", rename_all = "lowercase")]
pub enum AggregateSpec {
    /// The lines of all subjobs in one file.
    Concat(ConcatSpec),
    /// A CSV file with a row per subjob, or per match of `row`.
    Table(TableSpec),
    /// A file of each subjob, each under a name of its own.
    Files(FilesSpec),
}

/// The lines of all subjobs in one file, in the order of the subjobs unless sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ConcatSpec {
    /// `stdout`, `stderr` or the path of an output, as written there; the only output if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Path in the result.
    pub out: String,
    /// Lines at the start of each file that are kept once.
    #[schemars(default)]
    pub header_lines: u32,
    /// Lines that start with this are comments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the first file's leading comments stay at the head; all others are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comments: Option<CommentsRule>,
    /// Whether runs of blanks become one.
    #[schemars(default)]
    pub squeeze_blanks: bool,
    /// `line` or `field:N` (from 1, blank-separated), then `:numeric` and `:descending` if wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, with = "OneOrMany<String>")]
    pub sort: Vec<String>,
    /// Lines kept, after sorting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub top: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CommentsRule {
    Head,
    Drop,
}

/// A CSV file with a row per subjob, or per match of `row`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TableSpec {
    /// `stdout`, `stderr` or the path of an output, as written there; the only output if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Path in the result.
    pub out: String,
    /// Regular expression: each match is a row, and the columns look inside the match alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    pub columns: Vec<ColumnSpec>,
    /// Name of a column, then `:numeric` and `:descending` if wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, with = "OneOrMany<String>")]
    pub sort: Vec<String>,
    /// Rows kept, after sorting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub top: Option<u64>,
}

/// A column: the name of a sweep value, `index` or `seed`; or a name and where its cells come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ColumnSpec {
    Known(String),
    /// Text with placeholders.
    Value {
        name: String,
        value: String,
    },
    /// The first group of the expression's first match.
    Regex {
        name: String,
        regex: String,
    },
}

/// A file of each subjob, each under a name of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FilesSpec {
    /// `stdout`, `stderr` or the path of an output, as written there; the only output if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Path in the result, with placeholders that make it differ; `{index}/` and the output's path if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Where the submitter's command line finds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(deny_unknown_fields)]
pub enum SecretSource {
    /// A variable of the submitter's own environment.
    Env(String),
    /// A file of the submitter.
    File(String),
}

impl Spec {
    /// The program to wrap, if the spec names one: `app.program`, or the command's first word as it stands.
    pub fn program(&self) -> Option<&str> {
        let first = || self.command.first().map(String::as_str).filter(|word| !word.contains(['{', '}']));
        self.app.program.as_deref().or_else(first)
    }
}

fn serialize_rule<S: Serializer>(rule: &SplitRule, serializer: S) -> Result<S::Ok, S::Error> {
    match rule {
        SplitRule::Records(records) => serializer.collect_map([("records", records.get())]),
        SplitRule::Parts(parts) => serializer.collect_map([("parts", parts.get())]),
        SplitRule::Bytes(bytes) => serializer.collect_map([("bytes", size_text(ByteSize(bytes.get())))]),
    }
}

fn serialize_pairs<S: Serializer>(pairs: &[(String, SweepValues)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, values)| (name, values)))
}
