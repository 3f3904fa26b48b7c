//! The store in SQLite: WAL, `synchronous=FULL`, one writer, group commit.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};
use serde::Serialize;

use super::{EndedRow, Loaded, NewJobRow, Op, Reader, Store, StoreError};

/// Version of the schema below; kept in SQLite's `user_version`.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    name TEXT NOT NULL,
    plan BLOB NOT NULL,
    total INTEGER NOT NULL,
    manifest BLOB NOT NULL,
    manifest_size INTEGER NOT NULL,
    manifest_signature BLOB NOT NULL,
    secrets BLOB,
    submitted INTEGER NOT NULL,
    cursor INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL,
    reason TEXT,
    ended INTEGER,
    result TEXT,
    UNIQUE (user, idempotency_key)
) STRICT;
CREATE TABLE lease (
    fence INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    client BLOB NOT NULL,
    seq INTEGER NOT NULL,
    since INTEGER NOT NULL
) STRICT;
CREATE TABLE outcome (
    job INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    client BLOB NOT NULL,
    ended INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    cpu_ms INTEGER NOT NULL,
    peak_memory INTEGER NOT NULL,
    failure TEXT,
    outputs BLOB NOT NULL,
    PRIMARY KEY (job, idx)
) STRICT, WITHOUT ROWID;
CREATE TABLE failed_attempt (
    job INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    client BLOB NOT NULL,
    ended INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    cpu_ms INTEGER NOT NULL,
    peak_memory INTEGER NOT NULL,
    failure TEXT,
    outputs BLOB NOT NULL,
    PRIMARY KEY (job, idx, fence)
) STRICT, WITHOUT ROWID;
CREATE TABLE client (
    id BLOB PRIMARY KEY,
    public_key BLOB NOT NULL,
    seal_key BLOB NOT NULL,
    inventory TEXT NOT NULL,
    registered INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE token (
    id INTEGER PRIMARY KEY,
    secret_hash BLOB NOT NULL UNIQUE,
    grants TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    uses_left INTEGER,
    revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE fence (next INTEGER NOT NULL) STRICT;
INSERT INTO fence VALUES (1);
";

/// The store in one database file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the database, making it first where there is none.
    ///
    /// # Errors
    /// Another server has it open, or it was written by a newer one, or the disk fails.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let context = |doing| move |source| Sqlite::error(path, doing, source);
        let mut connection = Connection::open(path).map_err(context("opening"))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|e| {
            StoreError::Corrupt { what: "a database file", why: format!("its mode can't be set: {e}") }
        })?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536;
                 PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF;",
            )
            .map_err(context("opening"))?;
        let found: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(context("reading its version"))?;
        match found {
            0 => {
                let transaction = connection.transaction().map_err(context("making the tables"))?;
                transaction.execute_batch(SCHEMA).map_err(context("making the tables"))?;
                transaction
                    .pragma_update(None, "user_version", FORMAT)
                    .map_err(context("making the tables"))?;
                transaction.commit().map_err(context("making the tables"))?;
            }
            FORMAT => {}
            found => return Err(StoreError::Newer { path: path.to_owned(), found, known: FORMAT }),
        }
        Ok(Sqlite { connection, path: path.to_owned() })
    }

    pub(super) fn error(path: &Path, doing: &'static str, source: rusqlite::Error) -> StoreError {
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full { path: path.to_owned() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::InUse { path: path.to_owned() }
            }
            _ => StoreError::Database { doing, source },
        }
    }
}

impl Store for Sqlite {
    fn commit(&mut self, batch: &[Op]) -> Result<(), StoreError> {
        let path = self.path.clone();
        let context = |doing| {
            let path = path.clone();
            move |source| Sqlite::error(&path, doing, source)
        };
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(context("beginning a commit"))?;
        for op in batch {
            apply(&transaction, op).map_err(context("writing"))?;
        }
        transaction.commit().map_err(context("committing"))
    }

    fn load(&self) -> Result<Loaded, StoreError> {
        super::load::load(&self.connection, &self.path)
    }

    fn reader(&self) -> Result<Box<dyn Reader>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)
            .map_err(|e| Sqlite::error(&self.path, "opening for reading", e))?;
        Ok(Box::new(super::read::SqliteReader::new(connection, self.path.clone())))
    }
}

fn apply(transaction: &Transaction<'_>, op: &Op) -> rusqlite::Result<()> {
    let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql)?.execute(params).map(|_| ())
    };
    match op {
        Op::AddJob(job) => add_job(transaction, job),
        Op::SetCursor { job, cursor } => {
            run("UPDATE job SET cursor = ?2 WHERE id = ?1", params![int(job.0), int(*cursor)])
        }
        Op::SetJobState { job, state, reason, ended } => run(
            "UPDATE job SET state = ?2, reason = ?3, ended = ?4 WHERE id = ?1",
            params![int(job.0), json(state), reason, ended.map(|at| int(at.0))],
        ),
        Op::SetResult { job, files } => {
            run("UPDATE job SET result = ?2 WHERE id = ?1", params![int(job.0), json(files)])
        }
        Op::AddLease(lease) => run(
            // A lease that ran out may come back under its own number.
            "INSERT OR REPLACE INTO lease VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                int(lease.fence.0),
                int(lease.subjob.job.0),
                int(lease.subjob.index),
                lease.attempt,
                lease.client.0,
                int(lease.seq),
                int(lease.since.0)
            ],
        ),
        Op::RemoveLease(fence) => run("DELETE FROM lease WHERE fence = ?1", params![int(fence.0)]),
        Op::AddOutcome(row) => add_ended(transaction, "INSERT INTO outcome", row),
        // A lease that ran out and came back may run out again under the same number.
        Op::AddFailedAttempt(row) => add_ended(transaction, "INSERT OR REPLACE INTO failed_attempt", row),
        Op::AddClient { id, public_key, seal_key, inventory, registered } => run(
            "INSERT INTO client (id, public_key, seal_key, inventory, registered) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET seal_key = excluded.seal_key, inventory = excluded.inventory",
            params![id.0, public_key, seal_key, json(inventory), int(registered.0)],
        ),
        Op::RevokeClient(id) => run("UPDATE client SET revoked = 1 WHERE id = ?1", params![id.0]),
        Op::SetInventory { id, inventory } => {
            run("UPDATE client SET inventory = ?2 WHERE id = ?1", params![id.0, json(inventory)])
        }
        Op::AddToken(token) => run(
            "INSERT INTO token VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                int(token.id),
                token.secret_hash,
                json(&token.grants),
                int(token.created.0),
                token.expires.map(|at| int(at.0)),
                token.uses_left,
                token.revoked
            ],
        ),
        Op::SetTokenUses { id, uses_left } => {
            run("UPDATE token SET uses_left = ?2 WHERE id = ?1", params![int(*id), uses_left])
        }
        Op::RevokeToken(id) => run("UPDATE token SET revoked = 1 WHERE id = ?1", params![int(*id)]),
        Op::ReserveFences(next) => run("UPDATE fence SET next = ?1", params![int(next.0)]),
    }
}

fn add_job(transaction: &Transaction<'_>, job: &NewJobRow) -> rusqlite::Result<()> {
    let plan = postcard::to_allocvec(&job.plan).expect("a plan holds only plain values");
    transaction
        .prepare_cached(
            "INSERT INTO job (id, user, idempotency_key, name, plan, total, manifest, manifest_size,
                              manifest_signature, secrets, submitted, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            int(job.id.0),
            job.user.as_str(),
            job.idempotency_key,
            job.plan.name,
            plan,
            int(job.total),
            job.application.manifest.0,
            int(job.application.manifest_size),
            job.application.signature,
            job.secrets,
            int(job.submitted.0),
            json(&model::JobState::Running)
        ])
        .map(|_| ())
}

fn add_ended(transaction: &Transaction<'_>, insert: &'static str, row: &EndedRow) -> rusqlite::Result<()> {
    let outputs = postcard::to_allocvec(&row.outputs).expect("outputs are plain values");
    transaction
        .prepare_cached(&format!("{insert} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"))?
        .execute(params![
            int(row.job.0),
            int(row.index),
            int(row.fence.0),
            row.attempt,
            row.client.0,
            int(row.ended.0),
            millis(row.usage.wall),
            millis(row.usage.cpu),
            int(row.usage.peak_memory.0),
            row.failure.as_ref().map(json),
            outputs
        ])
        .map(|_| ())
}

/// SQLite's integers are signed; ours that don't fit are capped, which no true count or time ever reaches.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("rows hold only strings, numbers and maps with text keys")
}
