//! What keeps a client from working at all. What goes wrong with one subjob is a report, not one of these.

use std::path::PathBuf;

use link::LinkError;
use link::keys::KeyError;
use link::trust::TrustError;
use protocol::token::TokenError;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ControllerError {
    #[error("can't {doing} '{}'", path.display())]
    State {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("this process's memory can't be kept secret")]
    Memory {
        #[source]
        source: std::io::Error,
    },
    #[error("'{}' is in use by another client: give each client its own state directory", path.display())]
    InUse { path: PathBuf },
    #[error("'{}' can't be read: {why}", path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("'{}' is not a key of this client", path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error("this client has not joined a grid: it needs a server's address and a join token")]
    NotJoined,
    #[error("the join token can't be used: {0}")]
    Token(#[from] TokenError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
}
