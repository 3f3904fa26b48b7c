//! Keys of the link: Ed25519 to sign (RFC 8032), X25519 with HPKE to seal (RFC 9180).

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use model::{BlobHash, ClientId};
use protocol::client_link::{Bytes, Sealed};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use thiserror::Error;
use zeroize::Zeroizing;

#[derive(Debug, Error)]
pub enum KeyError {
    #[error("the system's random numbers failed")]
    Random,
    #[error("this is not an Ed25519 private key in PKCS #8")]
    Signing,
    #[error("this is not an X25519 private key")]
    Sealing,
    #[error("this is not an X25519 public key")]
    SealTo,
    #[error("the secret can't be opened with this key: it was sealed for another client or lease")]
    Open,
}

/// A private key that signs.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    /// PKCS #8 v2, as it is stored.
    pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

impl SigningKey {
    pub fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(document.as_ref())
    }

    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| KeyError::Signing)?;
        Ok(SigningKey { pair, pkcs8: Zeroizing::new(pkcs8.to_vec()) })
    }

    /// The private key itself: to be stored, never to be logged.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub fn public(&self) -> BlobHash {
        let bytes = self.pair.public_key().as_ref();
        BlobHash(bytes.try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    pub fn sign(&self, text: &str) -> Bytes {
        Bytes(self.pair.sign(text.as_bytes()).as_ref().to_vec())
    }
}

/// Whether `signature` over `text` was made with the private key of `public`.
pub fn verify(public: &BlobHash, text: &str, signature: &Bytes) -> bool {
    UnparsedPublicKey::new(&ED25519, &public.0).verify(text.as_bytes(), &signature.0).is_ok()
}

/// The id of the client that has this public key.
pub fn client_id(public: &BlobHash) -> ClientId {
    let hash = blake3::hash(&public.0);
    ClientId(hash.as_bytes()[..16].try_into().expect("16 of 32 bytes"))
}

type Encapsulation = X25519HkdfSha256;

/// A private key that opens what was sealed to its public half.
pub struct OpeningKey {
    private: <Encapsulation as Kem>::PrivateKey,
    public: BlobHash,
}

impl std::fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpeningKey({})", self.public)
    }
}

impl OpeningKey {
    pub fn generate() -> Self {
        let (private, _) = Encapsulation::gen_keypair();
        Self::new(private)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let private = Deserializable::from_bytes(bytes).map_err(|_| KeyError::Sealing)?;
        Ok(Self::new(private))
    }

    fn new(private: <Encapsulation as Kem>::PrivateKey) -> Self {
        let public = Encapsulation::sk_to_pk(&private).to_bytes();
        let public = BlobHash(public.as_slice().try_into().expect("an X25519 public key has 32 bytes"));
        OpeningKey { private, public }
    }

    /// The private key itself: to be stored, never to be logged.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.private.to_bytes().to_vec())
    }

    pub fn public(&self) -> BlobHash {
        self.public
    }

    /// Opens what [`seal`] made with the same `info`.
    pub fn open(&self, sealed: &Sealed, info: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let key = Deserializable::from_bytes(&sealed.encapsulated_key.0).map_err(|_| KeyError::Open)?;
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, Encapsulation>(
            &OpModeR::Base,
            &self.private,
            &key,
            info.as_bytes(),
            &sealed.ciphertext.0,
            b"",
        )
        .map(Zeroizing::new)
        .map_err(|_| KeyError::Open)
    }
}

/// Seals `plaintext` to a client's public key, for one use that `info` names.
pub fn seal(to: &BlobHash, info: &str, plaintext: &[u8]) -> Result<Sealed, KeyError> {
    let to = Deserializable::from_bytes(&to.0).map_err(|_| KeyError::SealTo)?;
    let (key, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Encapsulation>(
        &OpModeS::Base,
        &to,
        info.as_bytes(),
        plaintext,
        b"",
    )
    .map_err(|_| KeyError::SealTo)?;
    Ok(Sealed { encapsulated_key: Bytes(key.to_bytes().to_vec()), ciphertext: Bytes(ciphertext) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_text_and_key_alone() {
        let key = SigningKey::generate().expect("random");
        let again = SigningKey::from_pkcs8(key.pkcs8()).expect("own key");
        let signature = again.sign("text");
        assert!(verify(&key.public(), "text", &signature));
        assert!(!verify(&key.public(), "texT", &signature));
        assert!(!verify(&SigningKey::generate().expect("random").public(), "text", &signature));
        assert!(!verify(&key.public(), "text", &Bytes(vec![0; 64])));
        assert!(!verify(&key.public(), "text", &Bytes(Vec::new())));
    }

    #[test]
    fn a_secret_opens_for_its_client_and_lease_alone() {
        let (mine, other) = (OpeningKey::generate(), OpeningKey::generate());
        let sealed = seal(&mine.public(), "lease 1", b"secret").expect("public key");
        let restored = OpeningKey::from_bytes(&mine.to_bytes()).expect("own key");
        assert_eq!(restored.open(&sealed, "lease 1").expect("mine").as_slice(), b"secret");
        assert!(matches!(mine.open(&sealed, "lease 2"), Err(KeyError::Open)));
        assert!(matches!(other.open(&sealed, "lease 1"), Err(KeyError::Open)));
        let mut changed = sealed;
        changed.ciphertext.0[0] ^= 1;
        assert!(matches!(mine.open(&changed, "lease 1"), Err(KeyError::Open)));
    }
}
