//! Apple Push Notification service: HTTP/2, and a signed token of ours for each connection.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Client, RequestBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::content::{COLLAPSE_KEY, Content, TIME_TO_LIVE};
use super::exchange::{Answer, exchange};
use super::outcome::Outcome;
use super::{Notification, PushError, token};
use crate::config::push::ApnsSettings;

const WHAT: &str = "the key of push.apns";
/// Apple takes a token for an hour, and answers 429 to those who renew it more often than every 20 minutes.
const RENEW_AFTER: Duration = Duration::from_secs(40 * 60);
const RENEW_NOT_BEFORE: Duration = Duration::from_secs(20 * 60);

pub(super) struct Apns {
    client: Client,
    endpoint: String,
    topic: String,
    content: Content,
    signer: Signer,
}

struct Signer {
    header: Header,
    team: String,
    key: EncodingKey,
    bearer: Mutex<Option<Bearer>>,
}

#[derive(Clone)]
struct Bearer {
    text: String,
    issued: Instant,
    /// When Apple last made us renew it early.
    forced: Option<Instant>,
}

impl Signer {
    fn open(settings: &ApnsSettings) -> Result<Self, PushError> {
        let path = &settings.key_file;
        let pem = super::read_file(WHAT, path)?;
        let key = EncodingKey::from_ec_pem(&pem)
            .map_err(|error| PushError::unusable(WHAT, path, format!("it is no PKCS#8 key in PEM: {error}")))?;
        let header = Header { kid: Some(settings.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let signer = Self { header, team: settings.team_id.clone(), key, bearer: Mutex::new(None) };
        signer.sign().map_err(|error| PushError::unusable(WHAT, path, error))?;
        Ok(signer)
    }

    fn sign(&self) -> Result<String, jsonwebtoken::errors::Error> {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            iat: u64,
        }
        let iat = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        jsonwebtoken::encode(&self.header, &Claims { iss: &self.team, iat }, &self.key)
    }

    /// The token to use at `now`. Where Apple has called `expired` expired, another one, but none if that was already
    /// a renewed one: then it is not the token's age.
    fn bearer(&self, now: Instant, expired: Option<&str>) -> Option<String> {
        let mut held = self.bearer.lock().unwrap_or_else(PoisonError::into_inner);
        let current = held.as_ref().filter(|bearer| now.duration_since(bearer.issued) < RENEW_AFTER);
        let mut forced = held.as_ref().and_then(|bearer| bearer.forced);
        if let Some(bearer) = current {
            if expired != Some(bearer.text.as_str()) {
                return Some(bearer.text.clone());
            }
            if forced.is_some_and(|at| now.duration_since(at) < RENEW_NOT_BEFORE) {
                return None;
            }
            forced = Some(now);
        }
        let text = self.sign().ok()?;
        *held = Some(Bearer { text: text.clone(), issued: now, forced });
        Some(text)
    }
}

impl Apns {
    /// `client` speaks HTTP/2 without asking.
    pub(super) fn open(settings: &ApnsSettings, client: Client, content: Content) -> Result<Self, PushError> {
        for (name, value) in
            [("apns.topic", &settings.topic), ("apns.key-id", &settings.key_id), ("apns.team-id", &settings.team_id)]
        {
            if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                let why = "it must be as Apple's console shows it, without spaces";
                return Err(PushError::Setting { name, value: value.clone(), why });
            }
        }
        let endpoint = super::endpoint("apns.endpoint", &settings.endpoint)?;
        Ok(Self { client, endpoint, topic: settings.topic.clone(), content, signer: Signer::open(settings)? })
    }

    pub(super) async fn send(&self, token: &str, notification: &Notification) -> Outcome {
        if !token::is_apns(token) {
            return Outcome::dead("it is no device token");
        }
        let body = payload(self.content, notification);
        let mut expired = None;
        while let Some(bearer) = self.signer.bearer(Instant::now(), expired.as_deref()) {
            let answer = match exchange(self.request(token, &bearer, &body)).await {
                Ok(answer) => answer,
                Err(outcome) => return outcome,
            };
            match read(&answer) {
                Reading::Expired => expired = Some(bearer),
                Reading::Is(outcome) => return outcome,
            }
        }
        Outcome::broken("a fresh provider token is called expired: is this server's clock right?")
    }

    fn request(&self, token: &str, bearer: &str, body: &Value) -> RequestBuilder {
        let (kind, priority) = match self.content {
            Content::Shown => ("alert", "10"),
            Content::Hidden => ("background", "5"),
        };
        let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + TIME_TO_LIVE;
        self.client
            .post(format!("{}/3/device/{token}", self.endpoint))
            .header("authorization", format!("bearer {bearer}"))
            .header("apns-topic", &self.topic)
            .header("apns-push-type", kind)
            .header("apns-priority", priority)
            .header("apns-collapse-id", COLLAPSE_KEY)
            .header("apns-expiration", until.to_string())
            .json(body)
    }
}

fn payload(content: Content, notification: &Notification) -> Value {
    let mut payload = content.data(notification);
    let aps = match content.words(notification) {
        Some(words) => json!({
            "alert": { "title": words.title, "body": words.body },
            "badge": notification.pending,
            "sound": "default",
        }),
        // Apple wants nothing else in a background notification.
        None => json!({ "content-available": 1 }),
    };
    payload.insert("aps".to_owned(), aps);
    Value::Object(payload)
}

#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Expired,
    Is(Outcome),
}

fn read(answer: &Answer) -> Reading {
    #[derive(Deserialize, Default)]
    struct Failure {
        reason: String,
    }
    if answer.status == 200 {
        return Reading::Is(Outcome::Sent);
    }
    let reason = serde_json::from_slice::<Failure>(&answer.body).unwrap_or_default().reason;
    let shown = Some(&reason).filter(|reason| reason.len() < 64).map(|reason| reason.escape_debug().to_string());
    let why = format!("status {} {}", answer.status, shown.unwrap_or_default());
    Reading::Is(match (answer.status, reason.as_str()) {
        (403, "ExpiredProviderToken") => return Reading::Expired,
        (410, "Unregistered" | "ExpiredToken") | (400, "BadDeviceToken" | "Unregistered") => Outcome::dead(why),
        (400, "DeviceTokenNotForTopic" | "BadTopic" | "MissingTopic" | "TopicDisallowed") => {
            Outcome::broken(format!("{why}: is apns.topic the app's bundle id?"))
        }
        (401 | 403, _) => Outcome::broken(format!("{why}: are apns.key-file, key-id and team-id of one account?")),
        // Some other address answered than Apple's: not a reason to throw tokens away.
        (404 | 405 | 410, _) => Outcome::broken(format!("{why}: is apns.endpoint right?")),
        (429 | 500.., _) => Outcome::retry_after(answer.retry_after, why),
        _ => Outcome::refused(why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_between_20_and_60_minutes_and_early_only_once() {
        let pkcs8 =
            aws_lc_rs::signature::EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING)
                .unwrap()
                .to_pkcs8v1()
                .unwrap();
        let signer = Signer {
            header: Header::new(Algorithm::ES256),
            team: "TEAM".to_owned(),
            key: EncodingKey::from_ec_der(pkcs8.as_ref()),
            bearer: Mutex::new(None),
        };
        let start = Instant::now();
        let after = |minutes: u64| start + Duration::from_secs(minutes * 60);
        let first = signer.bearer(start, None).unwrap();
        assert_eq!(signer.bearer(after(39), None).unwrap(), first);
        let second = signer.bearer(after(40), None).unwrap();
        assert_ne!(second, first);
        assert_eq!(signer.bearer(after(41), Some(&first)).unwrap(), second, "an old one's expiry is no news");
        let third = signer.bearer(after(41), Some(&second)).unwrap();
        assert_ne!(third, second);
        assert_eq!(signer.bearer(after(42), Some(&third)), None, "twice in 20 minutes is not the token's fault");
        assert_eq!(signer.bearer(after(42), None).unwrap(), third);
        assert_ne!(signer.bearer(after(62), Some(&third)).unwrap(), third);
    }

    #[test]
    fn answers_mean_what_apple_documents() {
        let read = |status, reason: &str| {
            let body = format!(r#"{{"reason":"{reason}"}}"#).into_bytes();
            match read(&Answer { status, retry_after: None, body }) {
                Reading::Expired => "expired",
                Reading::Is(Outcome::Sent) => "sent",
                Reading::Is(Outcome::Retry { .. }) => "retry",
                Reading::Is(Outcome::Dead { .. }) => "dead",
                Reading::Is(Outcome::Refused { .. }) => "refused",
                Reading::Is(Outcome::Broken { .. }) => "broken",
            }
        };
        for (status, reason, meaning) in [
            (200, "", "sent"),
            (400, "BadDeviceToken", "dead"),
            (400, "DeviceTokenNotForTopic", "broken"),
            (400, "PayloadEmpty", "refused"),
            (403, "ExpiredProviderToken", "expired"),
            (403, "InvalidProviderToken", "broken"),
            (404, "BadPath", "broken"),
            (410, "Unregistered", "dead"),
            (410, "ExpiredToken", "dead"),
            (410, "", "broken"),
            (413, "PayloadTooLarge", "refused"),
            (429, "TooManyProviderTokenUpdates", "retry"),
            (429, "TooManyRequests", "retry"),
            (500, "InternalServerError", "retry"),
            (503, "Shutdown", "retry"),
        ] {
            assert_eq!(read(status, reason), meaning, "{status} {reason}");
        }
    }
}
