//! The shell around the three layers (§2.1): event loop, store, files, HTTP.
//!
//! One thread owns the grid's state ([`grid`]); HTTP handlers send it messages and get an answer once what was
//! decided is durable. What is decided lives in `job-manager`, `resource-scheduler` and `node-manager`.
#![forbid(unsafe_code)]

mod aggregate;
pub mod event_loop;
pub mod files;
#[cfg(test)]
mod fixtures;
pub mod grid;
mod http;
pub mod keys;
mod problem;
pub mod store;
mod submit;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::api::{Problem, Role, TokenGrants, TokenRequest};
use protocol::token::SECRET_LEN;
use thiserror::Error;
use tokio::sync::watch;

use event_loop::Handle;
use files::DirectoryFiles;
use http::{App, ListenError, Listener};
use keys::GridKeys;
use store::{Sqlite, Store as _};

#[derive(Clone, Debug)]
pub struct Config {
    /// Everything the server keeps is below this directory.
    pub state: PathBuf,
    /// `HOST:PORT`; port 0 takes a free one.
    pub listen: String,
    /// Further names and addresses by which clients reach the server, for its certificate.
    pub names: Vec<String>,
    /// A client that was not heard of for this long loses its leases.
    pub lease_ttl: Duration,
    /// Free space that the file store leaves on its disk.
    pub disk_floor: model::ByteSize,
}

#[derive(Debug, Error)]
pub enum ServerError {
    #[error("can't make the state directory '{}'", path.display())]
    State {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Files(#[from] files::FilesError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the address that the server listens on can't be told")]
    Address(#[source] std::io::Error),
    #[error("{}", .0.detail)]
    Token(Problem),
}

/// A server that runs.
pub struct Server {
    address: SocketAddr,
    handle: Handle,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    thread: std::thread::JoinHandle<()>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.address)
    }
}

impl Server {
    /// Opens the state, reconciles it, and begins to serve.
    ///
    /// # Errors
    /// The state is in use, damaged or from a newer version, or the address is taken.
    pub async fn start(config: &Config) -> Result<Self, ServerError> {
        make_private(&config.state)?;
        let files_config = files::Config { floor: config.disk_floor, ..files::Config::default() };
        let files = Arc::new(DirectoryFiles::open(config.state.join("files"), files_config)?);
        for damage in files.damage() {
            tracing::error!(%damage, "the file store was damaged");
        }
        let store = Sqlite::open(&config.state.join("grid.sqlite"))?;
        let keys_directory = config.state.join("keys");
        make_private(&keys_directory)?;
        let keys = Arc::new(GridKeys::open(&keys_directory)?);
        let (certificates, private) = keys.tls_identity(&config.names)?;
        let listener = Listener::bind(&config.listen, (certificates, private.into())).await?;
        let address = listener.address().map_err(ServerError::Address)?;
        let reader = Arc::new(Mutex::new(store.reader()?));
        let (handle, thread) = event_loop::start(event_loop::Parts {
            store: Box::new(store),
            files: Arc::clone(&files) as Arc<dyn files::Files>,
            keys: Arc::clone(&keys),
            lease_ttl: config.lease_ttl,
        })?;
        let app = App { handle: handle.clone(), files, keys, reader };
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(listener.serve(http::routes(app), stopped));
        Ok(Server { address, handle, stop, serving, thread })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a token without asking over HTTP: for the first administrator, and for clients started along.
    pub async fn create_token(&self, grants: TokenGrants, uses: Option<u32>) -> Result<String, ServerError> {
        let mut secret = [0; SECRET_LEN];
        getrandom::fill(&mut secret).map_err(|_| keys::KeysError::Random(link::keys::KeyError::Random))?;
        let request = TokenRequest { grants, uses, expires_s: None };
        let reply = self.handle.call(move |grid, now| grid.create_token(now, &request, secret)).await;
        reply.map(|reply| reply.token).map_err(ServerError::Token)
    }

    /// Whether any administrator's token was ever made: if not, this is the first start.
    pub async fn has_administrator(&self) -> Result<bool, ServerError> {
        let is_admin = |grants: &TokenGrants| matches!(grants, TokenGrants::User { role: Role::Admin, .. });
        let tokens = self.handle.call(|grid, _| Ok(grid.list_tokens())).await.map_err(ServerError::Token)?;
        Ok(tokens.iter().any(|token| is_admin(&token.grants)))
    }

    /// Stops taking requests, answers those under way, and returns when everything is written.
    pub async fn stop(self) {
        self.handle.stop();
        // Both are told; which of them is quicker does not matter.
        let _ = self.stop.send(true);
        if self.serving.await.is_err() {
            tracing::error!("the listener was aborted");
        }
        let thread = self.thread;
        if tokio::task::spawn_blocking(move || thread.join()).await.is_err() {
            tracing::error!("the grid's thread was aborted");
        }
    }
}

/// Makes a directory that only its owner can look into.
fn make_private(path: &Path) -> Result<(), ServerError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| ServerError::State { path: path.to_owned(), source })
}
