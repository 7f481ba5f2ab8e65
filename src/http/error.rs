//! The answer that says no: an error word with its status, and a sentence for a person.

use std::fmt;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::auth::error::AuthError;
use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::model::ids::IdError;
use crate::store::Unavailable;

/// A refusal on its way out over HTTP, and after how many seconds the same request may fare better, where that is known.
/// Answering it counts it.
#[derive(Debug)]
pub(super) struct Rejection(pub(super) Refusal, Option<u64>);

impl Rejection {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Refusal::new(Code::BadRequest, message).into()
    }

    /// To be tried again after `wait`.
    pub(super) fn later(refusal: Refusal, wait: Duration) -> Self {
        Self(refusal, Some(wait.as_millis().div_ceil(1000) as u64))
    }

    /// `name` is that of the parameter, field or place that holds no id.
    pub(super) fn bad_id(name: &str, error: &IdError) -> Self {
        Self::bad_request(format!("{name}: {error}"))
    }
}

/// The object that stands for a refusal in JSON.
#[derive(Serialize)]
pub(super) struct Words<'a> {
    code: Code,
    message: &'a str,
}

impl<'a> From<&'a Refusal> for Words<'a> {
    fn from(refusal: &'a Refusal) -> Self {
        Self { code: refusal.code, message: &refusal.message }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Words<'a>,
}

/// In seconds: when the same request may fare better.
fn retry_after(code: Code) -> Option<u64> {
    match code {
        Code::Full => Some(5),
        Code::Unavailable | Code::Draining => Some(2),
        Code::RateLimited => Some(1),
        _ => None,
    }
}

impl ResponseError for Rejection {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let code = self.0.code;
        metrics::REFUSED.with_label_values(&[code.word()]).inc();
        let mut answer = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.1.or_else(|| retry_after(code)) {
            answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if code == Code::Unauthorized {
            answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        answer.json(Body { error: (&self.0).into() })
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self(refusal, None)
    }
}

impl From<AuthError> for Rejection {
    fn from(error: AuthError) -> Self {
        error.refusal().into()
    }
}

impl From<Unavailable> for Rejection {
    fn from(_: Unavailable) -> Self {
        Refusal::new(Code::Unavailable, "the store takes nothing now; try again later").into()
    }
}

/// An actor that is asked has gone: so does the server.
impl From<actix::MailboxError> for Rejection {
    fn from(_: actix::MailboxError) -> Self {
        Refusal::new(Code::Draining, "this server is going away; ask again for another one").into()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;

    #[test]
    fn who_is_told_when_to_come_back_is_told_in_whole_seconds() {
        let refusal = Refusal::new(Code::Unavailable, "later");
        let answer = Rejection::later(refusal, Duration::from_millis(2001)).error_response();
        assert_eq!(answer.headers().get(header::RETRY_AFTER).unwrap(), "3");
    }

    #[actix_web::test]
    async fn a_refusal_has_its_status_its_words_and_its_headers() {
        for (code, header, status) in [
            (Code::Full, Some(header::RETRY_AFTER), 503),
            (Code::Draining, Some(header::RETRY_AFTER), 503),
            (Code::Unavailable, Some(header::RETRY_AFTER), 503),
            (Code::RateLimited, Some(header::RETRY_AFTER), 429),
            (Code::Unauthorized, Some(header::WWW_AUTHENTICATE), 401),
            (Code::TooLarge, None, 413),
            (Code::BadEnvelope, None, 400),
        ] {
            let answer = Rejection::from(Refusal::new(code, "why \"so\"")).error_response();
            assert_eq!(answer.status().as_u16(), status);
            for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
                assert_eq!(answer.headers().contains_key(&name), header.as_ref() == Some(&name), "{code:?} {name}");
            }
            let body = to_bytes(answer.into_body()).await.unwrap();
            let expected = format!(r#"{{"error":{{"code":"{}","message":"why \"so\""}}}}"#, code.word());
            assert_eq!(body, expected.as_bytes());
        }
    }
}
