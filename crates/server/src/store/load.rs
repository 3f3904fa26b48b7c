//! Everything back into memory when a server starts.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use model::{ClientId, Fence, JobId, SubjobId, Tampering, Timestamp};
use resource_scheduler::Lease;
use rusqlite::{Connection, Row, params};

use super::read::{all, application, decode_json, decode_plan, raw_ended};
use super::{ClientRow, JobRow, Loaded, OpenJob, SignedApplication, Sqlite, StoreError, TokenRow};

pub(super) fn load(connection: &Connection, path: &Path) -> Result<Loaded, StoreError> {
    let leases = all(connection, path, "SELECT * FROM lease", lease)?;
    let next = all(connection, path, "SELECT next FROM fence", |row| row.get::<_, i64>(0))?;
    Ok(Loaded {
        jobs: jobs(connection, path)?,
        leases,
        clients: clients(connection, path)?,
        tokens: tokens(connection, path)?,
        next_fence: next.first().map(|next| Fence((*next).max(0) as u64)),
    })
}

fn lease(row: &Row<'_>) -> rusqlite::Result<Lease> {
    let number = |at| row.get::<_, i64>(at).map(|value| value.max(0) as u64);
    Ok(Lease {
        fence: Fence(number(0)?),
        subjob: SubjobId { job: JobId(number(1)?), index: number(2)? },
        attempt: row.get(3)?,
        client: ClientId(row.get(4)?),
        seq: number(5)?,
        since: Timestamp(number(6)?),
    })
}

/// Columns of `job` before its text has been read.
struct RawJob {
    id: i64,
    user: String,
    idempotency_key: String,
    name: String,
    total: i64,
    submitted: i64,
    state: String,
    reason: Option<String>,
    ended: Option<i64>,
    cursor: i64,
    application: SignedApplication,
    secrets: Option<Vec<u8>>,
}

fn jobs(connection: &Connection, path: &Path) -> Result<Vec<JobRow>, StoreError> {
    let sql =
        "SELECT id, user, idempotency_key, name, total, submitted, state, reason, ended, cursor, manifest,
                      manifest_size, manifest_signature, secrets FROM job ORDER BY id";
    let raw = all(connection, path, sql, |row| {
        Ok(RawJob {
            id: row.get(0)?,
            user: row.get(1)?,
            idempotency_key: row.get(2)?,
            name: row.get(3)?,
            total: row.get(4)?,
            submitted: row.get(5)?,
            state: row.get(6)?,
            reason: row.get(7)?,
            ended: row.get(8)?,
            cursor: row.get(9)?,
            application: application(row, 10)?,
            secrets: row.get(13)?,
        })
    })?;
    let counts = counts(connection, path)?;
    raw.into_iter().map(|raw| job(connection, path, raw, &counts)).collect()
}

#[derive(Clone, Copy, Default)]
struct Counted {
    succeeded: u64,
    failed: u64,
    cpu: Duration,
}

fn counts(connection: &Connection, path: &Path) -> Result<HashMap<i64, Counted>, StoreError> {
    // Not sum(): that fails on an overflow, which one client's lie about two subjobs brings about.
    let sql =
        "SELECT job, failure IS NULL, count(*), CAST(total(cpu_ms) AS INTEGER) FROM outcome GROUP BY 1, 2";
    let rows = all(connection, path, sql, |row| {
        let number = |at| row.get::<_, i64>(at).map(|value| value.max(0) as u64);
        Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, number(2)?, number(3)?))
    })?;
    let mut counts: HashMap<i64, Counted> = HashMap::new();
    for (job, succeeded, count, cpu_ms) in rows {
        let counted = counts.entry(job).or_default();
        if succeeded {
            counted.succeeded = count;
            counted.cpu = Duration::from_millis(cpu_ms);
        } else {
            counted.failed = count;
        }
    }
    Ok(counts)
}

fn job(
    connection: &Connection,
    path: &Path,
    raw: RawJob,
    counts: &HashMap<i64, Counted>,
) -> Result<JobRow, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { what: "a user's name", why };
    let state: model::JobState = decode_json("a job's state", &raw.state)?;
    let counted = counts.get(&raw.id).copied().unwrap_or_default();
    let open = if state.is_final() { None } else { Some(open_job(connection, path, &raw)?) };
    Ok(JobRow {
        id: JobId(raw.id.max(0) as u64),
        user: raw.user.parse().map_err(|e: model::ids::IdError| corrupt(e.to_string()))?,
        name: raw.name,
        idempotency_key: raw.idempotency_key,
        total: raw.total.max(0) as u64,
        state,
        reason: raw.reason,
        submitted: Timestamp(raw.submitted.max(0) as u64),
        ended: raw.ended.map(|at| Timestamp(at.max(0) as u64)),
        succeeded: counted.succeeded,
        failed: counted.failed,
        cpu: counted.cpu,
        open,
    })
}

fn open_job(connection: &Connection, path: &Path, raw: &RawJob) -> Result<OpenJob, StoreError> {
    let context = |e| Sqlite::error(path, "loading an open job", e);
    let plan: Vec<u8> = connection
        .query_row("SELECT plan FROM job WHERE id = ?1", [raw.id], |row| row.get(0))
        .map_err(context)?;
    let cursor = raw.cursor.max(0) as u64;
    let mut unfinished = Vec::new();
    let mut next = 0;
    let mut done = || -> rusqlite::Result<()> {
        let mut statement = connection.prepare("SELECT idx FROM outcome WHERE job = ?1 ORDER BY idx")?;
        let mut rows = statement.query([raw.id])?;
        while let Some(row) = rows.next()? {
            let index = row.get::<_, i64>(0)?.max(0) as u64;
            unfinished.extend(next..index.min(cursor));
            next = index + 1;
        }
        Ok(())
    };
    done().map_err(context)?;
    unfinished.extend(next..cursor);
    Ok(OpenJob {
        plan: decode_plan(&plan)?,
        application: raw.application.clone(),
        secrets: raw.secrets.clone(),
        cursor,
        unfinished,
        failures: failures(connection, path, raw.id)?,
    })
}

/// Failed attempts of a job's subjobs that have no outcome.
fn failures(
    connection: &Connection,
    path: &Path,
    job: i64,
) -> Result<Vec<(u64, ClientId, model::FailureReason)>, StoreError> {
    let query = || {
        let sql = "SELECT * FROM failed_attempt AS f WHERE job = ?1 AND NOT EXISTS
                   (SELECT 1 FROM outcome AS o WHERE o.job = f.job AND o.idx = f.idx) ORDER BY idx, fence";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map(params![job], raw_ended)?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let rows = query().map_err(|e| Sqlite::error(path, "loading failed attempts", e))?;
    let mut failures = Vec::new();
    for raw in rows {
        let row = raw.checked()?;
        failures.extend(row.failure.map(|reason| (row.index, row.client, reason)));
    }
    Ok(failures)
}

/// How a reason begins that blames a client for tampering, in its JSON.
const TAMPERING: &str = r#"{"kind":"tampering"%"#;

/// The flags of clients. Whatever else becomes of a failed attempt, its row stays.
fn tampering(connection: &Connection, path: &Path) -> Result<HashMap<ClientId, Tampering>, StoreError> {
    let sql = format!(
        "SELECT client, COUNT(*), MAX(ended) FROM failed_attempt WHERE failure LIKE '{TAMPERING}' GROUP BY client"
    );
    let rows = all(connection, path, &sql, |row| {
        let number = |at| row.get::<_, i64>(at).map(|value| value.max(0) as u64);
        Ok((ClientId(row.get(0)?), Tampering { times: number(1)?, last: Timestamp(number(2)?) }))
    })?;
    Ok(rows.into_iter().collect())
}

fn clients(connection: &Connection, path: &Path) -> Result<Vec<ClientRow>, StoreError> {
    let tampering = tampering(connection, path)?;
    let sql = "SELECT id, public_key, seal_key, inventory, registered, revoked FROM client";
    let raw = all(connection, path, sql, |row| {
        let id = ClientId(row.get(0)?);
        Ok((id, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?, row.get::<_, i64>(4)?, row.get(5)?))
    })?;
    raw.into_iter()
        .map(|(id, public_key, seal_key, inventory, registered, revoked)| {
            Ok(ClientRow {
                id,
                public_key,
                seal_key,
                inventory: decode_json("an inventory", &inventory)?,
                registered: Timestamp(registered.max(0) as u64),
                revoked,
                tampering: tampering.get(&id).copied(),
            })
        })
        .collect()
}

fn tokens(connection: &Connection, path: &Path) -> Result<Vec<TokenRow>, StoreError> {
    let sql = "SELECT id, secret_hash, grants, created, expires, uses_left, revoked FROM token";
    let raw = all(connection, path, sql, |row| {
        let token = (row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get::<_, i64>(3)?);
        Ok((token, row.get::<_, Option<i64>>(4)?, row.get(5)?, row.get(6)?))
    })?;
    raw.into_iter()
        .map(|((id, secret_hash, grants, created), expires, uses_left, revoked)| {
            Ok(TokenRow {
                id: id.max(0) as u64,
                secret_hash,
                grants: decode_json("a token's grants", &grants)?,
                created: Timestamp(created.max(0) as u64),
                expires: expires.map(|at| Timestamp(at.max(0) as u64)),
                uses_left,
                revoked,
            })
        })
        .collect()
}
