//! Webhook: a signed request to the address that a device (or the back end behind it) registered.
//!
//! The header `sparkmesh-signature: t=<unix seconds>,v1=<hex HMAC-SHA256(secret, t + "." + body)>` lets the receiver
//! tell ours from others', and old from new.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::content::Content;
use super::exchange::{Answer, exchange};
use super::guard::Guard;
use super::outcome::Outcome;
use super::{Notification, PushError, token};

const WHAT: &str = "the secret of push.webhook";
const LEAST_SECRET: usize = 16;
const SIGNATURE: &str = "sparkmesh-signature";

pub(super) struct Webhook {
    client: Client,
    guard: Guard,
    secret: hmac::Key,
    content: Content,
}

impl Webhook {
    /// `client` resolves names through `guard`.
    pub(super) fn open(secret_file: &Path, client: Client, guard: Guard, content: Content) -> Result<Self, PushError> {
        let text = super::read_file(WHAT, secret_file)?;
        let secret = text.trim_ascii();
        if secret.len() < LEAST_SECRET {
            let why = format!("it has {} bytes, and needs {LEAST_SECRET} or more", secret.len());
            return Err(PushError::unusable(WHAT, secret_file, why));
        }
        Ok(Self { client, guard, secret: hmac::Key::new(hmac::HMAC_SHA256, secret), content })
    }

    pub(super) async fn send(&self, token: &str, notification: &Notification) -> Outcome {
        let Ok(url) = token::webhook_url(token) else { return Outcome::dead("it is no address") };
        if let Err(forbidden) = self.guard.check(&url) {
            return Outcome::refused(forbidden.to_string());
        }
        let mut data = self.content.data(notification);
        data.insert("node_id".to_owned(), json!(notification.device));
        if let Some(words) = self.content.words(notification) {
            data.insert("title".to_owned(), words.title.into());
        }
        let body = Value::Object(data).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, signature(&self.secret, now, &body))
            .body(body);
        match exchange(request).await {
            Ok(answer) => read(&answer),
            Err(outcome) => outcome,
        }
    }
}

fn signature(secret: &hmac::Key, now: u64, body: &str) -> String {
    let tag = hmac::sign(secret, format!("{now}.{body}").as_bytes());
    format!("t={now},v1={}", hex::encode(tag.as_ref()))
}

fn read(answer: &Answer) -> Outcome {
    let why = format!("status {}", answer.status);
    match answer.status {
        200..=299 => Outcome::Sent,
        410 => Outcome::dead(why),
        413 => Outcome::refused(why),
        300..=399 => Outcome::refused(format!("{why}: redirects are not followed")),
        // A receiver that is being set up answers all sorts of things, and mends.
        _ => Outcome::retry_after(answer.retry_after, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out with `openssl dgst -sha256 -hmac`.
    #[test]
    fn the_signature_covers_time_and_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        assert_eq!(
            signature(&key, 1_700_000_000, "{\"pending\":1}"),
            "t=1700000000,v1=b7adeebd35802d07dd037233f5f315f599c44253033ead275157b75ca37b7098"
        );
    }
}
