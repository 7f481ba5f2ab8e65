//! Links over TLS, with certificates made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sparkmesh::config::Permission;
use sparkmesh::tls::Reload;

use crate::kit::{Plan, Server};

fn openssl(arguments: &[&str]) {
    let made = Command::new("openssl").args(arguments).output().expect("these tests make certificates with openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

const EC: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An authority: its certificate.
fn authority(dir: &Path, name: &str) -> PathBuf {
    let (cert, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    let subject = format!("/CN={name}");
    let mut arguments =
        vec!["req", "-x509", "-days", "2", "-subj", &subject, "-out", text(&cert), "-keyout", text(&key)];
    arguments.extend(EC);
    openssl(&arguments);
    cert
}

/// A server's certificate and key, without their extensions.
fn server(dir: &Path, name: &str, ca: &Path) -> PathBuf {
    let base = dir.join(name);
    let (cert, key) = (base.with_extension("crt"), base.with_extension("key"));
    let ca_key = ca.with_extension("key");
    let subject = format!("/CN={name}");
    let mut arguments = vec!["req", "-x509", "-days", "2", "-subj", &subject, "-CA", text(ca), "-CAkey", text(&ca_key)];
    arguments.extend(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]);
    arguments.extend(["-out", text(&cert), "-keyout", text(&key)]);
    arguments.extend(EC);
    openssl(&arguments);
    base
}

fn wss(port: u16) -> String {
    format!("wss://127.0.0.1:{port}")
}

async fn stays_out(server: &Server, before: u64) {
    for _ in 0..1000 {
        let failures = sparkmesh::metrics::LINK_FAILURES.with_label_values(&["unreachable"]).get();
        if failures > before {
            assert_eq!(server.log.lock().unwrap().ups, 0);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody was refused");
}

fn unreachable() -> u64 {
    sparkmesh::metrics::LINK_FAILURES.with_label_values(&["unreachable"]).get()
}

#[actix::test]
async fn a_link_over_tls_trusts_the_authority_it_is_given_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (authority(dir.path(), "ours"), authority(dir.path(), "others"));
    let cert = server(dir.path(), "a", &ours);
    let a = Plan { tls: Some(&cert), ..Plan::new("a") }.start();
    let b = Plan { ca: Some(&ours), named: vec![wss(a.port)], ..Plan::new("b") }.start();
    a.until_linked(&b).await;
    b.until_linked(&a).await;
    for number in 1..=1000 {
        a.send(number, 1000);
        b.send(number, 1000);
    }
    a.until("all", |seen| seen.carried.len() == 1000).await;
    b.until("all", |seen| seen.carried.len() == 1000).await;
    // An authority that is put right later is used at the next dial.
    let trusted = dir.path().join("trusted.crt");
    fs::copy(&others, &trusted).unwrap();
    let before = unreachable();
    let c = Plan { ca: Some(&trusted), named: vec![wss(a.port)], ..Plan::new("c") }.start();
    stays_out(&c, before).await;
    fs::copy(&ours, &trusted).unwrap();
    c.until_linked(&a).await;
}

#[actix::test]
async fn where_certificates_are_demanded_none_gets_in_without_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (authority(dir.path(), "ours"), authority(dir.path(), "others"));
    let cert = server(dir.path(), "a", &ours);
    let a = Plan { tls: Some(&cert), ca: Some(&ours), demands: Permission::Refused, ..Plan::new("a") }.start();
    let before = unreachable();
    let none = Plan { ca: Some(&ours), named: vec![wss(a.port)], ..Plan::new("n") }.start();
    stays_out(&none, before).await;
    let foreign = server(dir.path(), "foreign", &others);
    let before = unreachable();
    let wrong = Plan { ca: Some(&ours), shows: Some(&foreign), named: vec![wss(a.port)], ..Plan::new("w") }.start();
    stays_out(&wrong, before + 3).await;
    let good = server(dir.path(), "good", &ours);
    let b = Plan { ca: Some(&ours), shows: Some(&good), named: vec![wss(a.port)], ..Plan::new("b") }.start();
    b.until_linked(&a).await;
    a.until_linked(&b).await;
    assert_eq!(a.log.lock().unwrap().up.len(), 1);
}

#[actix::test]
async fn the_authority_of_those_who_come_in_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (authority(dir.path(), "ours"), authority(dir.path(), "others"));
    let (cert, foreign) = (server(dir.path(), "a", &ours), server(dir.path(), "foreign", &others));
    let trusted = dir.path().join("trusted.crt");
    fs::copy(&ours, &trusted).unwrap();
    let mut a = Plan { tls: Some(&cert), ca: Some(&trusted), demands: Permission::Refused, ..Plan::new("a") }.start();
    let before = unreachable();
    let b = Plan { ca: Some(&ours), shows: Some(&foreign), named: vec![wss(a.port)], ..Plan::new("b") }.start();
    stays_out(&b, before).await;
    let reloader = a.reloader.as_mut().unwrap();
    assert_eq!(reloader.reload().unwrap(), Reload::Unchanged);
    fs::write(&trusted, "nothing").unwrap();
    assert!(reloader.reload().is_err());
    assert_eq!(reloader.reload().unwrap(), Reload::Unchanged, "the same fault is told once");
    fs::copy(&others, &trusted).unwrap();
    assert_eq!(reloader.reload().unwrap(), Reload::Replaced);
    b.until_linked(&a).await;
}
