//! The job spec: what a scientist writes to submit a job, in TOML or JSON, and how it becomes a plan.
//!
//! ```text
//! text ── Document (a tree with places) ── Spec (keys and types) ── resolve, with the files ── model::plan::Plan
//! ```
//!
//! Pure: files are seen through [`SpecFiles`] alone. The language is told in docs/manual/job-spec.md.

mod aggregate;
mod amounts;
mod bounds;
mod decode;
mod document;
mod error;
mod files;
#[cfg(test)]
mod fixtures;
mod parameters;
mod path;
mod placeholder;
mod placement;
mod range;
mod reader;
mod rendering;
mod resolve;
mod schema;
mod scope;
mod sweep;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod words;

pub use aggregate::MAX_REGEX_BYTES;
pub use document::{Document, MAX_SPEC_BYTES};
pub use error::{Key, KeyPath, MAX_ERRORS, Place, SpecError, SpecErrors};
pub use files::{SpecFiles, glob_matches};
pub use parameters::{MAX_COLUMNS, MAX_TABLE_BYTES, MAX_VALUES};
pub use path::{MAX_PATH, PathProblem, check_path};
pub use resolve::{MAX_INPUTS, MAX_OUTPUTS, MAX_SWEEP_NAMES, Resolved, resolve};
pub use schema::json_schema;
pub use types::{
    AggregateSpec, App, ColumnSpec, CommentsRule, ConcatSpec, FilesSpec, InputFile, OutputSpec, RepeatSpec,
    SecretSource, Spec, SplitSpec, Sweep, SweepMode, SweepValues, TableFile, TableSpec,
};
