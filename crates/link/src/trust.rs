//! Whom to believe to be the server.
//!
//! Normally the grid's own CA, whose public key came with the token: any certificate that this key signed is the
//! server's, whatever name or address it was reached by, because the CA signs nothing else. Behind a proxy that
//! opens TLS it is the company's root from a bundle, by name as usual; the messages' own signatures then still
//! tell server and client apart from the proxy.

use std::sync::Arc;

use model::BlobHash;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use thiserror::Error as ThisError;

/// DER in front of an Ed25519 public key in a SubjectPublicKeyInfo (RFC 8410), without the outer SEQUENCE that
/// webpki strips.
const ED25519_SPKI: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[derive(Debug, ThisError)]
pub enum TrustError {
    #[error("'{}' has no certificate in PEM", path.display())]
    Bundle {
        path: std::path::PathBuf,
        #[source]
        source: Option<rustls::pki_types::pem::Error>,
    },
    #[error("the certificates can't be used")]
    Tls(#[source] Error),
}

#[derive(Clone, Debug)]
pub enum Trust {
    /// The grid's CA, by its Ed25519 public key.
    GridCa(BlobHash),
    /// Roots in a PEM file, and the server's name.
    Bundle(std::path::PathBuf),
}

impl Trust {
    pub(crate) fn client_config(&self) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Tls)?;
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Trust::GridCa(key) => Arc::new(PinnedCa { key: *key, provider }),
            Trust::Bundle(path) => bundle_verifier(path, provider)?,
        };
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn bundle_verifier(
    path: &std::path::Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    let unreadable = |source| TrustError::Bundle { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unreadable(Some(e)))? {
        roots.add(certificate.map_err(|e| unreadable(Some(e)))?).map_err(TrustError::Tls)?;
    }
    if roots.is_empty() {
        return Err(unreadable(None));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| TrustError::Tls(Error::General(e.to_string())))
}

/// Accepts a chain that ends in a certificate with the pinned key.
#[derive(Debug)]
struct PinnedCa {
    key: BlobHash,
    provider: Arc<CryptoProvider>,
}

impl PinnedCa {
    fn is_pinned(&self, spki: &[u8]) -> bool {
        spki.strip_prefix(ED25519_SPKI.as_slice()) == Some(self.key.0.as_slice())
    }
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in intermediates {
            roots.add(certificate.clone().into_owned())?;
        }
        roots.roots.retain(|anchor| self.is_pinned(&anchor.subject_public_key_info));
        if roots.is_empty() {
            return Err(Error::General("the server's CA is not the one that the token names".into()));
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
