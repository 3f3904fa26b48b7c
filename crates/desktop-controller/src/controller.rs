//! A client as a whole: its configuration, its state directory, and the grid it has joined. What it then does is
//! in `work`.

use std::path::PathBuf;
use std::sync::Arc;

use link::ClientLink;
use link::client::ClientKeys;
use link::http::Address;
use link::trust::Trust;
use model::network::Reach;
use model::{BlobHash, ByteSize, Permits, Sealing};
use protocol::token::{Token, TokenKind};
use sandbox::{Launcher, Nearby};
use tokio::sync::watch;

use crate::ControllerError;
use crate::application::Applications;
use crate::attempt::Shared;
use crate::cache::Cache;
use crate::clear::remove_tree;
use crate::identity::{Membership, client_keys, lock, make_directory, membership, save_membership};
use crate::inventory::{inventory, total_memory};
use crate::secrecy::keep_memory_secret;
use crate::work::Work;

/// Share of the machine's memory that subjobs may have together, in percent.
const MEMORY_SHARE: u64 = 80;

#[derive(Clone, Debug)]
pub struct Config {
    /// Everything the client keeps is below this directory.
    pub state: PathBuf,
    /// The server to join; not needed once joined.
    pub server: Option<String>,
    /// A join token; not needed once joined.
    pub token: Option<String>,
    /// PEM file of the roots to trust where a proxy opens TLS.
    pub ca_bundle: Option<PathBuf>,
    /// Processors to use at most.
    pub cpus: u32,
    /// Memory to use at most; by default most of the machine's.
    pub memory: Option<ByteSize>,
    /// Free space that is never used on the state directory's disk.
    pub disk_floor: ByteSize,
    /// Most bytes in the cache of applications and inputs.
    pub cache_limit: ByteSize,
    /// What subjobs may have besides room.
    pub permits: Permits,
}

/// A client that has joined and is ready to run.
#[derive(Debug)]
pub struct Controller {
    pub(crate) config: Config,
    pub(crate) membership: Membership,
    pub(crate) shared: Arc<Shared>,
    pub(crate) memory: ByteSize,
    /// Keeps the state directory ours.
    _lock: std::fs::File,
}

impl Controller {
    /// Opens the client's state, clears away what an earlier run left, and joins the grid if it hasn't yet.
    ///
    /// # Errors
    /// The state is in use or damaged, or the server or the token refuse.
    pub async fn open(config: Config) -> Result<Self, ControllerError> {
        let state_lock = lock(&config.state)?;
        // Subjobs have users of their own, who must reach their trees and nothing else.
        set_mode(&config.state, 0o711)?;
        let keys = Arc::new(client_keys(&config.state)?);
        let tag: String = keys.id().short();
        sandbox::remove_leftovers(&tag)?;
        let attempts = config.state.join("attempts");
        clear_directory(&attempts)?;
        make_directory(&attempts, 0o711)?;
        let memory = config.memory.unwrap_or(ByteSize(total_memory().0 / 100 * MEMORY_SHARE));
        let membership = match (membership(&config.state)?, &config.token) {
            (Some(known), None) => rejoin(&config, known),
            (known, Some(token)) => join(&config, token, known, &keys, memory).await?,
            (None, None) => return Err(ControllerError::NotJoined),
        };
        let cache = Cache::open(&config.state, config.cache_limit, config.disk_floor)?;
        let applications = Applications::open(config.state.join("applications"), membership.grid_key)?;
        if config.permits.sealing > Sealing::Off {
            keep_memory_secret().map_err(|source| ControllerError::Memory { source })?;
        }
        if config.permits.sealing == Sealing::Always {
            cache.forget_plain();
            applications.forget();
        }
        let shared = Shared {
            cache,
            applications,
            attempts,
            launcher: Launcher { nearby: nearby(config.permits.network), ..Launcher::new(tag) },
            permits: config.permits,
            keys,
        };
        Ok(Controller { config, membership, shared: Arc::new(shared), memory, _lock: state_lock })
    }

    /// Works until `stop` says so. A server that can't be reached is tried again for ever.
    ///
    /// # Errors
    /// The server refuses this client for good: its key is unknown or revoked.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), ControllerError> {
        let mut work = Work::new(&self)?;
        let result = work.until(&mut stop).await;
        work.farewell().await;
        result
    }
}

fn nearby(permitted: Reach) -> Nearby {
    match permitted {
        Reach::Nothing | Reach::Elsewhere => Nearby::Refused,
        Reach::Nearby => Nearby::Named,
    }
}

/// The membership on disk, with what the command line changes.
fn rejoin(config: &Config, known: Membership) -> Membership {
    Membership {
        server: config.server.clone().unwrap_or(known.server),
        ca_bundle: config.ca_bundle.clone().or(known.ca_bundle),
        ..known
    }
}

async fn join(
    config: &Config,
    token: &str,
    known: Option<Membership>,
    keys: &Arc<ClientKeys>,
    memory: ByteSize,
) -> Result<Membership, ControllerError> {
    let token = Token::parse(token, TokenKind::Join)?;
    let ca_key = BlobHash(token.ca_key);
    let server = match (&config.server, &known) {
        (Some(server), _) => server.clone(),
        (None, Some(known)) => known.server.clone(),
        (None, None) => return Err(ControllerError::NotJoined),
    };
    if let Some(known) = known.filter(|known| known.ca_key == ca_key) {
        return Ok(rejoin(config, known));
    }
    let trust = config.ca_bundle.clone().map_or(Trust::GridCa(ca_key), Trust::Bundle);
    let mut link = ClientLink::new(Address::parse(&server)?, &trust, Arc::clone(keys))?;
    let grid_key = link.register(&token, inventory(config, memory)).await?;
    let membership = Membership { server, ca_key, grid_key, ca_bundle: config.ca_bundle.clone() };
    save_membership(&config.state, &membership)?;
    Ok(membership)
}

fn set_mode(path: &std::path::Path, mode: u32) -> Result<(), ControllerError> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|source| ControllerError::State { doing: "set the mode of", path: path.to_owned(), source })
}

fn clear_directory(path: &std::path::Path) -> Result<(), ControllerError> {
    remove_tree(path).map_err(|source| ControllerError::State {
        doing: "clear",
        path: path.to_owned(),
        source,
    })
}
