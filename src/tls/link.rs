//! Certificates between servers: what a server that dials trusts and shows, and how one that is dialled judges that.
//!
//! TLS 1.3 alone. The files of a server that dials are looked at each time it dials; the authority that clients'
//! certificates are judged by is looked at together with the server's own certificate. A file that cannot be used leaves
//! what was there before.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use super::{Files, TlsError};

/// Stands with a connection whose client has shown a certificate that was verified.
#[derive(Debug, Clone, Copy)]
pub struct ShownCertificate;

/// The side that dials.
pub struct DialTls {
    /// `None`: whom the system trusts.
    ca: Option<PathBuf>,
    certificate: Option<Files>,
    made: Mutex<Option<Made>>,
}

struct Made {
    from: [u8; 32],
    config: Arc<ClientConfig>,
}

impl DialTls {
    /// `ca`: who signs the other servers' certificates, if it is not those whom the system trusts; `certificate`: chain
    /// and key that are shown to a server that asks.
    pub fn new(ca: Option<PathBuf>, certificate: Option<(PathBuf, PathBuf)>) -> Self {
        let certificate = certificate.map(|(cert, key)| Files { cert, key });
        Self { ca, certificate, made: Mutex::new(None) }
    }

    /// For the next connection, with the files as they are now; where these cannot be used, as they were. Blocks while it
    /// reads.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        // Whoever panics here has made nothing.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match self.renew(made.as_ref()) {
            Ok(None) => {}
            Ok(new) => *made = new,
            Err(error) if made.is_none() => return Err(error),
            Err(error) => log::error!("goes on with the certificates it has for links: {}", super::chain(&error)),
        }
        let config = made.as_ref().map(|made| made.config.clone());
        config.ok_or_else(|| TlsError::Setup(rustls::Error::General("no certificates".to_owned())))
    }

    /// `None`: nothing has changed.
    fn renew(&self, before: Option<&Made>) -> Result<Option<Made>, TlsError> {
        let mut digest = Sha256::new();
        let ca = self.ca.as_deref().map(super::read).transpose()?;
        let pems = self.certificate.as_ref().map(Files::read).transpose()?;
        digest.update(ca.as_deref().unwrap_or_default());
        digest.update(pems.as_ref().map(super::Pems::digest).unwrap_or_default());
        let from: [u8; 32] = digest.finalize().into();
        if before.is_some_and(|before| before.from == from) {
            return Ok(None);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = match (&self.ca, ca) {
            (Some(path), Some(pem)) => roots(path, &pem)?,
            _ => system_roots(),
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots);
        let config = match (&self.certificate, pems) {
            (Some(files), Some(pems)) => {
                let certified = SingleCertAndKey::from(files.certified(&pems, &provider)?);
                builder.with_client_cert_resolver(Arc::new(certified))
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Some(Made { from, config: Arc::new(config) }))
    }
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let none = |source| TlsError::Pem { path: path.to_owned(), what: "an authority's certificate", source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| none(Some(error)))?;
        roots.add(certificate).map_err(|_| none(None))?;
    }
    if roots.is_empty() { Err(none(None)) } else { Ok(roots) }
}

/// Those that cannot be used are of no use to anybody.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Judges certificates of clients that show one; devices need none. The authority can be changed.
pub(super) struct Clients {
    ca: PathBuf,
    current: ArcSwap<Judge>,
    /// Said to each client, so that a browser asks nobody for a certificate. As they were at the start.
    hints: Vec<DistinguishedName>,
}

struct Judge {
    from: [u8; 32],
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    pub(super) fn new(ca: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let judge = judge(ca, &super::read(ca)?, provider)?;
        let hints = judge.verifier.root_hint_subjects().to_vec();
        Ok(Self { ca: ca.to_owned(), current: ArcSwap::from_pointee(judge), hints })
    }

    /// Whether there is a new authority.
    pub(super) fn reload(&self, provider: &Arc<CryptoProvider>) -> Result<bool, TlsError> {
        let pem = super::read(&self.ca)?;
        if self.current.load().from == digest(&pem) {
            return Ok(false);
        }
        self.current.store(Arc::new(judge(&self.ca, &pem, provider)?));
        Ok(true)
    }
}

fn digest(pem: &[u8]) -> [u8; 32] {
    Sha256::digest(pem).into()
}

fn judge(path: &Path, pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Judge, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path, pem)?), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::Setup(rustls::Error::General(error.to_string())))?;
    Ok(Judge { from: digest(pem), verifier })
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clients({})", self.ca.display())
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current.load().verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().verifier.supported_verify_schemes()
    }
}
