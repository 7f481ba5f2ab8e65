//! The providers that the operator has set up, behind one call.

use std::path::Path;

use super::apns::Apns;
use super::content::Content;
use super::exchange::client;
use super::fcm::Fcm;
use super::guard::Guard;
use super::outcome::Outcome;
use super::vapid::Vapid;
use super::webhook::Webhook;
use super::webpush::WebPush;
use super::{Notification, Provider, PushError, PushToken};
use crate::config::push::PushSettings;

/// The VAPID key's name in the data directory.
const VAPID_FILE: &str = "vapid.pem";

pub(super) struct Providers {
    fcm: Option<Fcm>,
    apns: Option<Apns>,
    webpush: Option<WebPush>,
    webhook: Option<Webhook>,
}

impl Providers {
    /// Reads every key once, so that what is wrong with one is said at start and not with the first push.
    pub(super) fn open(settings: &PushSettings, data_dir: &Path, content: Content) -> Result<Self, PushError> {
        let guard = if settings.allow_private { Guard::Anybody } else { Guard::PublicOnly };
        let guarded = || Ok::<_, PushError>(client(settings)?.dns_resolver(guard).build()?);
        let fcm = match &settings.fcm {
            Some(own) => Some(Fcm::open(own, client(settings)?.build()?, content)?),
            None => None,
        };
        let apns = match &settings.apns {
            Some(own) => Some(Apns::open(own, client(settings)?.http2_prior_knowledge().build()?, content)?),
            None => None,
        };
        let webpush = match &settings.webpush {
            Some(own) => {
                let path = own.key_file.clone().unwrap_or_else(|| data_dir.join(VAPID_FILE));
                Some(WebPush::new(guarded()?, guard, Vapid::open(&path, &own.subject)?, content))
            }
            None => None,
        };
        let webhook = match &settings.webhook {
            Some(own) => Some(Webhook::open(&own.secret_file, guarded()?, guard, content)?),
            None => None,
        };
        Ok(Self { fcm, apns, webpush, webhook })
    }

    pub(super) fn has(&self, provider: Provider) -> bool {
        match provider {
            Provider::Fcm => self.fcm.is_some(),
            Provider::Apns => self.apns.is_some(),
            Provider::Webpush => self.webpush.is_some(),
            Provider::Webhook => self.webhook.is_some(),
        }
    }

    pub(super) fn vapid_public_key(&self) -> Option<&str> {
        self.webpush.as_ref().map(WebPush::public_key)
    }

    pub(super) async fn send(&self, token: &PushToken, notification: &Notification) -> Outcome {
        match (token.provider, &self.fcm, &self.apns, &self.webpush, &self.webhook) {
            (Provider::Fcm, Some(fcm), ..) => fcm.send(&token.token, notification).await,
            (Provider::Apns, _, Some(apns), ..) => apns.send(&token.token, notification).await,
            (Provider::Webpush, _, _, Some(webpush), _) => webpush.send(&token.token, notification).await,
            (Provider::Webhook, .., Some(webhook)) => webhook.send(&token.token, notification).await,
            (provider, ..) => Outcome::refused(format!("{provider} is not set up")),
        }
    }
}
