//! The user API: what the command line and any other program says to the server over HTTPS.
//!
//! JSON, field names stable. Times are milliseconds since 1970-01-01 UTC, durations and sizes carry their unit in
//! the field's name. Every request but `GET /v1/health` carries `Authorization: Bearer` with a user token's secret.

use std::collections::BTreeMap;

use model::plan::Content;
use model::{
    BlobHash, ClientId, Counts, Fence, Inventory, JobId, JobState, Limits, Resources, Tampering, Timestamp,
    UserName,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `POST /v1/jobs`. Every blob it names must have been uploaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// The job spec as a JSON object, kept to the letter: the order of its keys is the order of a sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Box<RawValue>>,
    /// The job spec as TOML text. One of the two must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_toml: Option<String>,
    /// The files that the spec names, by the path it gives them.
    #[serde(default)]
    pub files: BTreeMap<String, Content>,
    /// The manifest of the wrapped application.
    pub application: BlobHash,
    /// Values of the spec's `secrets`. Kept sealed at rest, handed only to clients that run the job.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Chosen by the submitter; a repeated request with the same key answers with the same job.
    pub idempotency_key: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubmitReply {
    pub job: JobId,
    pub subjobs: u64,
}

/// A job in a list and the answer to `GET /v1/jobs/{job}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobView {
    pub job: JobId,
    pub name: String,
    pub user: UserName,
    pub state: JobState,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    pub submitted: Timestamp,
    pub ended: Option<Timestamp>,
    pub counts: Counts,
    /// Processor seconds of all attempts that succeeded.
    pub cpu_s: f64,
    /// Another one after every change; `?after=VERSION&wait_s=N` waits for that while the job has not ended.
    pub version: u64,
}

/// `GET /v1/jobs/{job}/details`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobDetails {
    #[serde(flatten)]
    pub view: JobView,
    pub application: BlobHash,
    pub resources: Resources,
    pub limits: Limits,
    pub attempts: u32,
    pub running: Vec<RunningView>,
    pub failures: Vec<FailureGroup>,
    /// Why nothing more of it runs at this moment; absent when something does or nothing waits.
    pub waits: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunningView {
    pub subjob: u64,
    pub attempt: u32,
    pub fence: Fence,
    pub client: ClientId,
    pub host_name: String,
    pub since: Timestamp,
}

/// Attempts that failed for like reasons.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureGroup {
    pub class: model::FailureClass,
    pub reason: String,
    pub attempts: u64,
    /// One of them, to look at.
    pub example: u64,
    pub host_name: String,
}

/// `GET /v1/jobs/{job}/subjobs?after=`: those of which an attempt has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubjobPage {
    pub subjobs: Vec<SubjobView>,
    /// Index to pass as `after` for the next page.
    pub next: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubjobView {
    pub subjob: u64,
    pub state: SubjobState,
    /// The values it was made with.
    pub values: BTreeMap<String, String>,
    pub attempts: Vec<AttemptView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjobState {
    Waiting,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl SubjobState {
    pub fn name(self) -> &'static str {
        match self {
            SubjobState::Waiting => "waiting",
            SubjobState::Running => "running",
            SubjobState::Succeeded => "succeeded",
            SubjobState::Failed => "failed",
            SubjobState::Cancelled => "cancelled",
        }
    }
}

/// One attempt that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptView {
    pub attempt: u32,
    pub client: ClientId,
    pub host_name: String,
    pub ended: Timestamp,
    pub wall_s: f64,
    pub cpu_s: f64,
    pub peak_memory_bytes: u64,
    /// Absent when it succeeded.
    pub failure: Option<String>,
    pub class: Option<model::FailureClass>,
    /// What it left; those of the last attempt are at `/v1/jobs/{job}/subjobs/{subjob}/files/{path}`.
    #[serde(default)]
    pub files: Vec<ResultFile>,
}

/// `GET /v1/jobs/{job}/result`: the files of the result; each at `/v1/jobs/{job}/result/{path}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResultList {
    pub job: JobId,
    pub state: JobState,
    pub files: Vec<ResultFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultFile {
    pub path: String,
    pub hash: BlobHash,
    pub size: u64,
}

/// `POST /v1/blobs/missing`: which of these must still be uploaded, and from where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MissingRequest {
    pub blobs: Vec<BlobHash>,
}

/// Most hashes in one [`MissingRequest`].
pub const MAX_MISSING: usize = 50_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MissingReply {
    /// Hash → bytes that are there already.
    pub missing: BTreeMap<BlobHash, u64>,
}

/// `PUT /v1/blobs/{hash}?total=&offset=` answers with how far the upload is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct UploadReply {
    pub uploaded: u64,
    pub complete: bool,
}

/// Most bytes in one upload or download request; larger files take several.
pub const MAX_PART: usize = 4 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientView {
    pub client: ClientId,
    pub inventory: Inventory,
    pub state: ClientState,
    /// Why it is not `online`.
    pub reason: Option<String>,
    pub registered: Timestamp,
    pub last_seen: Option<Timestamp>,
    pub running: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// Set for good when what lay on its disk had been changed.
    #[serde(default)]
    pub tampering: Option<Tampering>,
}

impl ClientView {
    /// Its state for people, with what an administrator should know.
    pub fn state_text(&self) -> String {
        let mut text = self.state.name().to_owned();
        if let Some(reason) = &self.reason {
            text.push_str(&format!(" ({reason})"));
        }
        if let Some(Tampering { times, last }) = self.tampering {
            text.push_str(&format!(", TAMPERING {times} times, last at {last}"));
        }
        text
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientState {
    Online,
    Offline,
    /// Suspected to be a black hole; gets no work until its back-off is over (§4.2.3).
    BackedOff,
    Revoked,
}

impl ClientState {
    pub fn name(self) -> &'static str {
        match self {
            ClientState::Online => "online",
            ClientState::Offline => "offline",
            ClientState::BackedOff => "backed off",
            ClientState::Revoked => "revoked",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Submits jobs and sees their own.
    User,
    /// Sees all jobs, clients and tokens.
    Admin,
}

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    pub grants: TokenGrants,
    /// Clients that may join with it; absent = no bound. User tokens have none.
    #[serde(default)]
    pub uses: Option<u32>,
    /// Seconds until it expires; absent = never.
    #[serde(default)]
    pub expires_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TokenGrants {
    /// Registers clients.
    Join,
    /// Logs a user in.
    User { user: UserName, role: Role },
}

/// The only time the token itself is seen: the server keeps its hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenReply {
    pub id: u64,
    pub token: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenView {
    pub id: u64,
    #[serde(flatten)]
    pub grants: TokenGrants,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    pub uses_left: Option<u32>,
    pub revoked: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WhoAmI {
    pub user: UserName,
    pub role: Role,
    pub server_version: String,
}

/// RFC 9457 problem details, with a sentence that says what to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    pub status: u16,
    pub code: ProblemCode,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    BadRequest,
    BadSpec,
    MissingBlobs,
    NotLoggedIn,
    NotAllowed,
    TokenRefused,
    ClientRevoked,
    NotFound,
    StaleSequence,
    WrongOffset,
    HashMismatch,
    TooLarge,
    StorageFull,
    Overloaded,
    Internal,
}
