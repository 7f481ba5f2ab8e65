//! Web Push: an encrypted message to the address that the browser's subscription names.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Client;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;

use super::Notification;
use super::content::{COLLAPSE_KEY, Content, TIME_TO_LIVE};
use super::encrypt::encrypt;
use super::exchange::{Answer, exchange};
use super::guard::Guard;
use super::outcome::Outcome;
use super::token::Subscription;
use super::vapid::Vapid;

pub(super) struct WebPush {
    client: Client,
    guard: Guard,
    vapid: Vapid,
    content: Content,
}

impl WebPush {
    /// `client` resolves names through `guard`.
    pub(super) fn new(client: Client, guard: Guard, vapid: Vapid, content: Content) -> Self {
        Self { client, guard, vapid, content }
    }

    pub(super) fn public_key(&self) -> &str {
        &self.vapid.public
    }

    pub(super) async fn send(&self, token: &str, notification: &Notification) -> Outcome {
        let Ok(subscription) = Subscription::parse(token) else { return Outcome::dead("it is no subscription") };
        if let Err(forbidden) = self.guard.check(&subscription.endpoint) {
            return Outcome::refused(forbidden.to_string());
        }
        let mut data = self.content.data(notification);
        if let Some(words) = self.content.words(notification) {
            data.insert("title".to_owned(), words.title.into());
        }
        let Ok(body) = encrypt(&subscription, Value::Object(data).to_string().as_bytes()) else {
            return Outcome::dead("its key cannot be encrypted to");
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let origin = subscription.endpoint.origin().ascii_serialization();
        let Ok(authorization) = self.vapid.authorization(&origin, now) else {
            return Outcome::broken("the VAPID key does not sign");
        };
        let request = self
            .client
            .post(subscription.endpoint)
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("ttl", TIME_TO_LIVE)
            .header("urgency", "high")
            .header("topic", COLLAPSE_KEY)
            .body(body);
        match exchange(request).await {
            Ok(answer) => read(&answer),
            Err(outcome) => outcome,
        }
    }
}

fn read(answer: &Answer) -> Outcome {
    let why = format!("status {}", answer.status);
    match answer.status {
        200..=299 => Outcome::Sent,
        404 | 410 => Outcome::dead(why),
        401 | 403 => Outcome::broken(format!(
            "{why}: the subscription was made with another VAPID key, or another subject is wanted"
        )),
        408 | 425 | 429 | 500.. => Outcome::retry_after(answer.retry_after, why),
        413 => Outcome::refused(format!("{why}: too large for this push service")),
        _ => Outcome::refused(why),
    }
}
