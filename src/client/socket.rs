//! The WebSocket a person's client speaks through.

use std::time::Duration;

use futures_util::SinkExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::ClientError;
use super::offer::{InboxMode, Offer, refusal};
use super::render::clean;
use crate::model::codes::Close;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longest message read, in bytes: what a server lets through, and some headers.
const MAX_MESSAGE: usize = 4 << 20;
/// Most bytes waiting to be written.
const MAX_WRITE_BUFFER: usize = 16 << 20;
/// A write that takes longer means that nobody reads any more.
const STUCK: Duration = Duration::from_secs(20);
/// A handshake takes no longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Opens the WebSocket an offer is for; the offer is used up, whatever comes of it.
///
/// # Errors
/// Unreachable, or refused with the server's words.
pub(super) async fn open(offer: &Offer, key: &str, inbox: InboxMode) -> Result<Socket, ClientError> {
    let url = offer.address(key, inbox)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .max_write_buffer_size(MAX_WRITE_BUFFER);
    let handshake = connect_async_with_config(url.as_str(), Some(config), true);
    match timeout(PATIENCE, handshake).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(response))) => {
            let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
            let body = response.body().as_deref().unwrap_or_default();
            Err(refusal(response.status().as_u16(), body, retry_after.map(Duration::from_secs)))
        }
        Ok(Err(error)) => Err(ClientError::Unreachable { url: offer.ws_url.clone(), reason: error.to_string() }),
        Err(_) => {
            let reason = format!("no handshake within {} s", PATIENCE.as_secs());
            Err(ClientError::Unreachable { url: offer.ws_url.clone(), reason })
        }
    }
}

/// Writes one message, or gives the connection up.
pub(super) async fn write(socket: &mut Socket, message: Message) -> Result<(), ClientError> {
    bounded(socket.send(message)).await
}

/// Writes what still waits, such as the answer to a ping.
pub(super) async fn flush(socket: &mut Socket) -> Result<(), ClientError> {
    bounded(socket.flush()).await
}

async fn bounded(writing: impl Future<Output = Result<(), Error>>) -> Result<(), ClientError> {
    match timeout(STUCK, writing).await {
        Ok(written) => written.map_err(|error| ClientError::Broken(error.to_string())),
        Err(_) => Err(ClientError::Broken(format!("nothing could be written for {} s", STUCK.as_secs()))),
    }
}

/// The end of a connection, from the other side's close.
pub(super) fn closed(frame: Option<(CloseCode, Utf8Bytes)>) -> ClientError {
    let Some((code, reason)) = frame else {
        return ClientError::Closed { code: 1005, reason: "without a reason".to_owned() };
    };
    let code = u16::from(code);
    let known = Close::ALL.iter().find(|close| close.code == code).map_or("", |close| close.reason);
    let reason = if reason.is_empty() { known } else { reason.as_str() };
    ClientError::Closed { code, reason: clean(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_told_by_its_code_and_says_whether_to_come_back() {
        let told = |code: u16, reason: &'static str| closed(Some((code.into(), Utf8Bytes::from_static(reason))));
        assert!(told(1001, "").may_pass());
        assert!(!told(4401, "the key has expired").may_pass());
        assert!(told(4401, "").to_string().contains("bad key"));
        assert!(!told(4401, "\u{1b}[2J").to_string().contains('\u{1b}'));
        assert!(closed(None).may_pass());
    }
}
