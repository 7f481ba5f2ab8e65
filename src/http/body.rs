//! Reading a body: bounded in bytes and in time, and JSON whatever its `Content-Type` says.

use std::time::Duration;

use actix_web::web::{Bytes, BytesMut, Payload};
use actix_web::{HttpRequest, http::header};
use futures_util::StreamExt;
use serde::Deserialize;

use super::error::Rejection;
use crate::model::codes::{Code, Refusal};

/// Of most bodies, in bytes.
pub(super) const SMALL: usize = 1_000_000;
/// Of messages and sessions, in bytes.
pub(super) const LARGE: usize = 8_000_000;
/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Room made before anything has come, whatever was announced.
const FIRST_ROOM: usize = 16 * 1024;
/// Most characters of a parser's words that are passed on; they may repeat what was sent.
const MAX_WORDS: usize = 200;

/// The body, of at most `limit` bytes.
pub(super) async fn read(request: &HttpRequest, mut payload: Payload, limit: usize) -> Result<Bytes, Rejection> {
    let too_large = || Refusal::new(Code::TooLarge, format!("the body has at most {limit} bytes here"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large().into());
    }
    let whole = async {
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0).min(FIRST_ROOM as u64) as usize);
        while let Some(part) = payload.next().await {
            let part = part.map_err(|error| Rejection::bad_request(format!("the body ends early: {error}")))?;
            if body.len() + part.len() > limit {
                return Err(too_large().into());
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    };
    let late = |_| Rejection::bad_request(format!("the body did not come within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, whole).await.map_err(late)?
}

/// The JSON object that the body must be.
pub(super) fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Rejection> {
    // serde would take an array for a struct.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Rejection::bad_request("the body must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        let words: String = error.to_string().chars().take(MAX_WORDS).collect();
        Rejection::bad_request(format!("the body is not the JSON asked for: {words}"))
    })
}

/// As [`json`]; an empty body asks for nothing in particular.
pub(super) fn json_or_default<'a, T: Deserialize<'a> + Default>(body: &'a [u8]) -> Result<T, Rejection> {
    if body.trim_ascii().is_empty() { Ok(T::default()) } else { json(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Wish {
        node: Option<crate::model::ids::NodeId>,
    }

    #[test]
    fn only_an_object_is_one() {
        for bad in ["", "{", "null", "[]", "\"x\"", "7", "{} x", r#"{"node":7}"#, r#"{"node":"a b"}"#, "[[[["] {
            let refused = json::<Wish>(bad.as_bytes()).unwrap_err();
            assert_eq!(refused.0.code, Code::BadRequest, "{bad}");
        }
        assert_eq!(json::<Wish>(b" {\"node\":null,\"more\":[1]}").unwrap(), Wish::default());
        assert_eq!(json_or_default::<Wish>(b" \n").unwrap(), Wish::default());
        assert!(json_or_default::<Wish>(b"null").is_err());
    }

    #[test]
    fn a_long_value_is_not_repeated() {
        let body = format!(r#"{{"node":"{}"}}"#, "é".repeat(5000));
        assert!(json::<Wish>(body.as_bytes()).unwrap_err().to_string().len() < 500);
    }
}
