//! One request to a provider, and as much of the answer as anybody may send us.
//!
//! Invariants: no redirect is followed, no proxy is used, an answer is read to [`ANSWER_BYTES`] at most and within the
//! client's timeout, and no error text names an address (addresses hold tokens).

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, redirect};

use super::PushError;
use super::guard::Forbidden;
use super::outcome::Outcome;
use crate::config::push::PushSettings;

/// More than any documented answer has.
const ANSWER_BYTES: usize = 16 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Users name hosts at will: what is idle must not add up.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_PER_HOST: usize = 8;

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// What every client of ours has in common.
pub(super) fn client(settings: &PushSettings) -> Result<ClientBuilder, PushError> {
    let mut builder = Client::builder()
        .user_agent(concat!("sparkmesh/", env!("CARGO_PKG_VERSION")))
        .timeout(Duration::from_secs(settings.timeout_seconds))
        .redirect(redirect::Policy::none())
        .referer(false)
        // A connection that died without a word would otherwise swallow one request after the other.
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .http2_keep_alive_while_idle(true)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .no_proxy();
    if let Some(path) = &settings.ca_file {
        let pem = super::read_file("the certificates of push.ca-file", path)?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|error| PushError::unusable("the certificates of push.ca-file", path, error))?;
        builder = builder.tls_certs_merge(certificates);
    }
    Ok(builder)
}

/// Sends, and reads the answer. An `Err` is what to do about a request that got none.
pub(super) async fn exchange(request: RequestBuilder) -> Result<Answer, Outcome> {
    let mut response = request.send().await.map_err(failure)?;
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers(), SystemTime::now());
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES - body.len())]),
            // The status has come, so the request was taken: a second one would be one too many.
            Ok(None) | Err(_) => break,
        }
    }
    Ok(Answer { status, retry_after, body })
}

fn failure(error: reqwest::Error) -> Outcome {
    let error = error.without_url();
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    let mut root = error.to_string();
    while let Some(cause) = source {
        if let Some(forbidden) = cause.downcast_ref::<Forbidden>() {
            return Outcome::refused(forbidden.to_string());
        }
        root = cause.to_string();
        source = cause.source();
    }
    if error.is_builder() {
        return Outcome::refused("no request can be made of it");
    }
    if error.is_timeout() {
        return Outcome::retry("no answer in time");
    }
    let what = if error.is_connect() { "no connection" } else { "the request failed" };
    Outcome::retry(format!("{what}: {root}"))
}

/// Seconds, or a date from which `now` is taken.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2026 07:29:30 GMT", Some(90)),
            ("Wed, 21 Oct 2020 07:29:30 GMT", Some(0)),
            ("-5", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), expected, "{text}");
        }
    }
}
