//! What every request can reach: one value for all workers.

use std::sync::{Arc, OnceLock};

use serde_json::value::RawValue;

use super::admission::Admission;
use super::choice::Offered;
use super::health::Readiness;
use super::offer;
use crate::auth::attempts::Attempts;
use crate::auth::key::Keyring;
use crate::auth::validation::ValidationKeys;
use crate::config::Config;
use crate::config::identity::ServerIdentity;
use crate::edge::Site;
use crate::model::ids::NodeId;
use crate::model::topology::{Address, Scheme};
use crate::push::PushHandle;
use crate::watch::Watch;

/// See the module's header.
pub struct State {
    pub site: Arc<Site>,
    pub config: Arc<Config>,
    pub incarnation: u64,
    pub(super) push: PushHandle,
    pub(super) watch: Arc<Watch>,
    pub(super) keyring: Keyring,
    pub(super) validation: ValidationKeys,
    pub(super) attempts: Attempts,
    pub(super) readiness: Readiness,
    pub(super) admission: Admission,
    pub(super) offered: Offered,
    bound: OnceLock<u16>,
}

impl State {
    pub fn new(
        site: Arc<Site>,
        push: PushHandle,
        watch: Arc<Watch>,
        config: Config,
        keyring: Keyring,
        identity: &ServerIdentity,
    ) -> Self {
        let validation = ValidationKeys::new(&keyring, identity.node.clone());
        Self {
            site,
            push,
            watch,
            incarnation: identity.incarnation,
            keyring,
            validation,
            attempts: Attempts::default(),
            readiness: Readiness::default(),
            admission: Admission::new(config.limits.admission_rate),
            offered: Offered::default(),
            config: Arc::new(config),
            bound: OnceLock::new(),
        }
    }

    /// The port that was bound: to be said before the first request is served.
    pub fn bound(&self, port: u16) {
        self.bound.get_or_init(|| port);
    }

    fn bound_port(&self) -> u16 {
        self.bound.get().copied().unwrap_or(self.config.port)
    }

    /// Where this server answers itself, whatever stands before it.
    pub fn url(&self) -> String {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.config.authority(self.bound_port()))
    }

    /// Where clients and other servers reach this one.
    pub fn address(&self) -> Address {
        Address {
            host: self.config.host_address.clone(),
            port: self.port(),
            scheme: if self.config.tls.is_some() { Scheme::Tls } else { Scheme::Plain },
            proxy_80_port: self.config.proxy_80_port.clone(),
            region: self.config.region.clone(),
        }
    }

    /// An offer of another server, for a device that is sent away; `None` where there is none.
    pub fn offer_elsewhere(&self, device: &NodeId) -> Option<Box<RawValue>> {
        offer::elsewhere(self, device)
    }

    /// The port that clients are told: the one configured, or, where that is 0, the one bound.
    pub(super) fn port(&self) -> u16 {
        match self.config.port {
            0 => self.bound_port(),
            port => port,
        }
    }
}
