//! What the server must never forget, and the one way it is written.
//!
//! A batch of operations is committed whole or not at all, and survives a loss of power once [`Store::commit`]
//! has returned. There is a row per job, per live lease and per subjob that has ended; never one per waiting
//! subjob. [`Sqlite`] is the store. Tests have another in memory, and one that fails on demand.

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod faulty;
mod load;
#[cfg(test)]
pub(crate) mod memory;
mod read;
mod sqlite;

use std::time::Duration;

use model::plan::Plan;
use model::{
    BlobHash, ClientId, FailureReason, Fence, Inventory, JobId, JobState, OutputFile, Tampering, Timestamp,
    Usage, UserName,
};
use protocol::api::{ResultFile, TokenGrants};
use resource_scheduler::Lease;
use thiserror::Error;

pub use sqlite::Sqlite;

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the disk that holds '{}' is full", path.display())]
    Full { path: std::path::PathBuf },
    #[error("another server uses '{}'", path.display())]
    InUse { path: std::path::PathBuf },
    #[error("'{}' was written by a newer server (format {found}, this one reads up to {known})", path.display())]
    Newer { path: std::path::PathBuf, found: i64, known: i64 },
    #[error("the database failed while {doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the database holds {what} that can't be read: {why}")]
    Corrupt { what: &'static str, why: String },
}

/// One durable change.
#[derive(Clone, Debug)]
pub enum Op {
    AddJob(Box<NewJobRow>),
    /// First index that was never leased.
    SetCursor {
        job: JobId,
        cursor: u64,
    },
    SetJobState {
        job: JobId,
        state: JobState,
        reason: Option<String>,
        ended: Option<Timestamp>,
    },
    SetResult {
        job: JobId,
        files: Vec<ResultFile>,
    },
    AddLease(Lease),
    RemoveLease(Fence),
    /// The one outcome of a subjob; a second for the same subjob is an error.
    AddOutcome(EndedRow),
    /// An attempt that failed. The subjob may have further attempts.
    AddFailedAttempt(EndedRow),
    AddClient {
        id: ClientId,
        public_key: [u8; 32],
        seal_key: [u8; 32],
        inventory: Inventory,
        registered: Timestamp,
    },
    RevokeClient(ClientId),
    SetInventory {
        id: ClientId,
        inventory: Inventory,
    },
    AddToken(TokenRow),
    SetTokenUses {
        id: u64,
        uses_left: u32,
    },
    RevokeToken(u64),
    /// Fencing numbers below this may have been given out.
    ReserveFences(Fence),
}

/// A job as it is submitted.
#[derive(Clone, Debug)]
pub struct NewJobRow {
    pub id: JobId,
    pub user: UserName,
    pub idempotency_key: String,
    pub plan: Plan,
    pub total: u64,
    pub application: SignedApplication,
    /// Sealed under the server's storage key.
    pub secrets: Option<Vec<u8>>,
    pub submitted: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedApplication {
    pub manifest: BlobHash,
    pub manifest_size: u64,
    pub signature: Vec<u8>,
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRow {
    pub job: JobId,
    pub index: u64,
    pub fence: Fence,
    pub attempt: u32,
    pub client: ClientId,
    pub ended: Timestamp,
    pub usage: Usage,
    /// Absent for a success.
    pub failure: Option<FailureReason>,
    pub outputs: Vec<OutputFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub id: u64,
    /// BLAKE3 of the secret.
    pub secret_hash: [u8; 32],
    pub grants: TokenGrants,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    pub uses_left: Option<u32>,
    pub revoked: bool,
}

/// All of it, as a server that starts needs it.
#[derive(Debug, Default)]
pub struct Loaded {
    pub jobs: Vec<JobRow>,
    pub leases: Vec<Lease>,
    pub clients: Vec<ClientRow>,
    pub tokens: Vec<TokenRow>,
    pub next_fence: Option<Fence>,
}

#[derive(Debug)]
pub struct JobRow {
    pub id: JobId,
    pub user: UserName,
    pub name: String,
    pub idempotency_key: String,
    pub total: u64,
    pub state: JobState,
    pub reason: Option<String>,
    pub submitted: Timestamp,
    pub ended: Option<Timestamp>,
    pub succeeded: u64,
    pub failed: u64,
    pub cpu: Duration,
    /// What it takes to go on; absent when the job has ended.
    pub open: Option<OpenJob>,
}

#[derive(Debug)]
pub struct OpenJob {
    pub plan: Plan,
    pub application: SignedApplication,
    pub secrets: Option<Vec<u8>>,
    pub cursor: u64,
    /// Indexes below the cursor without an outcome.
    pub unfinished: Vec<u64>,
    /// Failed attempts of those, in the order in which they ended.
    pub failures: Vec<(u64, ClientId, FailureReason)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRow {
    pub id: ClientId,
    pub public_key: [u8; 32],
    pub seal_key: [u8; 32],
    pub inventory: Inventory,
    pub registered: Timestamp,
    pub revoked: bool,
    /// As its failed attempts tell.
    pub tampering: Option<Tampering>,
}

pub trait Store: Send {
    /// Makes all of `batch` durable, or none of it.
    fn commit(&mut self, batch: &[Op]) -> Result<(), StoreError>;

    fn load(&self) -> Result<Loaded, StoreError>;

    /// A separate view for reading, that never holds up the writer.
    fn reader(&self) -> Result<Box<dyn Reader>, StoreError>;
}

/// Reads what has been committed.
pub trait Reader: Send {
    /// The plan of a job, open or ended.
    fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError>;

    fn result(&self, job: JobId) -> Result<Option<Vec<ResultFile>>, StoreError>;

    /// Outcomes in the order of their index, from `from` on, at most `limit`.
    fn outcomes(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<EndedRow>, StoreError>;

    /// Failed attempts of subjobs from index `from` on, in the order of index and attempt, at most `limit`.
    fn failed_attempts(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<EndedRow>, StoreError>;

    /// The newest ended attempt of one subjob, its outcome if it has one.
    fn last_attempt(&self, job: JobId, index: u64) -> Result<Option<EndedRow>, StoreError>;
}
