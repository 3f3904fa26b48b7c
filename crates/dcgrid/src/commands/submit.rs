//! `dcgrid submit`: check, wrap, upload, submit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use link::{LinkError, UserLink};
use model::plan::{Content, Plan};
use model::{BlobHash, ByteSize};
use protocol::api::{ProblemCode, SubmitReply, SubmitRequest};
use protocol::spec::{Document, SecretSource, Spec, resolve};
use serde::Serialize;
use wrap::Source;

use crate::args::{LoginArgs, SubmitArgs};
use crate::commands::local_files::{LocalFiles, shell_text};
use crate::commands::wait::wait;
use crate::exit::{Exit, fault};
use crate::output;
use crate::settings::connect;

/// How long a server that was lost in the middle of a submission is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two such tries.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A job spec's text, and how it is to be read.
#[derive(Debug)]
pub struct SpecText {
    pub text: String,
    pub is_json: bool,
    /// For messages.
    pub name: String,
    /// Where the paths in it begin.
    pub base: PathBuf,
}

#[derive(Serialize)]
struct Checked<'a> {
    name: &'a str,
    subjobs: u64,
    application_files: usize,
    application_bytes: u64,
    input_files: usize,
    input_bytes: u64,
}

pub async fn run(args: SubmitArgs, login: &LoginArgs, json: bool) -> anyhow::Result<Exit> {
    let spec = SpecText::read(&args.spec)?;
    let ready = prepare(spec)?;
    if args.check {
        ready.describe(json);
        return Ok(Exit::Success);
    }
    let mut link = connect(login)?;
    let reply = ready.submit(&mut link, json).await?;
    if !args.wait {
        if json {
            output::json(&reply);
        } else {
            output::line(&reply.job.to_string());
            output::note(&format!(
                "job {} '{}' with {} subjobs; follow it with `dcgrid show {}`",
                reply.job, ready.plan.name, reply.subjobs, reply.job
            ));
        }
        return Ok(Exit::Success);
    }
    let ended = wait(&mut link, reply.job, args.timeout, json).await?;
    ended.report(&mut link, json).await
}

impl SpecText {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| {
            fault(Exit::Usage, format!("can't read the job spec '{}': {error}", path.display()), "")
        })?;
        let text = String::from_utf8(bytes).map_err(|_| {
            fault(Exit::Usage, format!("the job spec '{}' is not UTF-8 text", path.display()), "")
        })?;
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let base = std::path::absolute(path).context("can't tell the current directory")?;
        let base = base.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        Ok(SpecText { text, is_json, name: path.display().to_string(), base })
    }

    fn document(&self) -> Result<Document, protocol::spec::SpecErrors> {
        if self.is_json {
            Document::json(&self.name, &self.text)
        } else {
            Document::toml(&self.name, &self.text)
        }
    }
}

/// A job that was checked here and can be submitted.
#[derive(Debug)]
pub struct ReadyJob {
    spec: SpecText,
    pub plan: Plan,
    subjobs: u64,
    files: BTreeMap<String, Content>,
    secrets: BTreeMap<String, String>,
    manifest: Vec<u8>,
    manifest_hash: BlobHash,
    /// Everything that may have to be uploaded: the application's files and the inputs.
    sources: BTreeMap<BlobHash, Source>,
    application_files: usize,
    application_bytes: u64,
}

/// Checks a job spec as far as it can be checked without the server, and wraps its program.
pub fn prepare(text: SpecText) -> anyhow::Result<ReadyJob> {
    let document = text.document()?;
    let spec = Spec::read(&document)?;
    let program = spec.app.program.clone().unwrap_or_else(|| spec.command[0].clone());
    let shell_text = wrap::is_shell(&program).then(|| shell_text(&spec, &text.base));
    let wrapped = wrap::wrap(&wrap::Request {
        program,
        include: spec.app.include.clone(),
        shell_text,
        base_dir: text.base.clone(),
        search_path: std::env::var_os("PATH").unwrap_or_default(),
        jit: match spec.app.jit {
            None => wrap::Jit::Auto,
            Some(true) => wrap::Jit::On,
            Some(false) => wrap::Jit::Off,
        },
        display: match spec.app.gui {
            None => wrap::Display::None,
            Some(_) => wrap::Display::Private,
        },
    })?;
    for warning in &wrapped.report.warnings {
        tracing::warn!("{warning}");
    }
    let manifest = wrapped.manifest.encode();
    let manifest_hash = BlobHash(*blake3::hash(&manifest).as_bytes());
    let mut files = LocalFiles::new(&text.base);
    let resolved = resolve(&spec, &mut files, manifest_hash).map_err(|errors| document.locate(errors))?;
    let subjobs = resolved.plan.subjobs().unwrap_or(0);
    let mut sources = wrapped.sources;
    for (path, content) in &files.found {
        sources.insert(content.hash, Source::File(text.base.join(path)));
    }
    let secrets = read_secrets(&spec, &text.base)?;
    let sizes = wrapped.manifest.blobs();
    Ok(ReadyJob {
        plan: resolved.plan,
        subjobs,
        files: files.found,
        secrets,
        manifest,
        manifest_hash,
        sources,
        application_files: wrapped.manifest.entries.len(),
        application_bytes: sizes.values().sum(),
        spec: text,
    })
}

impl ReadyJob {
    fn describe(&self, json: bool) {
        let input_bytes = self.files.values().map(|content| content.size).sum();
        let checked = Checked {
            name: &self.plan.name,
            subjobs: self.subjobs,
            application_files: self.application_files,
            application_bytes: self.application_bytes,
            input_files: self.files.len(),
            input_bytes,
        };
        if json {
            output::json(&checked);
            return;
        }
        output::line(&format!("{}  ok", self.spec.name));
        output::line(&format!("  subjobs      {}", checked.subjobs));
        let application = ByteSize(checked.application_bytes);
        output::line(&format!("  application  {} files, {application}", checked.application_files));
        output::line(&format!("  inputs       {} files, {}", checked.input_files, ByteSize(input_bytes)));
    }

    /// Uploads what the server lacks, and submits. A server that answers at first and then can't be reached is
    /// asked again for a while: under the same key, so that it is one job whatever became of the answer.
    pub async fn submit(&self, link: &mut UserLink, quiet: bool) -> anyhow::Result<SubmitReply> {
        let request = self.request()?;
        let mut missing = self.missing(link).await?;
        if missing.len() > 1 && !quiet {
            output::note(&format!("uploading {} files", missing.len()));
        }
        let begun = Instant::now();
        loop {
            match self.send(link, missing, &request).await {
                Err(error) if is_interruption(&error) && begun.elapsed() < PATIENCE => {
                    tracing::warn!("{error:#}; trying again");
                }
                done => return done,
            }
            missing = loop {
                tokio::time::sleep(RETRY_PAUSE).await;
                match self.missing(link).await {
                    Err(error) if is_interruption(&error) && begun.elapsed() < PATIENCE => {}
                    answer => break answer?,
                }
            };
        }
    }

    async fn missing(&self, link: &mut UserLink) -> anyhow::Result<BTreeMap<BlobHash, u64>> {
        let mut blobs: Vec<BlobHash> = self.sources.keys().copied().collect();
        blobs.push(self.manifest_hash);
        Ok(link.missing(&blobs).await?)
    }

    async fn send(
        &self,
        link: &mut UserLink,
        missing: BTreeMap<BlobHash, u64>,
        request: &SubmitRequest,
    ) -> anyhow::Result<SubmitReply> {
        for (hash, offset) in missing {
            if hash == self.manifest_hash {
                link.upload_bytes(&hash, &self.manifest).await?;
                continue;
            }
            match &self.sources[&hash] {
                Source::File(path) => {
                    let sent = link.upload_file(&hash, path, offset, |_| {}).await;
                    sent.with_context(|| format!("uploading '{}'", path.display()))?;
                }
                source => {
                    let bytes = source.read().context("reading a program again to upload it")?;
                    link.upload_bytes(&hash, &bytes).await?;
                }
            }
        }
        Ok(link.post("/v1/jobs", request).await?)
    }

    fn request(&self) -> anyhow::Result<SubmitRequest> {
        Ok(SubmitRequest {
            spec: if self.spec.is_json {
                Some(serde_json::value::RawValue::from_string(self.spec.text.clone())?)
            } else {
                None
            },
            spec_toml: (!self.spec.is_json).then(|| self.spec.text.clone()),
            files: self.files.clone(),
            application: self.manifest_hash,
            secrets: self.secrets.clone(),
            idempotency_key: idempotency_key()?,
        })
    }
}

/// Whether the server was lost on the way rather than said no.
fn is_interruption(error: &anyhow::Error) -> bool {
    error.downcast_ref::<LinkError>().is_some_and(|error| {
        error.is_passing() && matches!(error.code(), None | Some(ProblemCode::Overloaded))
    })
}

/// Drawn anew for each submission.
fn idempotency_key() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| fault(Exit::Internal, error.to_string(), ""))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read_secrets(spec: &Spec, base: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let read = |(name, source): (&String, &SecretSource)| {
        let value = match source {
            SecretSource::Env(variable) => std::env::var(variable).map_err(|_| {
                let message = format!("the secret {name} needs the environment variable {variable}");
                fault(Exit::Usage, message, format!("export {variable}=..."))
            })?,
            SecretSource::File(path) => std::fs::read_to_string(base.join(path)).map_err(|error| {
                fault(Exit::Usage, format!("the secret {name} can't be read from '{path}': {error}"), "")
            })?,
        };
        Ok((name.clone(), value.trim_end_matches('\n').to_owned()))
    };
    spec.secrets.iter().map(read).collect()
}
