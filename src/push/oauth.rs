//! Google's access tokens: an assertion signed with the service account's key buys one for an hour.
//!
//! Invariants: one request at a time, whoever waits shares its answer; a token is used until 5 minutes before it
//! expires; after a failure nobody asks again for [`COOL_DOWN`].

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};

use super::PushError;
use super::exchange::exchange;
use super::outcome::Outcome;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const WHAT: &str = "the service account of push.fcm";
/// How long an assertion is good for, and how long before its end a token is no longer used. In seconds.
const ASSERTION_SECONDS: u64 = 3600;
const MARGIN_SECONDS: u64 = 300;
const COOL_DOWN: Duration = Duration::from_secs(5);

/// The file that the Google console gives; it has more fields, which are not needed.
#[derive(Deserialize)]
struct AccountFile {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    project_id: String,
    #[serde(default = "default_token_uri")]
    token_uri: String,
}

fn default_token_uri() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

pub(super) struct Account {
    pub(super) project: String,
    email: String,
    token_uri: String,
    header: Header,
    key: EncodingKey,
}

impl Account {
    pub(super) fn read(path: &Path) -> Result<Self, PushError> {
        let text = super::read_file(WHAT, path)?;
        let file: AccountFile =
            serde_json::from_slice(&text).map_err(|error| PushError::unusable(WHAT, path, describe(&error)))?;
        let key = EncodingKey::from_rsa_pem(file.private_key.as_bytes())
            .map_err(|error| PushError::unusable(WHAT, path, format!("private_key: {error}")))?;
        let project = Some(file.project_id).filter(|project| is_project(project));
        let account = Self {
            project: project.ok_or_else(|| PushError::unusable(WHAT, path, "project_id is no project id"))?,
            email: file.client_email,
            token_uri: super::endpoint("fcm's token_uri", &file.token_uri)?,
            header: Header { kid: file.private_key_id, ..Header::new(Algorithm::RS256) },
            key,
        };
        account.assertion(0).map_err(|error| PushError::unusable(WHAT, path, format!("private_key: {error}")))?;
        Ok(account)
    }

    /// `now` in seconds since 1970.
    fn assertion(&self, now: u64) -> Result<String, jsonwebtoken::errors::Error> {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            scope: &'a str,
            aud: &'a str,
            iat: u64,
            exp: u64,
        }
        let claims =
            Claims { iss: &self.email, scope: SCOPE, aud: &self.token_uri, iat: now, exp: now + ASSERTION_SECONDS };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
    }
}

/// Where in the file the fault is; serde's own text may quote what stands there.
fn describe(error: &serde_json::Error) -> String {
    let what = if error.is_data() { "a field is missing or of the wrong kind" } else { "it is no JSON" };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

fn is_project(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_:.".contains(&byte))
}

type Fetch = Shared<BoxFuture<'static, Result<Arc<str>, Outcome>>>;

#[derive(Default)]
struct State {
    token: Option<(Arc<str>, Instant)>,
    failed: Option<(Outcome, Instant)>,
    fetching: Option<Fetch>,
}

#[derive(Clone)]
pub(super) struct Access {
    client: Client,
    account: Arc<Account>,
    state: Arc<Mutex<State>>,
}

impl Access {
    pub(super) fn new(client: Client, account: Arc<Account>) -> Self {
        Self { client, account, state: Arc::default() }
    }

    /// A token that is good for some minutes at least. An `Err` is what to do about a push that cannot have one.
    pub(super) async fn token(&self) -> Result<Arc<str>, Outcome> {
        let fetch = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            match (&state.token, &state.failed, &state.fetching) {
                (Some((token, until)), ..) if *until > now => return Ok(Arc::clone(token)),
                (_, _, Some(fetch)) => fetch.clone(),
                (_, Some((outcome, until)), _) if *until > now => return Err(outcome.clone()),
                _ => {
                    let fetch = self.clone().fetch().boxed().shared();
                    state.fetching = Some(fetch.clone());
                    fetch
                }
            }
        };
        fetch.await
    }

    /// The provider does not take this token any more.
    pub(super) fn discard(&self, refused: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.token.as_ref().is_some_and(|(token, _)| **token == *refused) {
            state.token = None;
        }
    }

    async fn fetch(self) -> Result<Arc<str>, Outcome> {
        let result = self.buy().await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.fetching = None;
        match result {
            Ok((token, good_for)) => {
                state.token = Some((Arc::clone(&token), Instant::now() + good_for));
                state.failed = None;
                Ok(token)
            }
            Err(outcome) => {
                state.failed = Some((outcome.clone(), Instant::now() + COOL_DOWN));
                Err(outcome)
            }
        }
    }

    async fn buy(&self) -> Result<(Arc<str>, Duration), Outcome> {
        #[derive(Deserialize)]
        struct Bought {
            access_token: String,
            expires_in: u64,
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let assertion =
            self.account.assertion(now).map_err(|_| Outcome::broken("the service account's key does not sign"))?;
        let request = self
            .client
            .post(&self.account.token_uri)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            // Nothing in an assertion needs escaping: it is base64url and dots.
            .body(format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}"));
        let answer = exchange(request).await?;
        match answer.status {
            200 => {
                let bought: Bought = serde_json::from_slice(&answer.body)
                    .map_err(|_| Outcome::broken("fcm's token_uri answered something else than a token"))?;
                let good_for = bought.expires_in.saturating_sub(MARGIN_SECONDS).clamp(1, ASSERTION_SECONDS);
                Ok((bought.access_token.into(), Duration::from_secs(good_for)))
            }
            429 | 500.. => {
                let why = format!("no access token now (status {})", answer.status);
                Err(Outcome::retry_after(answer.retry_after, why))
            }
            status => {
                let word = serde_json::from_slice::<Refusal>(&answer.body).map(|refusal| refusal.error);
                let word = word.ok().filter(|word| word.len() < 64).unwrap_or_default().escape_debug().to_string();
                Err(Outcome::broken(format!("the service account gets no access token (status {status} {word})")))
            }
        }
    }
}
