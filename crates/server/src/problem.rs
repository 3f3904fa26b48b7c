//! Refusals as the API states them: a status, a code for programs, a sentence and what to do.

use protocol::api::{Problem, ProblemCode};

use crate::files::FilesError;
use crate::store::StoreError;

/// A refusal with the status that belongs to its code.
pub fn problem(code: ProblemCode, detail: impl Into<String>, fix: &str) -> Problem {
    let status = match code {
        ProblemCode::BadRequest | ProblemCode::BadSpec | ProblemCode::HashMismatch => 400,
        ProblemCode::NotLoggedIn => 401,
        ProblemCode::NotAllowed | ProblemCode::TokenRefused | ProblemCode::ClientRevoked => 403,
        ProblemCode::NotFound => 404,
        ProblemCode::StaleSequence | ProblemCode::WrongOffset | ProblemCode::MissingBlobs => 409,
        ProblemCode::TooLarge => 413,
        ProblemCode::Internal => 500,
        ProblemCode::Overloaded => 503,
        ProblemCode::StorageFull => 507,
    };
    Problem { status, code, detail: detail.into(), fix: (!fix.is_empty()).then(|| fix.to_owned()) }
}

/// What a caller is told of a failure of the file store; the log is told the rest.
pub fn files_problem(error: &FilesError) -> Problem {
    match error {
        FilesError::Full { .. } => problem(
            ProblemCode::StorageFull,
            format!("the server's disk is full: {error}"),
            "free space on the server",
        ),
        FilesError::Missing { .. } => problem(ProblemCode::NotFound, error.to_string(), ""),
        FilesError::HashMismatch { .. } => {
            problem(ProblemCode::HashMismatch, error.to_string(), "send it again")
        }
        FilesError::Offset { .. } => problem(ProblemCode::WrongOffset, error.to_string(), "go on from there"),
        _ => {
            tracing::error!(error = error as &dyn std::error::Error, "the file store failed");
            problem(ProblemCode::Internal, "the server's file store failed", "see the server's log")
        }
    }
}

pub fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Full { .. } => {
            problem(ProblemCode::StorageFull, format!("on the server, {error}"), "free space on the server")
        }
        _ => {
            tracing::error!(error = error as &dyn std::error::Error, "the store failed");
            problem(ProblemCode::Internal, "the server's database failed", "see the server's log")
        }
    }
}
