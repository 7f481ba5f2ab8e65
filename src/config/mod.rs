//! What one server is told: settings from flags, environment and file, made into values that fit together.
//!
//! Owns the rules between settings (a certificate needs its key, `--dev` stays on loopback, ...). Invariant: a [`Config`]
//! can be acted on without looking at it again. Holds no secret, only where to find it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::admission::LEAST;
use crate::model::ids::NodeId;
use crate::model::pin::Pin;

pub mod cidr;
pub mod identity;
pub mod keeper;
pub mod origins;
pub mod peers;
pub mod probe;
pub mod push;
pub mod secret;
pub mod settings;
pub mod surroundings;
pub mod time_span;

use cidr::Cidr;
use origins::Origin;
use peers::{LinkPlan, LinkSettings};
use push::PushSettings;
use secret::{NoSecret, SecretSource};
use settings::{LogLevel, Settings, StoreKind};
use surroundings::Surroundings;

const DEFAULT_PORT: u16 = 8080;
/// Pins of one mesh.
const MAX_PINS: usize = 256;
/// Descriptors kept for the store, pushes, links, logs and answers that refuse somebody.
pub const RESERVED_DESCRIPTORS: u64 = 200;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration file {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the configuration file {} is wrong", path.display())]
    Unparsable {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("a setting cannot be written down (is each path UTF-8, each number below 2^63?)")]
    Unwritable(#[source] toml::ser::Error),
    #[error("the settings do not fit together")]
    Unmerged(#[source] toml::de::Error),
    #[error(
        "host-address {0:?} is no name or IP address that clients can connect to: write it without scheme and port"
    )]
    HostAddress(String),
    #[error("host-address {0} means every interface, and no client can connect to that: keep it for --bind")]
    Unspecified(IpAddr),
    #[error("cannot tell where to listen: {address:?} is not an address of this machine; see --bind")]
    Listen {
        address: String,
        #[source]
        source: Option<io::Error>,
    },
    #[error("--dev is for this machine alone, and {0} is not loopback: use a secret file instead, or 127.0.0.1")]
    DevBeyondLoopback(String),
    #[error("tls-cert and tls-key belong together: {0} is missing")]
    HalfTls(&'static str),
    #[error("link-cert and link-key belong together: {0} is missing")]
    HalfLinkTls(&'static str),
    #[error("link-demand-cert needs {0}")]
    Demand(&'static str),
    #[error("the pin {pin} does nothing: {by} comes before it and has all of its ids")]
    Pin { pin: String, by: String },
    #[error("{0} pins are more than {MAX_PINS}: each is looked at for each id")]
    Pins(usize),
    #[error("{name} is {value}, and must be from {from} to {to}")]
    Range { name: &'static str, value: u64, from: u64, to: u64 },
    #[error(
        "num-max-connections {asked} needs {needed} file descriptors, and this process may have {allowed}: \
         raise the limit (ulimit -Hn, LimitNOFILE=), or ask for fewer connections"
    )]
    FileLimit { asked: u64, needed: u64, allowed: u64 },
    #[error(transparent)]
    NoSecret(#[from] NoSecret),
}

/// An answer to "may they?" that an operator gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    Refused,
    Granted,
}

impl From<bool> for Permission {
    fn from(granted: bool) -> Self {
        if granted { Self::Granted } else { Self::Refused }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Production,
    /// `--dev`: on loopback, with a secret of its own making and the demo pages.
    Dev,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What one device, one connection, one server may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max_connections: u64,
    /// Handshakes per second.
    pub admission_rate: u64,
    /// Of a message, in bytes.
    pub max_message_bytes: usize,
    /// Frames per second from one edge; twice that in a burst.
    pub rate_frames: u64,
    /// Bytes per second from one edge; twice that in a burst.
    pub rate_bytes: u64,
    pub inbox_max_bytes: u64,
    pub inbox_max_count: u64,
    pub inbox_max_age: Duration,
    pub outbox_max_bytes: usize,
}

/// Everything one server is told; see the module's header.
#[derive(Debug, Clone)]
pub struct Config {
    /// A name or an IP address (an IPv6 one without brackets), as offers give it to clients.
    pub host_address: String,
    /// As offers give it to clients. 0 stands for the port that is bound in the end.
    pub port: u16,
    /// Where to bind; its port may be 0.
    pub listen: SocketAddr,
    pub proxy_80_port: Option<String>,
    /// As clients name it.
    pub region: Option<String>,
    /// Whether to start beside another live server at the same address.
    pub force: Permission,
    pub tls: Option<TlsFiles>,
    pub metrics_bind: Option<SocketAddr>,
    pub links: LinkSettings,
    /// As in all other servers' settings, in this order.
    pub pins: Vec<Pin>,
    pub data_dir: PathBuf,
    /// Given, not found: what the server really is called is in its data directory.
    pub node_id: Option<NodeId>,
    pub store: StoreKind,
    pub secret: SecretSource,
    pub mode: Mode,
    pub allow_direct: Permission,
    pub allow_origins: Vec<Origin>,
    pub allow_private_push: Permission,
    pub trust_proxies: Vec<Cidr>,
    pub limits: Limits,
    pub drain_deadline: Duration,
    /// `None`: `RUST_LOG`, or info.
    pub log_level: Option<LogLevel>,
    pub push: PushSettings,
}

impl Config {
    /// What `settings`, completed by [`Settings::layered`], mean. Resolves names, and reads nothing else.
    pub fn resolve(settings: Settings, around: &Surroundings) -> Result<Self, ConfigError> {
        let host_address = host_address(settings.host_address.unwrap_or_default())?;
        let listen = listen(settings.bind.as_deref(), &host_address, settings.port.unwrap_or(DEFAULT_PORT))?;
        let data_dir = settings.data_dir.unwrap_or_default();
        let mode = if settings.dev == Some(true) { Mode::Dev } else { Mode::Production };
        if mode == Mode::Dev {
            for (name, loopback) in
                [(host_address.clone(), is_loopback(&host_address)), (listen.to_string(), listen.ip().is_loopback())]
            {
                if !loopback {
                    return Err(ConfigError::DevBeyondLoopback(name));
                }
            }
        }
        let secret = match settings.secret_file {
            Some(file) => SecretSource::File(file),
            None if around.secret_in_environment => SecretSource::Environment,
            None if mode == Mode::Dev => SecretSource::dev(&data_dir),
            None => return Err(NoSecret.into()),
        };
        let tls = match (settings.tls_cert, settings.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::HalfTls("tls-key")),
            (None, Some(_)) => return Err(ConfigError::HalfTls("tls-cert")),
        };
        let link_certificate = match (settings.link_cert, settings.link_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::HalfLinkTls("link-key")),
            (None, Some(_)) => return Err(ConfigError::HalfLinkTls("link-cert")),
        };
        let demanded = settings.link_demand_cert == Some(true);
        match (demanded, &tls, &settings.link_ca) {
            (true, None, _) => return Err(ConfigError::Demand("tls-cert and tls-key: only TLS has certificates")),
            (true, _, None) => return Err(ConfigError::Demand("link-ca: whose certificates are good")),
            _ => {}
        }
        let links = LinkSettings {
            peers: settings.peer.unwrap_or_default(),
            plan: settings.links.unwrap_or(LinkPlan::Full),
            ca: settings.link_ca,
            certificate: link_certificate,
            without_certificate: (!demanded).into(),
        };
        let drain_ms = settings.drain_deadline.map_or(0, time_span::TimeSpan::millis);
        let days = within("inbox-max-days", settings.inbox_max_days, 1..=3650)?;
        Ok(Self {
            port: settings.port.filter(|port| *port != 0).unwrap_or(listen.port()),
            host_address,
            listen,
            proxy_80_port: settings.proxy_80_port.filter(|name| !name.is_empty()),
            region: settings.region.filter(|name| !name.is_empty()),
            force: settings.force.unwrap_or_default().into(),
            tls,
            metrics_bind: settings.metrics_bind,
            links,
            pins: pins(settings.pin.unwrap_or_default())?,
            data_dir,
            node_id: settings.node_id,
            store: settings.store.unwrap_or(StoreKind::Sled),
            secret,
            mode,
            allow_direct: settings.allow_direct.unwrap_or_default().into(),
            allow_origins: settings.allow_origin.unwrap_or_default(),
            allow_private_push: settings.allow_private_push.unwrap_or_default().into(),
            trust_proxies: settings.trust_proxy.unwrap_or_default(),
            limits: Limits {
                max_connections: max_connections(settings.num_max_connections, around.descriptors)?,
                admission_rate: within("admission-rate", settings.admission_rate, LEAST..=1_000_000)?,
                max_message_bytes: within("max-message-bytes", settings.max_message_bytes, 1024..=32 << 20)? as usize,
                rate_frames: within("rate", settings.rate, 1..=100_000_000)?,
                rate_bytes: within("rate-bytes", settings.rate_bytes, 1024..=1 << 40)?,
                inbox_max_bytes: within("inbox-max-bytes", settings.inbox_max_bytes, 1024..=1 << 40)?,
                inbox_max_count: within("inbox-max-count", settings.inbox_max_count, 1..=100_000_000)?,
                inbox_max_age: Duration::from_secs(days * 86_400),
                outbox_max_bytes: within("outbox-max-bytes", settings.outbox_max_bytes, 1024..=1 << 32)? as usize,
            },
            drain_deadline: Duration::from_millis(within("drain-deadline (ms)", Some(drain_ms), 100..=3_600_000)?),
            log_level: settings.log_level,
            push: settings.push.unwrap_or_default(),
        })
    }

    /// The host address and the port that was bound, as they stand in a URL.
    pub fn authority(&self, port: u16) -> String {
        if self.host_address.parse::<std::net::Ipv6Addr>().is_ok() {
            format!("[{}]:{port}", self.host_address)
        } else {
            format!("{}:{port}", self.host_address)
        }
    }
}

fn within(name: &'static str, value: Option<u64>, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
    let value = value.unwrap_or_default();
    let (from, to) = range.into_inner();
    if (from..=to).contains(&value) { Ok(value) } else { Err(ConfigError::Range { name, value, from, to }) }
}

/// Each of them does something.
fn pins(given: Vec<Pin>) -> Result<Vec<Pin>, ConfigError> {
    if given.len() > MAX_PINS {
        return Err(ConfigError::Pins(given.len()));
    }
    for (at, pin) in given.iter().enumerate() {
        // What is given to two servers goes to the second while the first is no member.
        if let Some(by) = given[..at].iter().find(|by| by.covers(pin) && by.server == pin.server) {
            return Err(ConfigError::Pin { pin: pin.to_string(), by: by.to_string() });
        }
    }
    Ok(given)
}

/// Each connection is one descriptor.
fn max_connections(asked: Option<u64>, descriptors: u64) -> Result<u64, ConfigError> {
    let Some(asked) = asked else { return Ok(descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(1)) };
    let asked = within("num-max-connections", Some(asked), 1..=100_000_000)?;
    let needed = asked + RESERVED_DESCRIPTORS;
    if needed > descriptors {
        return Err(ConfigError::FileLimit { asked, needed, allowed: descriptors });
    }
    Ok(asked)
}

fn host_address(given: String) -> Result<String, ConfigError> {
    let bare = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&given);
    match bare.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Err(ConfigError::Unspecified(ip)),
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => {
            let in_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            let good = !given.is_empty() && given.len() <= 253 && given.chars().all(in_name);
            if good { Ok(given) } else { Err(ConfigError::HostAddress(given)) }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// `bind` is an address with or without a port, else the host address is meant. A name stands for its first address.
fn listen(bind: Option<&str>, host: &str, port: u16) -> Result<SocketAddr, ConfigError> {
    let text = bind.unwrap_or(host);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let (name, port) = match bare.parse::<IpAddr>() {
        Ok(ip) => return Ok(SocketAddr::new(ip, port)),
        Err(_) => match text.split_once(':').map(|(name, port)| (name, port.parse())) {
            Some((name, Ok(port))) => (name, port),
            _ => (text, port),
        },
    };
    let failed = |source| ConfigError::Listen { address: text.to_owned(), source };
    (name, port).to_socket_addrs().map_err(|error| failed(Some(error)))?.next().ok_or_else(|| failed(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AROUND: Surroundings = Surroundings { descriptors: 1024, secret_in_environment: true };

    fn resolved(file: &str, around: &Surroundings) -> Result<Config, ConfigError> {
        let settings = Settings::layered(&Settings::default(), toml::from_str(file).unwrap(), around).unwrap();
        Config::resolve(settings, around)
    }

    #[test]
    fn the_defaults_are_the_designs() {
        let config = resolved("", &AROUND).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.authority(config.port), "127.0.0.1:8080");
        assert_eq!(config.secret, SecretSource::Environment);
        assert_eq!(config.limits.max_connections, 824);
        assert_eq!(config.limits.max_message_bytes, 1_000_000);
        assert_eq!(config.limits.inbox_max_age, Duration::from_secs(30 * 86_400));
        assert_eq!((config.mode, config.allow_direct), (Mode::Production, Permission::Refused));
        assert_eq!(config.drain_deadline, Duration::from_secs(60));
    }

    #[test]
    fn without_a_secret_it_does_not_start_but_for_development() {
        let around = Surroundings { secret_in_environment: false, ..AROUND };
        assert!(matches!(resolved("", &around), Err(ConfigError::NoSecret(_))));
        let config = resolved("dev = true\ndata-dir = 'd'", &around).unwrap();
        assert_eq!(config.secret, SecretSource::Dev("d/secret".into()));
        let config = resolved("dev = true\nsecret-file = 'f'", &around).unwrap();
        assert_eq!(config.secret, SecretSource::File("f".into()));
    }

    #[test]
    fn development_stays_on_loopback() {
        for file in ["host-address = '192.0.2.1'", "bind = '0.0.0.0'", "host-address = 'chat.example.com'\nbind='::1'"]
        {
            let result = resolved(&format!("dev = true\n{file}"), &AROUND);
            assert!(matches!(result, Err(ConfigError::DevBeyondLoopback(_))), "{file}: {result:?}");
        }
        assert!(resolved("dev = true\nhost-address = 'localhost'", &AROUND).is_ok());
        assert!(resolved("dev = true\nhost-address = '::1'", &AROUND).is_ok());
    }

    #[test]
    fn it_listens_where_it_is_told() {
        let cases = [
            ("host-address = '192.0.2.1'", "192.0.2.1:8080"),
            ("host-address = '2001:db8::1'\nport = 9", "[2001:db8::1]:9"),
            ("host-address = '[2001:db8::1]'", "[2001:db8::1]:8080"),
            ("host-address = 'chat.example.com'\nbind = '0.0.0.0'", "0.0.0.0:8080"),
            ("host-address = 'chat.example.com'\nport = 443\nbind = '0.0.0.0:8081'", "0.0.0.0:8081"),
            ("bind = '::'", "[::]:8080"),
            ("bind = '[::1]:7'", "[::1]:7"),
            ("port = 0", "127.0.0.1:0"),
        ];
        for (file, expected) in cases {
            assert_eq!(resolved(file, &AROUND).unwrap().listen.to_string(), expected, "{file}");
        }
        let config = resolved("host-address = '2001:db8::1'", &AROUND).unwrap();
        assert_eq!(config.authority(80), "[2001:db8::1]:80");
    }

    #[test]
    fn clients_are_told_the_port_that_was_given_else_the_one_it_listens_on() {
        let cases = [
            ("", 8080),
            ("port = 443\nbind = '127.0.0.1:8081'", 443),
            ("bind = '127.0.0.1:8081'", 8081),
            ("port = 0\nbind = '127.0.0.1:8081'", 8081),
            ("port = 0", 0),
        ];
        for (file, expected) in cases {
            assert_eq!(resolved(file, &AROUND).unwrap().port, expected, "{file}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_name() {
        let cases = [
            ("host-address = 'ws://chat.example.com'", "without scheme and port"),
            ("host-address = 'chat.example.com:80'", "without scheme and port"),
            ("host-address = ''", "without scheme and port"),
            ("host-address = '0.0.0.0'", "keep it for --bind"),
            ("tls-cert = 'c'", "tls-key is missing"),
            ("tls-key = 'c'", "tls-cert is missing"),
            ("link-cert = 'c'", "link-key is missing"),
            ("pin = ['a=s1', 'b=s1', 'a[1-9]=s1']", "the pin a[1-9]=s1 does nothing: a=s1 comes before it"),
            ("link-demand-cert = true\nlink-ca = 'a'", "needs tls-cert"),
            ("link-demand-cert = true\ntls-cert = 'c'\ntls-key = 'k'", "needs link-ca"),
            ("max-message-bytes = 10", "max-message-bytes is 10, and must be from 1024 to 33554432"),
            ("rate = 0", "rate is 0"),
            ("inbox-max-days = 0", "inbox-max-days is 0"),
            ("drain-deadline = '2h'", "drain-deadline"),
            ("num-max-connections = 1000", "needs 1200 file descriptors, and this process may have 1024"),
            ("num-max-connections = 0", "num-max-connections is 0"),
        ];
        for (file, expected) in cases {
            let error = resolved(file, &AROUND).unwrap_err().to_string();
            assert!(error.contains(expected), "{file}: {error}");
        }
        assert_eq!(resolved("num-max-connections = 824", &AROUND).unwrap().limits.max_connections, 824);
    }
}
