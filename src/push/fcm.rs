//! Firebase Cloud Messaging, HTTP v1.

use std::fmt::Write as _;
use std::sync::Arc;

use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use super::content::{COLLAPSE_KEY, Content, TIME_TO_LIVE};
use super::exchange::{Answer, exchange};
use super::oauth::{Access, Account};
use super::outcome::Outcome;
use super::{Notification, PushError};
use crate::config::push::FcmSettings;

pub(super) struct Fcm {
    client: Client,
    access: Access,
    url: String,
    content: Content,
}

impl Fcm {
    pub(super) fn open(settings: &FcmSettings, client: Client, content: Content) -> Result<Self, PushError> {
        let account = Arc::new(Account::read(&settings.service_account_file)?);
        let endpoint = super::endpoint("fcm.endpoint", &settings.endpoint)?;
        let url = format!("{endpoint}/v1/projects/{}/messages:send", account.project);
        Ok(Self { access: Access::new(client.clone(), account), client, url, content })
    }

    pub(super) async fn send(&self, token: &str, notification: &Notification) -> Outcome {
        let body = message(self.content, token, notification);
        for attempt in [Attempt::First, Attempt::Last] {
            let access = match self.access.token().await {
                Ok(access) => access,
                Err(outcome) => return outcome,
            };
            let request = self.client.post(&self.url).bearer_auth(&access).json(&body);
            let answer = match exchange(request).await {
                Ok(answer) => answer,
                Err(outcome) => return outcome,
            };
            match (read(&answer), attempt) {
                // Revoked, or expired by a clock that differs from ours: a new one may do.
                (Reading::AccessRefused, Attempt::First) => self.access.discard(&access),
                (Reading::AccessRefused, Attempt::Last) => break,
                (Reading::Is(outcome), _) => return outcome,
            }
        }
        Outcome::broken("a fresh access token is refused: is the service account of this project, and may it send?")
    }
}

#[derive(Clone, Copy)]
enum Attempt {
    First,
    Last,
}

/// The body of `messages:send`. All values of `data` are strings.
fn message(content: Content, token: &str, notification: &Notification) -> Value {
    let data = content.data(notification).into_iter().map(|(key, value)| match value {
        Value::String(text) => (key, text),
        other => (key, other.to_string()),
    });
    let mut message = json!({
        "token": token,
        "data": data.collect::<std::collections::BTreeMap<_, _>>(),
        "android": { "priority": "high", "collapse_key": COLLAPSE_KEY, "ttl": format!("{TIME_TO_LIVE}s") },
    });
    if let Some(words) = content.words(notification) {
        message["notification"] = json!({ "title": words.title, "body": words.body });
        message["apns"] = json!({ "headers": { "apns-priority": "10", "apns-collapse-id": COLLAPSE_KEY } });
    } else {
        // Without words, a phone of Apple's wakes the app only if told so.
        message["apns"] = json!({
            "headers": { "apns-priority": "5", "apns-push-type": "background", "apns-collapse-id": COLLAPSE_KEY },
            "payload": { "aps": { "content-available": 1 } },
        });
    }
    json!({ "message": message })
}

#[derive(Debug, PartialEq, Eq)]
enum Reading {
    AccessRefused,
    Is(Outcome),
}

#[derive(Deserialize, Default)]
struct Failure {
    #[serde(default)]
    error: ApiError,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ApiError {
    status: String,
    message: String,
    details: Vec<Detail>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    error_code: String,
    field_violations: Vec<Violation>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Violation {
    field: String,
}

fn read(answer: &Answer) -> Reading {
    if (200..300).contains(&answer.status) {
        return Reading::Is(Outcome::Sent);
    }
    let ApiError { status, message, details } =
        serde_json::from_slice::<Failure>(&answer.body).unwrap_or_default().error;
    // FCM's own code says more than the status of the API that carries it.
    let own = details.iter().map(|detail| detail.error_code.as_str()).find(|code| !code.is_empty());
    let code = own.unwrap_or(&status);
    let blames_token =
        details.iter().flat_map(|detail| &detail.field_violations).any(|bad| bad.field == "message.token")
            || message.contains("registration token is not a valid");
    let mut why = format!("status {}", answer.status);
    if code.len() < 64 {
        let _ = write!(why, " {}", code.escape_debug());
    }
    Reading::Is(match (answer.status, code) {
        (404, "UNREGISTERED" | "NOT_FOUND") => Outcome::dead(why),
        (400, _) if blames_token => Outcome::dead(why),
        (401, "THIRD_PARTY_AUTH_ERROR") => {
            Outcome::broken(format!("{why}: the APNs or Web Push keys in the Firebase console are missing or wrong"))
        }
        (401, _) => return Reading::AccessRefused,
        (403, "SENDER_ID_MISMATCH") => Outcome::broken(format!("{why}: the token is of another Firebase project")),
        (403, _) => Outcome::broken(format!("{why}: the service account may not send for this project")),
        // Some other address answered than FCM: not a reason to throw tokens away.
        (404 | 405, _) => Outcome::broken(format!("{why}: is fcm.endpoint right?")),
        (408 | 429 | 500.., _) => Outcome::retry_after(answer.retry_after, why),
        _ => Outcome::refused(why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, retry_after: None, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_404_of_another_server_kills_no_token() {
        assert!(matches!(read(&answer(404, "<h1>Not Found</h1>")), Reading::Is(Outcome::Broken { .. })));
        let unregistered = r#"{"error":{"code":404,"status":"NOT_FOUND","message":"Requested entity was not found."}}"#;
        assert!(matches!(read(&answer(404, unregistered)), Reading::Is(Outcome::Dead { .. })));
    }

    #[test]
    fn an_invalid_argument_kills_the_token_only_if_it_is_the_token() {
        let text = |field: &str| {
            format!(
                r#"{{"error":{{"code":400,"status":"INVALID_ARGUMENT","message":"bad","details":[
                    {{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{{"field":"{field}"}}]}}]}}}}"#
            )
        };
        assert!(matches!(read(&answer(400, &text("message.token"))), Reading::Is(Outcome::Dead { .. })));
        assert!(matches!(read(&answer(400, &text("message.data"))), Reading::Is(Outcome::Refused { .. })));
    }
}
