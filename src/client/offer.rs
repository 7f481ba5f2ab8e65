//! The way in: the server's address as a person writes it, and the offer that pre-connection info gives.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::ClientError;

/// No single HTTP question waits longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// No answer is read further, in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// Where to connect, once, and soon: the validation key is used up by the attempt and lives 60 s.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Offer {
    /// Address of the WebSocket, with path, without keys.
    pub ws_url: String,
    pub validation_key: String,
    /// Envelopes waiting in the inbox.
    #[serde(default)]
    pub pending: u64,
    /// Set when many ask at once: wait so long before connecting.
    #[serde(default)]
    pub start_after_ms: u64,
}

/// What is done with the inbox on connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum InboxMode {
    /// What waits is sent at once, and leaves the inbox as it arrives
    Auto,
    /// What waits stays until it is asked for (/inbox)
    Manual,
}

impl Offer {
    /// The WebSocket's address with its keys: never to be shown.
    ///
    /// # Errors
    /// [`ClientError::BadAnswer`] where the offer is no WebSocket address.
    pub fn address(&self, key: &str, inbox: InboxMode) -> Result<Url, ClientError> {
        let bad = |reason: String| ClientError::BadAnswer { url: self.ws_url.clone(), reason };
        let mut url = Url::parse(&self.ws_url).map_err(|e| bad(e.to_string()))?;
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(bad("the offer is no WebSocket address".to_owned()));
        }
        url.query_pairs_mut().append_pair("auth_key", key).append_pair("validation_key", &self.validation_key);
        if inbox == InboxMode::Auto {
            url.query_pairs_mut().append_pair("inbox", "auto");
        }
        Ok(url)
    }
}

/// A server's HTTP address, and the questions asked there.
#[derive(Debug, Clone)]
pub struct Door {
    base: Url,
    http: reqwest::Client,
}

impl Door {
    /// `url` as a person writes it: `http`, `https`, `ws`, `wss` or nothing before `HOST:PORT`.
    ///
    /// # Errors
    /// [`ClientError::BadUrl`].
    pub fn at(url: &str) -> Result<Self, ClientError> {
        let base = base_url(url)?;
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            // The WebSocket goes straight there; what asks for it must not go another way.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| ClientError::BadUrl { url: url.to_owned(), reason: e.to_string() })?;
        Ok(Self { base, http })
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Asks where to connect.
    ///
    /// # Errors
    /// Unreachable, refused, or an offer that may not be taken.
    pub async fn offer(&self, key: &str) -> Result<Offer, ClientError> {
        let body = self.call(reqwest::Method::GET, &["v1", "connect-info"], key, None).await?;
        let offer: Offer = serde_json::from_slice(&body)
            .map_err(|e| ClientError::BadAnswer { url: self.base.to_string(), reason: e.to_string() })?;
        self.check(&offer)?;
        Ok(offer)
    }

    /// Who came in over TLS is not sent on in the clear: the key would be read on the way.
    pub(super) fn check(&self, offer: &Offer) -> Result<(), ClientError> {
        if self.base.scheme() == "https" && !offer.ws_url.starts_with("wss://") {
            return Err(ClientError::Downgrade { url: self.base.to_string(), ws_url: offer.ws_url.clone() });
        }
        Ok(())
    }

    /// One HTTP call with a key. `path` is given in segments, which are escaped here.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::Refused`] with the server's own words, [`ClientError::BadAnswer`].
    pub async fn call(
        &self,
        method: reqwest::Method,
        path: &[&str],
        key: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Vec<u8>, ClientError> {
        let mut request = self.http.request(method, self.url(path)).bearer_auth(key);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(request).await
    }

    /// As [`Self::call`], with parameters in the query.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn ask(
        &self,
        method: reqwest::Method,
        path: &[&str],
        query: &[(&str, String)],
        key: &str,
    ) -> Result<Vec<u8>, ClientError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(self.http.request(method, url).bearer_auth(key)).await
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("base_url lets only http and https through").pop_if_empty().extend(path);
        url
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, ClientError> {
        let unreachable =
            |e: reqwest::Error| ClientError::Unreachable { url: self.base.to_string(), reason: innermost(&e) };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                let reason = format!("it is longer than {MAX_ANSWER} bytes");
                return Err(ClientError::BadAnswer { url: self.base.to_string(), reason });
            }
        }
        if status.is_success() {
            return Ok(body);
        }
        Err(refusal(status.as_u16(), &body, retry_after.map(Duration::from_secs)))
    }
}

/// A refusal as the server worded it, or as much as its status says.
pub(super) fn refusal(status: u16, body: &[u8], retry_after: Option<Duration>) -> ClientError {
    #[derive(Deserialize)]
    struct Body {
        error: Words,
    }
    #[derive(Deserialize)]
    struct Words {
        code: String,
        message: String,
    }
    let words = serde_json::from_slice::<Body>(body).map(|body| body.error);
    let Words { code, message } = words.unwrap_or_else(|_| Words {
        code: "no_reason".to_owned(),
        message: "it gave no reason; is this a sparkmesh server?".to_owned(),
    });
    ClientError::Refused { status, code, message, retry_after }
}

fn base_url(text: &str) -> Result<Url, ClientError> {
    let bad = |reason: String| ClientError::BadUrl { url: text.to_owned(), reason };
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = match scheme {
        "http" | "ws" => "http",
        "https" | "wss" => "https",
        other => return Err(bad(format!("{other}:// is not spoken here"))),
    };
    let mut url = Url::parse(&format!("{scheme}://{rest}")).map_err(|e| bad(e.to_string()))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it names no host".to_owned()));
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// The cause at the bottom of a chain: "connection refused" says more than "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_written_in_any_usual_way() {
        for (written, meant) in [
            ("http://h:8080", "http://h:8080/"),
            ("h:8080", "http://h:8080/"),
            ("ws://h:8080/", "http://h:8080/"),
            ("wss://h", "https://h/"),
            ("https://h/mesh?x=1#y", "https://h/mesh"),
            ("[::1]:80", "http://[::1]/"),
        ] {
            assert_eq!(base_url(written).unwrap().as_str(), meant, "{written}");
        }
        for bad in ["", "ftp://h", "http://", "http://h:99999", "h h"] {
            assert!(matches!(base_url(bad), Err(ClientError::BadUrl { .. })), "{bad}");
        }
    }

    #[test]
    fn an_offer_of_an_open_socket_is_refused_behind_tls() {
        let offer = |ws_url: &str| Offer {
            ws_url: ws_url.to_owned(),
            validation_key: "v".to_owned(),
            pending: 0,
            start_after_ms: 0,
        };
        let door = |base_url: &str| Door { base: Url::parse(base_url).unwrap(), http: reqwest::Client::new() };
        assert!(door("http://h").check(&offer("ws://h/v1/connect")).is_ok());
        assert!(door("https://h").check(&offer("wss://h/v1/connect")).is_ok());
        let refused = door("https://h").check(&offer("ws://h/v1/connect"));
        assert!(matches!(refused, Err(ClientError::Downgrade { .. })));
    }

    #[test]
    fn a_refusal_carries_the_servers_words() {
        let said = refusal(401, br#"{"error":{"code":"unauthorized","message":"the key has expired"}}"#, None);
        assert!(said.to_string().contains("unauthorized") && said.to_string().contains("the key has expired"));
        assert!(!said.may_pass());
        let silent = refusal(503, b"<html>", Some(Duration::from_secs(2)));
        assert!(silent.may_pass());
        assert!(matches!(silent, ClientError::Refused { retry_after: Some(wait), .. } if wait.as_secs() == 2));
    }

    #[test]
    fn the_address_carries_the_keys_escaped() {
        let offer = Offer {
            ws_url: "ws://h:1/v1/connect".to_owned(),
            validation_key: "a+b/c=".to_owned(),
            pending: 0,
            start_after_ms: 0,
        };
        let url = offer.address("k.e.y", InboxMode::Auto).unwrap();
        assert_eq!(url.as_str(), "ws://h:1/v1/connect?auth_key=k.e.y&validation_key=a%2Bb%2Fc%3D&inbox=auto");
        assert!(!offer.address("k", InboxMode::Manual).unwrap().as_str().contains("inbox"));
        for bad in ["http://h/", "nothing"] {
            let offer = Offer { ws_url: bad.to_owned(), ..offer.clone() };
            assert!(offer.address("k", InboxMode::Auto).is_err(), "{bad}");
        }
    }
}
