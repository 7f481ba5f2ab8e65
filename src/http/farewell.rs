//! Sockets that get one frame and a close: an offer asked for over one, and refusals that a browser's script could not
//! read from an HTTP status.

use std::time::Duration;

use actix_web::{HttpRequest, web};
use actix_ws::{CloseCode, CloseReason};
use bytestring::ByteString;
use futures_util::StreamExt;
use serde::Serialize;

use super::Answer;
use super::error::Rejection;
use crate::metrics;
use crate::model::codes::{Close, Refusal};
use crate::wire::notice::{About, ErrorNotice, Notice};

/// How long the peer has to take the close frame and to answer it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Completes the handshake, says `value` as JSON, and closes.
pub(super) fn say(request: &HttpRequest, payload: web::Payload, value: &impl Serialize, close: Close) -> Answer {
    // Values of ours are plain structs of numbers and strings, which always serialise.
    part(request, payload, serde_json::to_string(value).unwrap_or_default().into(), close)
}

/// Tells a refusal after the handshake, if its code closes a WebSocket at all; else as an HTTP status.
pub(super) fn refuse(request: &HttpRequest, payload: web::Payload, refusal: &Refusal) -> Answer {
    let Some(close) = refusal.code.close() else { return Err(refusal.clone().into()) };
    let error = ErrorNotice::of(refusal, About::default()).encode().text();
    let answer = part(request, payload, ByteString::try_from(error).unwrap_or_default(), close)?;
    metrics::REFUSED.with_label_values(&[refusal.code.word()]).inc();
    Ok(answer)
}

fn part(request: &HttpRequest, payload: web::Payload, text: ByteString, close: Close) -> Answer {
    let (answer, mut session, mut incoming) = actix_ws::handle(request, payload)
        .map_err(|error| Rejection::bad_request(format!("this is no WebSocket handshake of version 13: {error}")))?;
    let reason = CloseReason { code: CloseCode::from(close.code), description: Some(close.reason.to_owned()) };
    actix_web::rt::spawn(async move {
        let told = async {
            session.text(text).await?;
            session.close(Some(reason)).await
        };
        // The peer may have gone; then nobody is left to be told.
        let _ = tokio::time::timeout(PATIENCE, told).await;
        // What still comes is read, lest the connection be reset before the peer has read the close frame.
        let answered = async { while incoming.next().await.is_some_and(|frame| frame.is_ok()) {} };
        let _ = tokio::time::timeout(PATIENCE, answered).await;
    });
    Ok(answer)
}
