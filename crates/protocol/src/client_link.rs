//! The client link: what a Desktop Controller and the server say to each other.
//!
//! One long poll is heartbeat, report and request at once. Every request is signed by the client's own key and
//! every reply by the grid's, over the bytes that [`request_text`] and [`reply_text`] give, so both hold through a
//! proxy that opens TLS. A poll carries a sequence number: repeated, it gets the same leases again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::plan::Input;
use model::{
    BlobHash, Capacity, ClientId, DisplaySize, FailureReason, Fence, Inventory, Limits, NetworkAccess,
    Resources, Sealing, SubjobId, Usage,
};
use serde::{Deserialize, Serialize};

/// Header with the client's id.
pub const CLIENT_HEADER: &str = "dcgrid-client";
/// Header with the sender's Ed25519 signature, in base64.
pub const SIGNATURE_HEADER: &str = "dcgrid-signature";

/// The text a client signs: method, path with query, and the BLAKE3 hash of the body.
pub fn request_text(client: ClientId, method: &str, path_and_query: &str, body: &BlobHash) -> String {
    format!("dcgrid request 1\n{client}\n{method}\n{path_and_query}\n{body}\n")
}

/// The text the server signs: bound to the request's signature, so that no old reply can be played back.
pub fn reply_text(request_signature: &str, status: u16, body: &BlobHash) -> String {
    format!("dcgrid reply 1\n{request_signature}\n{status}\n{body}\n")
}

/// The text by which the grid's CA vouches for the grid key that signs manifests and replies.
pub fn grid_key_text(grid_key: &BlobHash) -> String {
    format!("dcgrid grid key 1\n{grid_key}\n")
}

/// The text that is signed over an application's manifest.
pub fn manifest_text(manifest: &BlobHash) -> String {
    format!("dcgrid manifest 1\n{manifest}\n")
}

/// `POST /v1/clients`: signed like every other request, which proves that the client holds the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// Secret part of a join token.
    pub token: String,
    /// Ed25519 public key, 32 bytes.
    pub public_key: BlobHash,
    /// X25519 public key that secrets are sealed to (HPKE, RFC 9180), 32 bytes.
    pub seal_key: BlobHash,
    pub inventory: Inventory,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegisterReply {
    pub client: ClientId,
    /// Ed25519 public key of the grid.
    pub grid_key: BlobHash,
    /// The CA's signature over [`grid_key_text`].
    pub grid_key_signature: Signature,
}

/// `POST /v1/poll`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollRequest {
    /// Grows with every new poll, also over restarts of the client; equal only when a poll is repeated.
    pub seq: u64,
    /// Newest poll whose reply has arrived: leases of later ones may still be on their way.
    pub answered: u64,
    /// What is free for more subjobs.
    pub capacity: Capacity,
    /// Leases that the client works on or still has to report.
    pub held: Vec<Fence>,
    pub reports: Vec<Report>,
    /// Sent first and after a change.
    pub inventory: Option<Inventory>,
    /// How long the server may hold the request when it has nothing to say.
    pub wait_s: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PollReply {
    pub seq: u64,
    pub leases: Vec<Lease>,
    /// Leases that no longer count: stop them, report nothing.
    pub cancel: Vec<Fence>,
    /// Reports that are now durable, or that came under a dead number; forget them.
    pub settled: Vec<Fence>,
    /// Wait this long before the next poll.
    pub next_poll_ms: u64,
}

/// Most leases and reports in one poll.
pub const MAX_PER_POLL: usize = 256;

/// Longest time a poll is held, below the 60 s after which common proxies give up.
pub const MAX_WAIT: Duration = Duration::from_secs(45);

/// A subjob to run, with everything it needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lease {
    pub fence: Fence,
    pub subjob: SubjobId,
    pub attempt: u32,
    /// For the person at the desk.
    pub job_name: String,
    pub user: String,
    pub application: BlobHash,
    pub application_size: u64,
    /// The grid key's signature over [`manifest_text`].
    pub application_signature: Signature,
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stdin: Option<String>,
    pub inputs: Vec<Input>,
    pub outputs: Vec<DeclaredOutput>,
    pub resources: Resources,
    pub limits: Limits,
    #[serde(default)]
    pub network: NetworkAccess,
    /// The private display that the subjob gets, if it gets one.
    #[serde(default)]
    pub display: Option<DisplaySize>,
    /// HPKE-sealed [`Secrets`] as JSON, absent when the job has none.
    pub secrets: Option<Sealed>,
    /// HPKE-sealed [`LEASE_KEYS`] bytes, for clients that can seal files.
    #[serde(default)]
    pub keys: Option<Sealed>,
}

impl Lease {
    /// Whether the job demands that the subjob's files lie sealed on the client's disk.
    pub fn demands_sealing(&self) -> bool {
        self.resources.needs.sealing > Sealing::Off
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredOutput {
    pub path: String,
    pub optional: bool,
}

/// Environment variables that only this subjob may see.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(pub Vec<(String, String)>);

impl std::fmt::Debug for Secrets {
    /// Names only: secrets never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// The context that a lease's secrets are bound to: they open for this lease and no other.
pub fn secrets_info(fence: Fence, subjob: SubjobId) -> String {
    format!("dcgrid secrets 1\n{fence}\n{subjob}\n")
}

/// Bytes of one key of a lease.
pub const LEASE_KEY: usize = 32;

/// Bytes of a lease's keys: first the key of the subjob's own files, made for this lease and kept by nobody, then the
/// key of what the client keeps for further subjobs, which is the same in each lease of the client.
pub const LEASE_KEYS: usize = 2 * LEASE_KEY;

/// The context that a lease's keys are bound to.
pub fn keys_info(fence: Fence, subjob: SubjobId) -> String {
    format!("dcgrid keys 1\n{fence}\n{subjob}\n")
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sealed {
    pub encapsulated_key: Bytes,
    pub ciphertext: Bytes,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub fence: Fence,
    /// Absent when the subjob succeeded.
    pub failure: Option<FailureReason>,
    pub outputs: Vec<ReportedFile>,
    pub usage: Usage,
}

/// A file that came out of a subjob: small ones travel with the report, others were uploaded before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedFile {
    pub path: String,
    pub hash: BlobHash,
    pub size: u64,
    pub inline: Option<Bytes>,
}

/// Names of the two streams among a subjob's files. Declared outputs can't take them.
pub const STDOUT: &str = "stdout";
pub const STDERR: &str = "stderr";

/// Most dialogs of one attempt whose pictures are reported.
pub const MAX_PICTURES: usize = 8;

/// Name of the picture of a dialog, counted from 1, among a subjob's files. A declared output of the same name goes
/// first.
pub fn dialog_picture(number: usize) -> String {
    format!("dialog-{number}.png")
}

/// Most bytes that travel inside one report.
pub const MAX_INLINE: usize = 64 << 10;

/// Bytes that are written as base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// An Ed25519 signature, 64 bytes.
pub type Signature = Bytes;

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes).map_err(serde::de::Error::custom)
    }
}
