//! Whether another live server answers at the address this one is to have (row A49).
//!
//! Asked before binding, of the address that clients will be told: `/healthz` there names who answers. Only another
//! sparkmesh server is a reason to stop; nobody, something else, or this server's own earlier self is none.

use std::time::Duration;

use serde::Deserialize;

use super::identity::{IdentityError, ServerIdentity};
use super::{Config, Permission};
use crate::model::ids::NodeId;

const PATIENCE: Duration = Duration::from_secs(2);
/// More than any health page; what is longer is not ours.
const MAX_ANSWER: usize = 64 << 10;

#[derive(Deserialize)]
struct Health {
    node_id: NodeId,
}

/// Fails when a live server of another identity has the address, unless `--force` was given.
pub async fn refuse_taken_address(config: &Config, own: &ServerIdentity) -> Result<(), IdentityError> {
    if config.port == 0 {
        return Ok(());
    }
    let authority = config.authority(config.port);
    let answered = match who_answers(&authority).await {
        Some(node) if node != own.node => node,
        _ => return Ok(()),
    };
    if config.force == Permission::Granted {
        log::warn!("another server, {answered}, is live at {authority}; started beside it because of --force");
        return Ok(());
    }
    Err(IdentityError::AddressTaken { authority, answered, own: own.node.clone() })
}

/// The server that answers there, with TLS or without.
async fn who_answers(authority: &str) -> Option<NodeId> {
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://{authority}/healthz");
        if let Ok(Ok(node)) = tokio::time::timeout(PATIENCE, health(&url)).await {
            return node;
        }
    }
    None
}

async fn health(url: &str) -> Result<Option<NodeId>, reqwest::Error> {
    // No certificate is checked: nothing is told to whoever answers, and a lie only stops this start.
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(true)
        .build()?;
    let mut response = client.get(url).send().await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Ok(None);
        }
    }
    Ok(serde_json::from_slice::<Health>(&body).ok().map(|health| health.node_id))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Gives every caller the same answer.
    async fn stranger(answer: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        authority
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn only_one_of_us_is_recognised() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let cases = [
            (ok(r#"{"status":"ok","node_id":"east-1"}"#), Some("east-1")),
            (ok(r#"{"status":"ok"}"#), None),
            (ok("<html>"), None),
            (ok(&format!(r#"{{"node_id":"east-1","x":"{}"}}"#, "x".repeat(100_000))), None),
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned(), None),
            ("SSH-2.0-OpenSSH\r\n".to_owned(), None),
        ];
        for (answer, expected) in cases {
            let authority = stranger(answer.clone()).await;
            assert_eq!(who_answers(&authority).await, expected.map(|id| id.parse().unwrap()), "{answer:.80}");
        }
    }

    #[tokio::test]
    async fn nobody_is_no_hindrance() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        drop(listener);
        assert_eq!(who_answers(&authority).await, None);
    }
}
