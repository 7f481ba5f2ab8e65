//! Certificates: real handshakes in memory, with certificates made by `openssl`, before and after the files change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection};
use sparkmesh::tls::{Reload, TlsError, server_config};

struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

fn pair(dir: &Path, name: &str) -> Pair {
    let pair = Pair { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"])
        .arg(&pair.cert)
        .arg("-keyout")
        .arg(&pair.key)
        .output()
        .expect("these tests make certificates with openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    pair
}

/// The version both sides agree on, and whether the server showed the certificate in `expected`.
fn handshake(
    config: &ServerConfig,
    expected: &Path,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<ProtocolVersion, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(expected).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap())?;
    let mut server = ServerConnection::new(Arc::new(config.clone()))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(client.protocol_version().unwrap())
}

fn both() -> [&'static rustls::SupportedProtocolVersion; 2] {
    [&rustls::version::TLS12, &rustls::version::TLS13]
}

#[test]
fn clients_speak_tls_1_2_and_1_3() {
    let dir = tempfile::tempdir().unwrap();
    let a = pair(dir.path(), "a");
    let (config, _) = server_config(&a.cert, &a.key).unwrap();
    assert_eq!(handshake(&config, &a.cert, &both()), Ok(ProtocolVersion::TLSv1_3));
    assert_eq!(handshake(&config, &a.cert, &[&rustls::version::TLS12]), Ok(ProtocolVersion::TLSv1_2));
}

#[test]
fn a_new_pair_is_used_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (pair(dir.path(), "a"), pair(dir.path(), "b"));
    let used = Pair { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    fs::copy(&a.cert, &used.cert).unwrap();
    fs::copy(&a.key, &used.key).unwrap();
    let (config, mut reloader) = server_config(&used.cert, &used.key).unwrap();
    let shows = |pair: &Pair| handshake(&config, &pair.cert, &both()).is_ok();
    assert!(shows(&a) && !shows(&b));
    assert_eq!(reloader.reload().unwrap(), Reload::Unchanged);

    fs::copy(&b.cert, &used.cert).unwrap();
    assert!(matches!(reloader.reload(), Err(TlsError::Mismatch { .. })), "half of the change");
    assert_eq!(reloader.reload().unwrap(), Reload::Unchanged, "said once");
    assert!(shows(&a));

    fs::copy(&b.key, &used.key).unwrap();
    assert_eq!(reloader.reload().unwrap(), Reload::Replaced);
    assert!(shows(&b) && !shows(&a));

    fs::write(&used.cert, "no certificate").unwrap();
    assert!(matches!(reloader.reload(), Err(TlsError::Pem { .. })));
    fs::remove_file(&used.cert).unwrap();
    assert!(matches!(reloader.reload(), Err(TlsError::Read { .. })));
    assert_eq!(reloader.reload().unwrap(), Reload::Unchanged, "said once");
    assert!(shows(&b));

    fs::copy(&a.cert, &used.cert).unwrap();
    fs::copy(&a.key, &used.key).unwrap();
    assert_eq!(reloader.reload().unwrap(), Reload::Replaced);
    assert!(shows(&a));
}

/// Well before the files would be looked at without a signal.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_hangup_reloads_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (pair(dir.path(), "a"), pair(dir.path(), "b"));
    let (config, reloader) = server_config(&a.cert, &a.key).unwrap();
    let watching = tokio::spawn(reloader.watch());
    // On this one thread it has run up to its first wait, and listens for the signal.
    tokio::task::yield_now().await;
    fs::copy(&b.cert, &a.cert).unwrap();
    fs::copy(&b.key, &a.key).unwrap();
    let pid = std::process::id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let start = Instant::now();
    while handshake(&config, &b.cert, &both()).is_err() {
        assert!(start.elapsed() < SOON, "the new certificate is not used");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    watching.abort();
}

#[test]
fn a_server_does_not_start_with_a_bad_pair() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (pair(dir.path(), "a"), pair(dir.path(), "b"));
    let text = dir.path().join("text");
    fs::write(&text, "no PEM").unwrap();
    let cases = [
        (&a.cert, &b.key, "do not belong together"),
        (&text, &a.key, "no PEM file with a certificate in it"),
        (&a.cert, &text, "no PEM file with a private key in it"),
        (&a.key, &a.key, "no PEM file with a certificate in it"),
        (&dir.path().join("nowhere"), &a.key, "cannot be read"),
    ];
    for (cert, key, expected) in cases {
        let error = server_config(cert, key).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
