//! The server's certificate: how it is read, and how it is changed without a restart.
//!
//! Certificate and key come from two PEM files. They are read again every [`POLL`] and on SIGHUP; a new pair is used for
//! the handshakes that follow, and one that cannot be read or does not match leaves the old one in use, with one line in
//! the log for each new fault. What counts is the files' content, so that renames and links are no trouble.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

pub mod link;

use link::Clients;

/// How often the files are looked at.
pub const POLL: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no PEM file with {what} in it", path.display())]
    Pem {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: Option<rustls::pki_types::pem::Error>,
    },
    #[error("the certificate {} and the key {} do not belong together, or are of a kind that is not supported",
        cert.display(), key.display())]
    Mismatch {
        cert: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// What [`Reloader::reload`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    Unchanged,
    Replaced,
}

/// TLS 1.2 and 1.3 for clients, with the certificate in the files `cert` and `key`. Reads them now, and so blocks for a
/// moment; the [`Reloader`] does so later.
pub fn server_config(cert: &Path, key: &Path) -> Result<(ServerConfig, Reloader), TlsError> {
    server_config_with(cert, key, None)
}

/// As [`server_config`]. Clients that show a certificate must have one of the authority in the file `client_ca`; none need
/// show any.
pub fn server_config_with(
    cert: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<(ServerConfig, Reloader), TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let files = Files { cert: cert.to_owned(), key: key.to_owned() };
    let pems = files.read()?;
    let current = Arc::new(Current(ArcSwap::from_pointee(files.certified(&pems, &provider)?)));
    let clients = client_ca.map(|ca| Clients::new(ca, &provider).map(Arc::new)).transpose()?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Setup)?;
    let config = match &clients {
        Some(clients) => builder.with_client_cert_verifier(clients.clone()),
        None => builder.with_no_client_auth(),
    }
    .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
    Ok((config, Reloader { files, current, clients, provider, seen: Seen::Content(pems.digest()), complaint: None }))
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

#[derive(Debug, Clone)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

struct Pems {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Pems {
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update((self.cert.len() as u64).to_be_bytes());
        digest.update(&self.cert);
        digest.update(&self.key);
        digest.finalize().into()
    }
}

impl Files {
    fn read(&self) -> Result<Pems, TlsError> {
        Ok(Pems { cert: read(&self.cert)?, key: read(&self.key)? })
    }

    fn certified(&self, pems: &Pems, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let no_chain = |source| TlsError::Pem { path: self.cert.clone(), what: "a certificate", source };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pems.cert)
            .collect::<Result<_, _>>()
            .map_err(|source| no_chain(Some(source)))?;
        if chain.is_empty() {
            return Err(no_chain(None));
        }
        let key = PrivateKeyDer::from_pem_slice(&pems.key).map_err(|source| TlsError::Pem {
            path: self.key.clone(),
            what: "a private key",
            source: Some(source),
        })?;
        CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Mismatch {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// What the last look at the files found, good or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Content([u8; 32]),
    Unreadable,
}

/// Keeps the certificate of a [`ServerConfig`] up to date.
#[derive(Debug)]
pub struct Reloader {
    files: Files,
    current: Arc<Current>,
    clients: Option<Arc<Clients>>,
    provider: Arc<CryptoProvider>,
    seen: Seen,
    /// What is wrong with the authority of clients, as it was reported.
    complaint: Option<String>,
}

impl Reloader {
    /// Looks at the files now. A fault is reported once: the same files again are [`Reload::Unchanged`]. Blocks while
    /// it reads.
    pub fn reload(&mut self) -> Result<Reload, TlsError> {
        let clients = self.reload_clients();
        match (self.reload_own(), clients) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(own), Ok(Reload::Unchanged)) => Ok(own),
            (Ok(_), Ok(Reload::Replaced)) => Ok(Reload::Replaced),
        }
    }

    fn reload_clients(&mut self) -> Result<Reload, TlsError> {
        let Some(clients) = &self.clients else { return Ok(Reload::Unchanged) };
        let looked = clients.reload(&self.provider);
        let before = self.complaint.take();
        match looked {
            Ok(true) => Ok(Reload::Replaced),
            Ok(false) => Ok(Reload::Unchanged),
            Err(error) => {
                let text = chain(&error);
                let known = before.as_ref() == Some(&text);
                self.complaint = Some(text);
                if known { Ok(Reload::Unchanged) } else { Err(error) }
            }
        }
    }

    fn reload_own(&mut self) -> Result<Reload, TlsError> {
        let before = self.seen;
        let pems = match self.files.read() {
            Ok(pems) => pems,
            Err(_) if before == Seen::Unreadable => return Ok(Reload::Unchanged),
            Err(error) => {
                self.seen = Seen::Unreadable;
                return Err(error);
            }
        };
        self.seen = Seen::Content(pems.digest());
        if self.seen == before {
            return Ok(Reload::Unchanged);
        }
        self.current.0.store(Arc::new(self.files.certified(&pems, &self.provider)?));
        Ok(Reload::Replaced)
    }

    /// Looks every [`POLL`] and on SIGHUP, for as long as it is polled.
    pub async fn watch(mut self) {
        let mut ticks = tokio::time::interval_at(Instant::now() + POLL, POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                log::warn!("SIGHUP will not reload the certificate: {error}");
                None
            }
        };
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = next(hangup.as_mut()) => {}
            }
            let looked = tokio::task::spawn_blocking(move || {
                let outcome = self.reload();
                (self, outcome)
            });
            // An error: the runtime ends, and there is nothing left to watch for.
            let Ok((reloader, outcome)) = looked.await else { return };
            self = reloader;
            match outcome {
                Ok(Reload::Unchanged) => {}
                Ok(Reload::Replaced) => log::info!("uses the new certificate in {}", self.files.cert.display()),
                Err(error) => log::error!("keeps the certificate it has: {}", chain(&error)),
            }
        }
    }
}

async fn next(signals: Option<&mut Signal>) {
    let arrived = match signals {
        Some(signals) => signals.recv().await.is_some(),
        None => false,
    };
    // No signal will ever come any more.
    if !arrived {
        std::future::pending::<()>().await;
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
