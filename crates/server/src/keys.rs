//! The grid's own keys: made at the first start, kept in the state directory, readable by the server's account
//! alone.
//!
//! The CA signs the server's TLS certificate and vouches for the grid key; tokens carry its public key. The grid
//! key signs manifests and replies to clients. The storage key seals job secrets at rest, and the keys of the clients'
//! caches are made of it.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use link::keys::{KeyError, SigningKey};
use model::{BlobHash, ClientId};
use protocol::client_link::{Signature, grid_key_text};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use zeroize::Zeroizing;

#[derive(Debug, Error)]
pub enum KeysError {
    #[error("can't {doing} '{}'", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("'{}' is not a key of this grid", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error("'{}' must have 32 bytes", path.display())]
    StorageKey { path: PathBuf },
    #[error("the server's certificate can't be made")]
    Certificate(#[from] rcgen::Error),
    #[error("the system's random numbers failed")]
    Random(#[from] KeyError),
    #[error("sealed data can't be opened with this server's storage key")]
    Unseal,
}

#[derive(Debug)]
pub struct GridKeys {
    ca: SigningKey,
    grid: SigningKey,
    storage: Zeroizing<[u8; 32]>,
}

impl GridKeys {
    /// Reads the keys in `directory`, making those that are not there.
    pub fn open(directory: &Path) -> Result<Self, KeysError> {
        let storage_path = directory.join("storage.key");
        let storage = read_or_make(&storage_path, || {
            let mut key = Zeroizing::new(vec![0; 32]);
            getrandom::fill(&mut key).map_err(|_| KeyError::Random)?;
            Ok(key)
        })?;
        let storage: [u8; 32] =
            storage.as_slice().try_into().map_err(|_| KeysError::StorageKey { path: storage_path })?;
        Ok(GridKeys {
            ca: signing_key(&directory.join("ca.key"))?,
            grid: signing_key(&directory.join("grid.key"))?,
            storage: Zeroizing::new(storage),
        })
    }

    /// Public key of the CA: what tokens carry.
    pub fn ca_public(&self) -> BlobHash {
        self.ca.public()
    }

    pub fn grid(&self) -> &SigningKey {
        &self.grid
    }

    /// The CA's word for the grid key.
    pub fn grid_key_signature(&self) -> Signature {
        self.ca.sign(&grid_key_text(&self.grid.public()))
    }

    /// A fresh certificate for the server with its private key, and the CA's certificate behind it. Made at
    /// every start, so that nothing has to be renewed on disk.
    pub fn tls_identity(
        &self,
        names: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>), KeysError> {
        let ca_pair = KeyPair::from_pkcs8_der_and_sign_algo(&self.ca.pkcs8().into(), &rcgen::PKCS_ED25519)?;
        let mut ca_params = CertificateParams::default();
        ca_params.distinguished_name.push(DnType::CommonName, "DCGrid CA");
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_certificate = ca_params.self_signed(&ca_pair)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "DCGrid server");
        params.subject_alt_names =
            names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &Issuer::from_params(&ca_params, &ca_pair))?;
        let private = PrivatePkcs8KeyDer::from(pair.serialize_der());
        Ok((vec![certificate.der().clone(), ca_certificate.der().clone()], private))
    }

    /// Seals bytes that must rest on the server's disk. `context` must be given again to open them.
    pub fn seal_at_rest(&self, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, KeysError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| KeyError::Random)?;
        let mut sealed = plaintext.to_vec();
        self.storage_key()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| KeysError::Unseal)?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub fn open_at_rest(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeysError> {
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN).ok_or(KeysError::Unseal)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeysError::Unseal)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let length = self
            .storage_key()
            .open_in_place(nonce, Aad::from(context.as_bytes()), &mut buffer)
            .map_err(|_| KeysError::Unseal)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }

    /// The key of what a client keeps on its disk for further subjobs. It follows from the storage key, so that it needs
    /// no place of its own and is the same after every restart.
    pub fn cache_key(&self, client: ClientId) -> Zeroizing<[u8; 32]> {
        let prk = Salt::new(HKDF_SHA256, b"dcgrid cache key 1").extract(self.storage.as_slice());
        let info = [client.0.as_slice()];
        let mut key = Zeroizing::new([0; 32]);
        prk.expand(&info, HKDF_SHA256)
            .and_then(|okm| okm.fill(key.as_mut_slice()))
            .expect("32 bytes are less than HKDF's limit");
        key
    }

    fn storage_key(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, self.storage.as_slice()).expect("32 bytes");
        LessSafeKey::new(key)
    }
}

fn alternative_name(name: &str) -> Result<SanType, rcgen::Error> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.to_owned().try_into()?)),
    }
}

fn signing_key(path: &Path) -> Result<SigningKey, KeysError> {
    let pkcs8 =
        read_or_make(path, || SigningKey::generate().map(|key| Zeroizing::new(key.pkcs8().to_vec())))?;
    SigningKey::from_pkcs8(&pkcs8).map_err(|source| KeysError::Malformed { path: path.to_owned(), source })
}

/// Reads a key file, or makes it so that a crash leaves either none or a whole one.
fn read_or_make(
    path: &Path,
    make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, KeyError>,
) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let failed = |doing| move |source| KeysError::File { doing, path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(bytes) => return Ok(Zeroizing::new(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read")(error)),
    }
    let key = make()?;
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(failed("make"))?;
    file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    std::fs::rename(&fresh, path).map_err(failed("make"))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("make"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_outlive_a_restart_and_are_for_the_owner_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let first = GridKeys::open(directory.path()).expect("made");
        let again = GridKeys::open(directory.path()).expect("read");
        assert_eq!((first.ca_public(), first.grid.public()), (again.ca_public(), again.grid.public()));
        let sealed = first.seal_at_rest("job 1", b"secret").expect("seals");
        assert_eq!(again.open_at_rest("job 1", &sealed).expect("opens").as_slice(), b"secret");
        assert!(again.open_at_rest("job 2", &sealed).is_err());
        let client = |byte| ClientId([byte; 16]);
        assert_eq!(first.cache_key(client(1)), again.cache_key(client(1)));
        assert_ne!(first.cache_key(client(1)), first.cache_key(client(2)));
        assert_ne!(first.cache_key(client(1)).as_slice(), first.storage.as_slice());
        assert!(again.open_at_rest("job 1", &sealed[..5]).is_err());
        for name in ["ca.key", "grid.key", "storage.key"] {
            let mode = std::fs::metadata(directory.path().join(name)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_damaged_key_is_refused_and_not_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("ca.key"), b"nonsense").expect("writes");
        assert!(matches!(GridKeys::open(directory.path()), Err(KeysError::Malformed { .. })));
        assert_eq!(std::fs::read(directory.path().join("ca.key")).expect("there"), b"nonsense");
    }
}
