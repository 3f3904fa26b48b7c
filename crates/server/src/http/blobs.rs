//! Blobs in parts: uploads that resume, ranges of what is there.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use model::BlobHash;
use protocol::api::{MAX_MISSING, MAX_PART, MissingReply, MissingRequest, Problem, ProblemCode, UploadReply};
use serde::Deserialize;

use super::auth::User;
use super::{App, Refused};
use crate::files::Upload;
use crate::problem::{files_problem, problem};

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct UploadQuery {
    pub(super) total: u64,
    pub(super) offset: u64,
    /// The lease that a client uploads under.
    pub(super) fence: Option<model::Fence>,
}

pub(super) async fn missing(
    State(app): State<App>,
    _user: User,
    Json(request): Json<MissingRequest>,
) -> Result<Json<MissingReply>, Refused> {
    if request.blobs.len() > MAX_MISSING {
        let detail = format!("{} hashes in one request, at most {MAX_MISSING}", request.blobs.len());
        return Err(problem(ProblemCode::TooLarge, detail, "ask in several requests").into());
    }
    let missing = app.blocking(move |app| {
        let mut missing = BTreeMap::new();
        for hash in request.blobs {
            if app.files.size(&hash).map_err(|e| files_problem(&e))?.is_none() {
                missing.insert(hash, app.files.uploaded(&hash).map_err(|e| files_problem(&e))?);
            }
        }
        Ok(missing)
    });
    Ok(Json(MissingReply { missing: missing.await? }))
}

pub(super) async fn upload(
    State(app): State<App>,
    _user: User,
    Path(hash): Path<BlobHash>,
    Query(query): Query<UploadQuery>,
    part: Bytes,
) -> Result<Json<UploadReply>, Refused> {
    Ok(Json(store_part(&app, hash, query, part).await?))
}

/// Stores a part of a blob. At a wrong offset it answers where to go on instead, so that a repeated part is
/// harmless.
pub(super) async fn store_part(
    app: &App,
    hash: BlobHash,
    query: UploadQuery,
    part: Bytes,
) -> Result<UploadReply, Problem> {
    if part.len() > MAX_PART {
        let detail = format!("a part of {} bytes, at most {MAX_PART}", part.len());
        return Err(problem(ProblemCode::TooLarge, detail, "send smaller parts"));
    }
    app.blocking(move |app| {
        // One that is known to be damaged is mended by being sent again.
        if matches!(app.files.size(&hash), Ok(Some(_))) {
            return Ok(UploadReply { uploaded: query.total, complete: true });
        }
        // What somebody began with another total is thrown away by the first part of this one.
        let stands = app.files.uploaded(&hash).map_err(|e| files_problem(&e))?;
        let stands = if stands < query.total { stands } else { 0 };
        let is_empty_blob = query.total == 0;
        if !is_empty_blob && (stands != query.offset || part.is_empty()) {
            return Ok(UploadReply { uploaded: stands, complete: false });
        }
        match app.files.append(&hash, query.total, query.offset, &part) {
            Ok(Upload::Complete) => Ok(UploadReply { uploaded: query.total, complete: true }),
            Ok(Upload::Partial { next }) => Ok(UploadReply { uploaded: next, complete: false }),
            Err(error) => Err(files_problem(&error)),
        }
    })
    .await
}

/// A blob or the range of it that the request asks for, at most one part.
pub(super) async fn send_range(app: &App, hash: BlobHash, headers: &HeaderMap) -> Result<Response, Problem> {
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).map(parse_range);
    let (offset, len) = match range {
        None => (0, MAX_PART),
        Some(Some((first, last))) => {
            let len = usize::try_from(last - first + 1).unwrap_or(MAX_PART).min(MAX_PART);
            (first, len)
        }
        Some(None) => {
            let detail = "only a range of the form bytes=FIRST-LAST is understood";
            return Err(problem(ProblemCode::BadRequest, detail, ""));
        }
    };
    let (bytes, size) = app
        .blocking(move |app| {
            let size = app.files.size(&hash).map_err(|e| files_problem(&e))?;
            let size =
                size.ok_or_else(|| problem(ProblemCode::NotFound, format!("there is no blob {hash}"), ""))?;
            Ok((app.files.read(&hash, offset, len).map_err(|e| files_problem(&e))?, size))
        })
        .await?;
    if range.is_none() && bytes.len() as u64 == size {
        return Ok(bytes.into_response());
    }
    let end = offset + bytes.len() as u64;
    let content_range = format!("bytes {offset}-{}/{size}", end.saturating_sub(1));
    Ok((StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, content_range)], bytes).into_response())
}

fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_first_to_last() {
        assert_eq!(parse_range("bytes=0-9"), Some((0, 9)));
        for bad in [
            "bytes=9-0",
            "bytes=-5",
            "bytes=5-",
            "items=0-1",
            "bytes=0-1,3-4",
            "bytes=0-18446744073709551615",
        ] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
