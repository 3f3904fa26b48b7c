//! Who this client is and which grid it belongs to: kept in its state directory, for its own account alone.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use link::client::ClientKeys;
use link::keys::{OpeningKey, SigningKey};
use link::trust::Trust;
use model::BlobHash;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::ControllerError;

/// The grid that a client has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    pub server: String,
    /// Ed25519 public key of the grid's CA, from the join token.
    pub ca_key: BlobHash,
    /// Ed25519 public key that signs manifests and replies, vouched for by the CA.
    pub grid_key: BlobHash,
    /// PEM file of the roots to trust where a proxy opens TLS.
    pub ca_bundle: Option<std::path::PathBuf>,
}

impl Membership {
    pub(crate) fn trust(&self) -> Trust {
        match &self.ca_bundle {
            Some(path) => Trust::Bundle(path.clone()),
            None => Trust::GridCa(self.ca_key),
        }
    }
}

const MEMBERSHIP: &str = "membership.json";

/// The grid that the client with this state directory has joined, if any.
pub fn membership(state: &Path) -> Result<Option<Membership>, ControllerError> {
    let path = state.join(MEMBERSHIP);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| ControllerError::Malformed { path, why: e.to_string() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ControllerError::State { doing: "read", path, source }),
    }
}

pub(crate) fn save_membership(state: &Path, membership: &Membership) -> Result<(), ControllerError> {
    let text = serde_json::to_vec_pretty(membership).expect("a membership is text");
    write_private(&state.join(MEMBERSHIP), &text)
}

/// The client's keys, made at the first start.
pub(crate) fn client_keys(state: &Path) -> Result<ClientKeys, ControllerError> {
    let (signing_path, opening_path) = (state.join("signing.key"), state.join("opening.key"));
    let key = |path: &Path| {
        let path = path.to_owned();
        move |source| ControllerError::Key { path, source }
    };
    let signing = match read_optional(&signing_path)? {
        Some(bytes) => SigningKey::from_pkcs8(&bytes).map_err(key(&signing_path))?,
        None => {
            let made = SigningKey::generate().map_err(key(&signing_path))?;
            write_private(&signing_path, made.pkcs8())?;
            made
        }
    };
    let opening = match read_optional(&opening_path)? {
        Some(bytes) => OpeningKey::from_bytes(&bytes).map_err(key(&opening_path))?,
        None => {
            let made = OpeningKey::generate();
            write_private(&opening_path, &made.to_bytes())?;
            made
        }
    };
    Ok(ClientKeys { signing, opening })
}

/// Takes the state directory for this process alone, as long as the returned file is open.
pub(crate) fn lock(state: &Path) -> Result<File, ControllerError> {
    make_directory(state, 0o700)?;
    let path = state.join("lock");
    let failed = |source| ControllerError::State { doing: "lock", path: path.clone(), source };
    let file =
        File::options().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ControllerError::InUse { path: state.to_owned() }),
        Err(error) => Err(failed(error.into())),
    }
}

pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), ControllerError> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|source| ControllerError::State {
        doing: "make",
        path: path.to_owned(),
        source,
    })
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, ControllerError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ControllerError::State { doing: "read", path: path.to_owned(), source }),
    }
}

/// Writes a file that is either whole or not there, whatever happens.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ControllerError> {
    let failed = |source| ControllerError::State { doing: "write", path: path.to_owned(), source };
    let fresh = path.with_extension("new");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_the_same_after_a_restart() {
        let state = tempfile::tempdir().expect("temporary directory");
        let first = client_keys(state.path()).expect("made");
        let again = client_keys(state.path()).expect("read");
        assert_eq!(first.id(), again.id());
        assert_eq!(first.opening.public(), again.opening.public());
    }

    #[test]
    fn two_clients_can_not_share_a_state_directory() {
        let state = tempfile::tempdir().expect("temporary directory");
        let held = lock(state.path()).expect("free");
        assert!(matches!(lock(state.path()), Err(ControllerError::InUse { .. })));
        drop(held);
        lock(state.path()).expect("free again");
    }
}
