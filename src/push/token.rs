//! What a token of each provider looks like: said when a device registers it, and again before it is used.

use aws_lc_rs::agreement::{ECDH_P256, ParsedPublicKey, UnparsedPublicKey};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use reqwest::Url;
use serde::Deserialize;

use super::{Provider, PushToken};

/// Longest token in bytes. Browsers' subscriptions, the longest of all, stay under 1 KiB.
pub const MAX_TOKEN: usize = 4096;

/// Why no provider can have issued this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("a push token has 1 to {MAX_TOKEN} bytes")]
    Length,
    #[error("a token of fcm is made of printable ASCII without spaces")]
    Fcm,
    #[error("a token of apns is the device token in hexadecimal, 64 digits or more")]
    Apns,
    #[error("a token of webpush is the JSON of a PushSubscription: an endpoint, and keys p256dh and auth")]
    Webpush,
    #[error("a token of webhook is an http or https address")]
    Webhook,
}

impl PushToken {
    /// Whether a provider can have issued it. It may still be dead, or point to where requests are not allowed.
    pub fn check(&self) -> Result<(), TokenError> {
        if self.token.is_empty() || self.token.len() > MAX_TOKEN {
            return Err(TokenError::Length);
        }
        match self.provider {
            Provider::Fcm if self.token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
            Provider::Fcm => Err(TokenError::Fcm),
            Provider::Apns if is_apns(&self.token) => Ok(()),
            Provider::Apns => Err(TokenError::Apns),
            Provider::Webpush => Subscription::parse(&self.token).map(drop),
            Provider::Webhook => webhook_url(&self.token).map(drop),
        }
    }
}

pub(super) fn is_apns(token: &str) -> bool {
    (64..=400).contains(&token.len())
        && token.len().is_multiple_of(2)
        && token.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn webhook_url(token: &str) -> Result<Url, TokenError> {
    http_url(token).ok_or(TokenError::Webhook)
}

fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// A browser's `PushSubscription`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) endpoint: Url,
    /// The browser's public key, uncompressed.
    pub(super) p256dh: Vec<u8>,
    pub(super) auth: Vec<u8>,
}

impl Subscription {
    pub(super) fn parse(token: &str) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Text {
            endpoint: String,
            keys: Keys,
        }
        #[derive(Deserialize)]
        struct Keys {
            p256dh: String,
            auth: String,
        }
        let text: Text = serde_json::from_str(token).map_err(|_| TokenError::Webpush)?;
        let endpoint = http_url(&text.endpoint).ok_or(TokenError::Webpush)?;
        let p256dh = decode(&text.keys.p256dh).filter(|key| is_point(key)).ok_or(TokenError::Webpush)?;
        let auth = decode(&text.keys.auth).filter(|auth| auth.len() == 16).ok_or(TokenError::Webpush)?;
        Ok(Self { endpoint, p256dh, auth })
    }
}

/// A point of P-256 in uncompressed form: nothing else can be agreed with.
fn is_point(key: &[u8]) -> bool {
    key.len() == 65 && key[0] == 4 && ParsedPublicKey::try_from(UnparsedPublicKey::new(&ECDH_P256, key)).is_ok()
}

/// Browsers write base64url without padding; libraries round them write every other form.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    ANY_PADDING.decode(text.replace('+', "-").replace('/', "_")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256DH: &str = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";

    #[test]
    fn only_what_a_provider_can_have_issued_passes() {
        let good = format!(
            r#"{{"endpoint":"https://push.example/x","expirationTime":null,
                "keys":{{"p256dh":"{P256DH}","auth":"BTBZMqHH6r4Tts7J_aSIgg=="}}}}"#
        );
        let off_the_curve = good.replace("BCVx", "BCVy");
        let compressed = good.replace(P256DH, "AiVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcx");
        let short_auth = good.replace("BTBZMqHH6r4Tts7J_aSIgg==", "BTBZ");
        let no_address = good.replace("https://push.example/x", "push.example");
        let long = "x".repeat(MAX_TOKEN + 1);
        let hex = "0aF".repeat(32);
        for (provider, token, expected) in [
            (Provider::Fcm, "dQw4:APA91b-_x", Ok(())),
            (Provider::Fcm, "", Err(TokenError::Length)),
            (Provider::Fcm, &long, Err(TokenError::Length)),
            (Provider::Fcm, "a b", Err(TokenError::Fcm)),
            (Provider::Apns, &hex, Ok(())),
            (Provider::Apns, "abc123", Err(TokenError::Apns)),
            (Provider::Apns, &hex.replace('a', "/"), Err(TokenError::Apns)),
            (Provider::Webpush, &good, Ok(())),
            (Provider::Webpush, &off_the_curve, Err(TokenError::Webpush)),
            (Provider::Webpush, &compressed, Err(TokenError::Webpush)),
            (Provider::Webpush, &short_auth, Err(TokenError::Webpush)),
            (Provider::Webpush, &no_address, Err(TokenError::Webpush)),
            (Provider::Webpush, "https://push.example/x", Err(TokenError::Webpush)),
            (Provider::Webhook, "https://hook.example/x?y=1", Ok(())),
            (Provider::Webhook, "file:///etc/passwd", Err(TokenError::Webhook)),
            (Provider::Webhook, "hook.example", Err(TokenError::Webhook)),
        ] {
            assert_eq!(PushToken { provider, token: token.to_owned() }.check(), expected, "{provider} {token}");
        }
    }
}
