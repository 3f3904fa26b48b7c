//! Rows back into values, and the reader that the HTTP handlers use.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::plan::Plan;
use model::{BlobHash, ByteSize, ClientId, Fence, JobId, Timestamp, Usage};
use protocol::api::ResultFile;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::de::DeserializeOwned;

use super::{EndedRow, Reader, SignedApplication, Sqlite, StoreError};

pub(super) struct SqliteReader {
    connection: Connection,
    path: PathBuf,
}

impl SqliteReader {
    pub(super) fn new(connection: Connection, path: PathBuf) -> Self {
        SqliteReader { connection, path }
    }

    fn column<T>(
        &self,
        sql: &str,
        job: JobId,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let query = || self.connection.prepare_cached(sql)?.query_row([job.0 as i64], read).optional();
        query().map_err(|e| Sqlite::error(&self.path, "reading a job", e))
    }

    fn ended(&self, sql: &str, job: JobId, from: u64, limit: u32) -> Result<Vec<EndedRow>, StoreError> {
        let query = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![job.0 as i64, from as i64, limit], raw_ended)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = query().map_err(|e| Sqlite::error(&self.path, "reading outcomes", e))?;
        rows.into_iter().map(RawEnded::checked).collect()
    }
}

impl Reader for SqliteReader {
    fn plan(&self, job: JobId) -> Result<Option<Plan>, StoreError> {
        let bytes: Option<Vec<u8>> =
            self.column("SELECT plan FROM job WHERE id = ?1", job, |row| row.get(0))?;
        bytes.map(|bytes| decode_plan(&bytes)).transpose()
    }

    fn result(&self, job: JobId) -> Result<Option<Vec<ResultFile>>, StoreError> {
        let text: Option<Option<String>> =
            self.column("SELECT result FROM job WHERE id = ?1", job, |row| row.get(0))?;
        text.flatten().map(|text| decode_json("a result", &text)).transpose()
    }

    fn outcomes(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<EndedRow>, StoreError> {
        let sql = "SELECT * FROM outcome WHERE job = ?1 AND idx >= ?2 ORDER BY idx LIMIT ?3";
        self.ended(sql, job, from, limit)
    }

    fn failed_attempts(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<EndedRow>, StoreError> {
        let sql = "SELECT * FROM failed_attempt WHERE job = ?1 AND idx >= ?2 ORDER BY idx, fence LIMIT ?3";
        self.ended(sql, job, from, limit)
    }

    fn last_attempt(&self, job: JobId, index: u64) -> Result<Option<EndedRow>, StoreError> {
        let outcome = "SELECT * FROM outcome WHERE job = ?1 AND idx = ?2 LIMIT ?3";
        if let Some(row) = self.ended(outcome, job, index, 1)?.pop() {
            return Ok(Some(row));
        }
        let failed = "SELECT * FROM failed_attempt WHERE job = ?1 AND idx = ?2 ORDER BY fence DESC LIMIT ?3";
        Ok(self.ended(failed, job, index, 1)?.pop())
    }
}

/// A row of `outcome` or `failed_attempt`, as SQLite gives it.
pub(super) struct RawEnded {
    row: EndedRow,
    failure: Option<String>,
    outputs: Vec<u8>,
}

pub(super) fn raw_ended(row: &Row<'_>) -> rusqlite::Result<RawEnded> {
    let number = |at| row.get::<_, i64>(at).map(|value| value.max(0) as u64);
    Ok(RawEnded {
        row: EndedRow {
            job: JobId(number(0)?),
            index: number(1)?,
            fence: Fence(number(2)?),
            attempt: row.get(3)?,
            client: ClientId(row.get(4)?),
            ended: Timestamp(number(5)?),
            usage: Usage {
                wall: Duration::from_millis(number(6)?),
                cpu: Duration::from_millis(number(7)?),
                peak_memory: ByteSize(number(8)?),
            },
            failure: None,
            outputs: Vec::new(),
        },
        failure: row.get(9)?,
        outputs: row.get(10)?,
    })
}

impl RawEnded {
    pub(super) fn checked(self) -> Result<EndedRow, StoreError> {
        let failure = self.failure.map(|text| decode_json("a failure", &text)).transpose()?;
        let outputs = postcard::from_bytes(&self.outputs)
            .map_err(|e| StoreError::Corrupt { what: "a list of outputs", why: e.to_string() })?;
        Ok(EndedRow { failure, outputs, ..self.row })
    }
}

pub(super) fn application(row: &Row<'_>, first: usize) -> rusqlite::Result<SignedApplication> {
    Ok(SignedApplication {
        manifest: BlobHash(row.get(first)?),
        manifest_size: row.get::<_, i64>(first + 1)?.max(0) as u64,
        signature: row.get(first + 2)?,
    })
}

pub(super) fn decode_plan(bytes: &[u8]) -> Result<Plan, StoreError> {
    postcard::from_bytes(bytes).map_err(|e| StoreError::Corrupt { what: "a plan", why: e.to_string() })
}

pub(super) fn decode_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt { what, why: e.to_string() })
}

/// Runs a query and collects its rows.
pub(super) fn all<T>(
    connection: &Connection,
    path: &Path,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let query = || connection.prepare(sql)?.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>();
    query().map_err(|e| Sqlite::error(path, "loading", e))
}
