//! Which server the commands talk to and as whom: a login file, found where it is expected.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use link::UserLink;
use link::http::Address;
use link::trust::Trust;
use model::BlobHash;
use protocol::token::{Token, TokenKind};
use serde::{Deserialize, Serialize};

use crate::args::LoginArgs;
use crate::exit::{Exit, fault};

/// A server and a user token, as `dcgrid login` and `dcgrid up` store them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub server: String,
    pub token: String,
}

/// Connects with the login that the arguments or the usual places give.
pub fn connect(args: &LoginArgs) -> anyhow::Result<UserLink> {
    let login = find(args)?;
    let token = Token::parse(&login.token, TokenKind::User)?;
    let trust = match &args.ca_bundle {
        Some(path) => Trust::Bundle(path.clone()),
        None => Trust::GridCa(BlobHash(token.ca_key)),
    };
    Ok(UserLink::new(Address::parse(&login.server)?, &token, &trust)?)
}

fn find(args: &LoginArgs) -> anyhow::Result<Login> {
    if let (Ok(server), Ok(token)) = (std::env::var("DCGRID_SERVER"), std::env::var("DCGRID_TOKEN")) {
        return Ok(Login { server, token });
    }
    if let Some(path) = &args.login_file {
        return read(path)?.ok_or_else(|| {
            let message = format!("there is no login file '{}'", path.display());
            fault(Exit::Refused, message, "`dcgrid login URL` makes one")
        });
    }
    for path in [Some(login_path()?), default_state().ok().map(|state| state.join("login.json"))] {
        if let Some(login) = path.as_deref().map(read).transpose()?.flatten() {
            return Ok(login);
        }
    }
    let fix = "`dcgrid up` starts a grid on this machine; `dcgrid login URL` uses another one";
    Err(fault(Exit::Refused, "not logged in to any server", fix))
}

fn read(path: &Path) -> anyhow::Result<Option<Login>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("can't read '{}'", path.display())),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        fault(Exit::Usage, format!("'{}' is no login file: {e}", path.display()), "log in again")
    })
}

/// Stores a login for its owner alone.
pub fn save(path: &Path, login: &Login) -> anyhow::Result<()> {
    let context = || format!("can't write '{}'", path.display());
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(context)?;
    }
    let fresh = path.with_extension("new");
    let text = serde_json::to_vec_pretty(login).expect("a login is text");
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(context)?;
    file.write_all(&text).with_context(context)?;
    std::fs::rename(&fresh, path).with_context(context)
}

/// Where `dcgrid login` stores.
pub fn login_path() -> anyhow::Result<PathBuf> {
    Ok(user_directory("XDG_CONFIG_HOME", ".config")?.join("dcgrid/login.json"))
}

/// Where `dcgrid up` keeps its grid unless told otherwise.
pub fn default_state() -> anyhow::Result<PathBuf> {
    Ok(user_directory("XDG_DATA_HOME", ".local/share")?.join("dcgrid"))
}

/// A directory of the user: where `variable` says, or below their home.
pub fn user_directory(variable: &str, below_home: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(path);
    }
    match std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(home) => Ok(home.join(below_home)),
        None => Err(fault(Exit::Usage, "HOME is not set", format!("set it, or {variable}"))),
    }
}
