//! What an operator can say about push: the `[push]` table of the configuration file.
//!
//! Secrets stand in files, never here. A provider without its section is off.

use std::path::PathBuf;

use serde::Deserialize;

use crate::model::wake::Limits;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PushSettings {
    /// Least seconds between two notifications of a device; 0 to 86 400.
    pub throttle_seconds: u64,
    /// Whether notifications show what was written. Without it they say only that something waits, how much, and from
    /// whom, so that no provider reads along.
    pub content: bool,
    /// Whether Web Push and webhook addresses, which come from users, may be private or plain HTTP (`--allow-private-push`).
    pub allow_private: bool,
    /// Memory for what waits, in bytes; 1 MiB at least. Beyond it the device that has waited longest is dropped.
    pub queue_bytes: usize,
    /// Requests under way at a time, for each provider; 1 to 1000.
    pub in_flight: usize,
    /// Seconds for one request; 1 to 120.
    pub timeout_seconds: u64,
    /// The wait after a first failure, doubled with each further one, an hour at most; 1 to 3600 seconds.
    pub retry_seconds: u64,
    /// Hours after which an undelivered notification is given up; 1 to 720.
    pub give_up_hours: u64,
    /// Certificates (PEM) trusted beside the system's, for those behind a gateway with its own.
    pub ca_file: Option<PathBuf>,
    pub fcm: Option<FcmSettings>,
    pub apns: Option<ApnsSettings>,
    pub webpush: Option<WebPushSettings>,
    pub webhook: Option<WebhookSettings>,
}

/// Firebase Cloud Messaging, HTTP v1.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FcmSettings {
    /// The service account's key, as the Google console gives it (JSON).
    pub service_account_file: PathBuf,
    #[serde(default = "fcm_endpoint")]
    pub endpoint: String,
}

/// Apple Push Notification service, with a token-signing key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApnsSettings {
    /// The signing key, as Apple gives it (`AuthKey_....p8`).
    pub key_file: PathBuf,
    pub key_id: String,
    pub team_id: String,
    /// The app's bundle id.
    pub topic: String,
    /// `https://api.sandbox.push.apple.com` for builds from Xcode.
    #[serde(default = "apns_endpoint")]
    pub endpoint: String,
}

/// Web Push with VAPID.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebPushSettings {
    /// Who push services may write to about this server: `mailto:...` or `https://...`.
    pub subject: String,
    /// The VAPID key (PEM, PKCS#8, P-256); made in the data directory if not named here.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

/// Signed requests to an address that a device names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebhookSettings {
    /// The secret that signs, of 16 bytes or more; white space round it does not count.
    pub secret_file: PathBuf,
}

fn fcm_endpoint() -> String {
    "https://fcm.googleapis.com".to_owned()
}

fn apns_endpoint() -> String {
    "https://api.push.apple.com".to_owned()
}

impl Default for PushSettings {
    fn default() -> Self {
        Self {
            throttle_seconds: 120,
            content: false,
            allow_private: false,
            queue_bytes: 64 << 20,
            in_flight: 64,
            timeout_seconds: 10,
            retry_seconds: 5,
            give_up_hours: 24,
            ca_file: None,
            fcm: None,
            apns: None,
            webpush: None,
            webhook: None,
        }
    }
}

/// A figure that no server can work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("push.{name} is {value}: it must be {least} to {most}")]
pub struct OutOfRange {
    name: &'static str,
    value: u64,
    least: u64,
    most: u64,
}

impl PushSettings {
    /// The figures the queue works with. Fails on one outside the bounds stated at its field.
    pub fn limits(&self) -> Result<Limits, OutOfRange> {
        let check = |name, value, least, most| {
            if (least..=most).contains(&value) { Ok(value) } else { Err(OutOfRange { name, value, least, most }) }
        };
        check("in-flight", self.in_flight as u64, 1, 1000)?;
        check("timeout-seconds", self.timeout_seconds, 1, 120)?;
        Ok(Limits {
            throttle_ms: check("throttle-seconds", self.throttle_seconds, 0, 86_400)? * 1000,
            first_wait_ms: check("retry-seconds", self.retry_seconds, 1, 3600)? * 1000,
            longest_wait_ms: 3_600_000,
            give_up_ms: check("give-up-hours", self.give_up_hours, 1, 720)? * 3_600_000,
            most_tries: 40,
            bytes: check("queue-bytes", self.queue_bytes as u64, 1 << 20, 1 << 36)? as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_what_it_needs_and_nothing_else() {
        let text = r#"
            content = true
            throttle-seconds = 60
            [fcm]
            service-account-file = "fcm.json"
            [apns]
            key-file = "key.p8"
            key-id = "ABC"
            team-id = "DEF"
            topic = "org.example.app"
            [webpush]
            subject = "mailto:ops@example.org"
            [webhook]
            secret-file = "hook"
        "#;
        let settings: PushSettings = toml::from_str(text).unwrap();
        assert_eq!(settings.limits().unwrap().throttle_ms, 60_000);
        assert_eq!(settings.fcm.unwrap().endpoint, "https://fcm.googleapis.com");
        assert_eq!(settings.apns.unwrap().endpoint, "https://api.push.apple.com");
        for wrong in ["contents = true", "[fcm]\nkey = 'inline'", "[webhook]\nsecret = 'inline'"] {
            assert!(toml::from_str::<PushSettings>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(toml::from_str::<PushSettings>("").unwrap(), PushSettings::default());
    }

    #[test]
    fn a_figure_out_of_bounds_is_named() {
        let settings = PushSettings { timeout_seconds: 0, ..PushSettings::default() };
        let text = settings.limits().unwrap_err().to_string();
        assert_eq!(text, "push.timeout-seconds is 0: it must be 1 to 120");
        assert!(PushSettings { queue_bytes: 5, ..PushSettings::default() }.limits().is_err());
    }
}
