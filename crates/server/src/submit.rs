//! A submission checked against the files that were uploaded for it, before the grid hears of it.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use job_manager::aggregate::Aggregator;
use link::keys::SigningKey;
use model::plan::{Aggregate, Content, Plan};
use model::{BlobHash, UserName};
use protocol::api::{Problem, ProblemCode, SubmitRequest};
use protocol::client_link::manifest_text;
use protocol::manifest::Manifest;
use protocol::spec::{Document, Spec, SpecErrors, SpecFiles, glob_matches, resolve};
use protocol::split::{READ_BUFFER, SplitFormat, SplitIndex, SplitRule, index};

use crate::files::{Files, MAX_READ, Slice};
use crate::grid::Submission;
use crate::keys::GridKeys;
use crate::problem::{files_problem, problem};
use crate::store::SignedApplication;

/// Largest manifest.
const MAX_MANIFEST: u64 = 64 << 20;

/// Most files of one result: its list is read and sent as a whole.
const MAX_RESULT_FILES: u64 = 200_000;

/// Secrets of one job, names and values together.
const MAX_SECRETS: usize = 64 << 10;

pub(crate) fn prepare(
    files: &dyn Files,
    keys: &GridKeys,
    user: UserName,
    request: SubmitRequest,
) -> Result<Submission, Problem> {
    if !(1..=128).contains(&request.idempotency_key.len()) {
        let detail = "idempotency_key must have 1 to 128 characters";
        return Err(problem(ProblemCode::BadRequest, detail, ""));
    }
    let application = check_application(files, keys.grid(), request.application)?;
    let document = read_spec(&request)?;
    let spec = Spec::read(&document).map_err(|errors| spec_problem(&errors))?;
    let mut uploaded = Uploaded { files, by_path: &request.files };
    let resolved = resolve(&spec, &mut uploaded, request.application)
        .map_err(|errors| spec_problem(&document.locate(errors)))?;
    let plan = resolved.plan;
    check_aggregates(&plan)?;
    let secrets = check_secrets(&spec, request.secrets)?;
    let total = plan.subjobs().unwrap_or(0);
    if total == 0 {
        return Err(problem(ProblemCode::BadSpec, "the job has no subjobs", ""));
    }
    if let Some((parent, split)) = &resolved.split {
        let slice = |range: &protocol::split::ChunkRange| Slice {
            hash: range.chunk.hash,
            parent: parent.hash,
            offset: range.offset,
            len: range.chunk.size,
        };
        let slices: Vec<Slice> = split.chunks.iter().map(slice).collect();
        files.put_slices(&slices).map_err(|error| files_problem(&error))?;
    }
    Ok(Submission { user, idempotency_key: request.idempotency_key, plan, total, application, secrets })
}

/// Reads the manifest, makes sure that every file of it is there, and signs it for the clients.
fn check_application(
    files: &dyn Files,
    key: &SigningKey,
    manifest: BlobHash,
) -> Result<SignedApplication, Problem> {
    let lacks = |what: String| problem(ProblemCode::MissingBlobs, what, "upload it, then submit again");
    let size = files.size(&manifest).map_err(|error| files_problem(&error))?;
    let size = size.ok_or_else(|| lacks(format!("the manifest {manifest} was not uploaded")))?;
    if size > MAX_MANIFEST {
        let detail = format!("a manifest of {size} bytes, at most {MAX_MANIFEST}");
        return Err(problem(ProblemCode::TooLarge, detail, "wrap fewer files"));
    }
    let bytes = read_all(files, &manifest, size)?;
    let decoded = Manifest::decode(&bytes)
        .map_err(|error| problem(ProblemCode::BadSpec, error.to_string(), "wrap the program again"))?;
    for (hash, expected) in decoded.blobs() {
        match files.size(&hash).map_err(|error| files_problem(&error))? {
            Some(found) if found == expected => {}
            Some(found) => {
                let detail = format!("the manifest gives {hash} {expected} bytes, it has {found}");
                return Err(problem(ProblemCode::BadSpec, detail, "wrap the program again"));
            }
            None => return Err(lacks(format!("the application's file {hash} was not uploaded"))),
        }
    }
    let signature = key.sign(&manifest_text(&manifest)).0;
    Ok(SignedApplication { manifest, manifest_size: size, signature })
}

fn read_all(files: &dyn Files, hash: &BlobHash, size: u64) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    while (bytes.len() as u64) < size {
        let part = files.read(hash, bytes.len() as u64, MAX_READ).map_err(|error| files_problem(&error))?;
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// What `aggregate` can't do is said now, not after a week of computing.
fn check_aggregates(plan: &Plan) -> Result<(), Problem> {
    let kept = plan.aggregate.iter().filter(|aggregate| matches!(aggregate, Aggregate::Files { .. })).count();
    let files = plan.subjobs().unwrap_or(0).saturating_mul(kept as u64);
    if files > MAX_RESULT_FILES {
        let detail = format!("the result would have {files} files, at most {MAX_RESULT_FILES} can be kept");
        return Err(problem(ProblemCode::BadSpec, detail, "aggregate by concat or table instead"));
    }
    for (which, aggregate) in plan.aggregate.iter().enumerate() {
        if !matches!(aggregate, Aggregate::Files { .. }) {
            Aggregator::new(plan, which).map_err(|error| {
                problem(ProblemCode::BadSpec, format!("aggregate[{which}]: {error}"), "correct the job spec")
            })?;
        }
    }
    Ok(())
}

fn check_secrets(
    spec: &Spec,
    given: BTreeMap<String, String>,
) -> Result<Option<BTreeMap<String, String>>, Problem> {
    let named: Vec<&String> = spec.secrets.keys().collect();
    if !named.iter().copied().eq(given.keys()) {
        let detail = format!("the spec names the secrets {named:?}, others were sent");
        return Err(problem(ProblemCode::BadRequest, detail, "send a value for each secret of the spec"));
    }
    let size: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_SECRETS {
        let detail = format!("secrets of {size} bytes, at most {MAX_SECRETS}");
        return Err(problem(ProblemCode::TooLarge, detail, "pass large data as an input"));
    }
    Ok((!given.is_empty()).then_some(given))
}

fn read_spec(request: &SubmitRequest) -> Result<Document, Problem> {
    let document = match (&request.spec, &request.spec_toml) {
        (Some(json), None) => Document::json("spec", json.get()),
        (None, Some(text)) => Document::toml("spec_toml", text),
        _ => return Err(problem(ProblemCode::BadRequest, "one of spec and spec_toml must be there", "")),
    };
    document.map_err(|errors| spec_problem(&errors))
}

fn spec_problem(errors: &SpecErrors) -> Problem {
    problem(ProblemCode::BadSpec, errors.to_string(), "correct the job spec")
}

/// The submission's files, where the spec looks for them.
struct Uploaded<'a> {
    files: &'a dyn Files,
    by_path: &'a BTreeMap<String, Content>,
}

impl Uploaded<'_> {
    fn find(&self, path: &str) -> Result<Content, String> {
        let content =
            self.by_path.get(path).ok_or_else(|| format!("'{path}' is not among the files sent"))?;
        match self.files.size(&content.hash) {
            Ok(Some(size)) if size == content.size => Ok(*content),
            Ok(Some(size)) => Err(format!("'{path}' has {size} bytes, not {}", content.size)),
            Ok(None) => Err(format!("'{path}' was not uploaded")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl SpecFiles for Uploaded<'_> {
    fn glob(&mut self, pattern: &str) -> Result<Vec<String>, String> {
        glob_matches(pattern, self.by_path.keys().map(String::as_str))
    }

    fn read(&mut self, path: &str, limit: usize) -> Result<Vec<u8>, String> {
        let content = self.find(path)?;
        if content.size > limit as u64 {
            return Err(format!("'{path}' has {} bytes, more than {limit}", content.size));
        }
        read_all(self.files, &content.hash, content.size).map_err(|problem| problem.detail)
    }

    fn content(&mut self, path: &str) -> Result<Content, String> {
        self.find(path)
    }

    fn split(&mut self, path: &str, format: SplitFormat, rule: SplitRule) -> Result<SplitIndex, String> {
        let content = self.find(path)?;
        let reader = BlobReader { files: self.files, content, at: 0 };
        index(BufReader::with_capacity(READ_BUFFER, reader), format, rule)
            .map_err(|e| format!("'{path}': {e}"))
    }
}

/// A blob as a reader.
struct BlobReader<'a> {
    files: &'a dyn Files,
    content: Content,
    at: u64,
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.content.size {
            return Ok(0);
        }
        let len = buffer.len().min(MAX_READ);
        let part = self.files.read(&self.content.hash, self.at, len).map_err(io::Error::other)?;
        buffer[..part.len()].copy_from_slice(&part);
        self.at += part.len() as u64;
        Ok(part.len())
    }
}

impl Seek for BlobReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.content.size.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
