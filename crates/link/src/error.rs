//! What can go wrong between here and the server.

use std::time::Duration;

use protocol::api::{Problem, ProblemCode};
use thiserror::Error;

use crate::keys::KeyError;

#[derive(Debug, Error)]
pub enum LinkError {
    #[error("'{url}' is not a server's address: {why} (expected https://HOST:PORT)")]
    Url { url: String, why: &'static str },
    #[error("no server at {server}")]
    Connect {
        server: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the proxy {proxy} did not connect to {server}: {answer}")]
    Proxy { proxy: String, server: String, answer: String },
    #[error("the server at {server} is not the one the token is for")]
    Tls {
        server: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the connection to {server} broke")]
    Http {
        server: String,
        #[source]
        source: hyper::Error,
    },
    #[error("no answer from {server} within {limit:?}")]
    Timeout { server: String, limit: Duration },
    #[error("the answer to {what} is longer than {limit} bytes")]
    TooLong { what: String, limit: usize },
    #[error("the answer to {what} can't be read: {why}")]
    Answer { what: String, why: String },
    #[error("the answer to {what} was not signed by the grid: something on the way changed it")]
    Forged { what: String },
    #[error("{}", .0.detail)]
    Refused(Problem),
    #[error("refused by something on the way, or by a grid that does not know this client: {}", .0.detail)]
    Unsigned(Problem),
    #[error("the bytes of {hash} that arrived have another hash")]
    WrongHash { hash: model::BlobHash },
    #[error("can't read '{}'", path.display())]
    Local {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl LinkError {
    /// Whether the same request may succeed later: the network or the server's state is to blame.
    pub fn is_passing(&self) -> bool {
        match self {
            LinkError::Connect { .. }
            | LinkError::Proxy { .. }
            | LinkError::Tls { .. }
            | LinkError::Http { .. }
            | LinkError::Timeout { .. }
            | LinkError::Forged { .. }
            | LinkError::Unsigned(_)
            | LinkError::WrongHash { .. }
            | LinkError::Answer { .. }
            | LinkError::TooLong { .. } => true,
            LinkError::Refused(problem) => matches!(
                problem.code,
                ProblemCode::Internal | ProblemCode::Overloaded | ProblemCode::StorageFull
            ),
            LinkError::Url { .. } | LinkError::Local { .. } | LinkError::Key(_) => false,
        }
    }

    /// The server's own code, when it was the server that refused.
    pub fn code(&self) -> Option<ProblemCode> {
        match self {
            LinkError::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn fix(&self) -> Option<String> {
        match self {
            LinkError::Refused(problem) => problem.fix.clone(),
            LinkError::Connect { server, .. } | LinkError::Timeout { server, .. } => {
                Some(format!("check that the server runs (`dcgrid server`) and that {server} is its address"))
            }
            LinkError::Tls { .. } => Some(
                "use a token of this server; behind a proxy that opens TLS, name its root with --ca-bundle"
                    .into(),
            ),
            _ => None,
        }
    }
}
