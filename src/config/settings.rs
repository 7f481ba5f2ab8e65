//! What can be set, each in one place: as a flag, as an environment variable, as a key of the configuration file.
//!
//! A flag goes before the environment, that before the file, that before the default. Everything is optional here; what
//! it all means together is decided in [`Config`](super::Config). The help texts are the reference for people.

#![expect(clippy::doc_markdown, reason = "these comments are shown in a terminal, as help")]
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::bare_urls,
    reason = "these comments are shown in a terminal, as help"
)]

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::cidr::Cidr;
use super::origins::Origin;
use super::peers::{LinkPlan, PeerUrl};
use super::push::PushSettings;
use super::surroundings::Surroundings;
use super::time_span::TimeSpan;
use crate::model::ids::NodeId;
use crate::model::pin::Pin;

/// Where a server keeps what must survive it, unless told otherwise: in the directory it was started in, so that it is
/// seen, and that two servers in two directories do not meet.
pub const DEFAULT_DATA_DIR: &str = "sparkmesh-data";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// On disk, in the data directory.
    Sled,
    /// In memory: all is lost with the process. For tests and demonstrations.
    Memory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

/// One server's settings as they were given.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// The name or IP address under which clients reach this server; offers name it [default: 127.0.0.1]
    #[arg(long, env = "SPARKMESH_HOST_ADDRESS", value_name = "HOST", help_heading = "Address")]
    pub host_address: Option<String>,

    /// The port under which clients reach this server; 0 takes any free one [default: that of --bind, else 8080]
    #[arg(long, env = "SPARKMESH_PORT", value_name = "PORT", help_heading = "Address")]
    pub port: Option<u16>,

    /// Listen there instead of on the host address: an address, or ADDRESS:PORT. For servers behind a proxy or in a
    /// container; 0.0.0.0 is every interface
    #[arg(long, env = "SPARKMESH_BIND", value_name = "ADDR", help_heading = "Address")]
    pub bind: Option<String>,

    /// The host name under which a proxy passes this server on at port 80, for clients that reach no other port
    #[arg(long, env = "SPARKMESH_PROXY_80_PORT", value_name = "NAME", help_heading = "Address")]
    pub proxy_80_port: Option<String>,

    /// Where this server stands, in a word of your own; clients that ask for `region=NAME` are offered servers there, or
    /// those nearest to it
    #[arg(long, env = "SPARKMESH_REGION", value_name = "NAME", help_heading = "Address")]
    pub region: Option<String>,

    /// Start although another live server answers at the same address
    #[arg(long, env = "SPARKMESH_FORCE", help_heading = "Address", value_name = "BOOL",
        num_args = 0..=1, default_missing_value = "true", value_parser = loose_switch)]
    pub force: Option<bool>,

    /// The certificate chain, PEM; with it the server speaks TLS only. Read again when it changes and on SIGHUP
    #[arg(long, env = "SPARKMESH_TLS_CERT", value_name = "FILE", help_heading = "Address")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's private key, PEM
    #[arg(long, env = "SPARKMESH_TLS_KEY", value_name = "FILE", help_heading = "Address")]
    pub tls_key: Option<PathBuf>,

    /// Show /metrics there without a key, as ADDRESS:PORT. At the main address an admin's key is needed for it
    #[arg(long, env = "SPARKMESH_METRICS_BIND", value_name = "ADDR:PORT", help_heading = "Address")]
    pub metrics_bind: Option<SocketAddr>,

    /// Another server to link up with, as ws://HOST:PORT, or wss:// for TLS. May be given several times, or as a list with
    /// commas; one is enough to find all others
    #[arg(long, env = "SPARKMESH_PEER", value_name = "URL", value_delimiter = ',', help_heading = "Mesh")]
    pub peer: Option<Vec<PeerUrl>>,

    /// Which servers to dial: full, all that it learns of, or static, only those of --peer [default: full]
    #[arg(
        long,
        env = "SPARKMESH_LINKS",
        value_enum,
        ignore_case = true,
        hide_possible_values = true,
        value_name = "PLAN",
        help_heading = "Mesh"
    )]
    pub links: Option<LinkPlan>,

    /// Keep the inboxes and records of these ids at one server: PREFIX=SERVER, or PREFIX[FROM-TO]=SERVER for the prefix and
    /// a number (either end may be left out). The first that fits counts. May be given several times, or as a list with
    /// commas; all servers must be given the same. A server that has not joined yet may be named: until it has, its ids
    /// are placed as if there were no pin
    #[arg(long, env = "SPARKMESH_PIN", value_name = "PIN", value_delimiter = ',', help_heading = "Mesh")]
    pub pin: Option<Vec<Pin>>,

    /// Who signs the certificates of the other servers, PEM [default: whom the system trusts]
    #[arg(long, env = "SPARKMESH_LINK_CA", value_name = "FILE", help_heading = "Mesh")]
    pub link_ca: Option<PathBuf>,

    /// The certificate chain that this server shows to those it dials, PEM. Looked at again at each dial
    #[arg(long, env = "SPARKMESH_LINK_CERT", value_name = "FILE", help_heading = "Mesh")]
    pub link_cert: Option<PathBuf>,

    /// That certificate's private key, PEM
    #[arg(long, env = "SPARKMESH_LINK_KEY", value_name = "FILE", help_heading = "Mesh")]
    pub link_key: Option<PathBuf>,

    /// Let in only servers that show a certificate signed by --link-ca. Needs --tls-cert
    #[arg(long, env = "SPARKMESH_LINK_DEMAND_CERT", help_heading = "Mesh", value_name = "BOOL",
        num_args = 0..=1, default_missing_value = "true", value_parser = switch)]
    pub link_demand_cert: Option<bool>,

    /// The directory of this server's identity and store; made when it is not there [default: sparkmesh-data]
    #[arg(long, env = "SPARKMESH_DATA_DIR", value_name = "DIR", help_heading = "Identity and data")]
    pub data_dir: Option<PathBuf>,

    /// This server's id, at its first start only [default: a random one]
    #[arg(long, env = "SPARKMESH_NODE_ID", value_name = "ID", help_heading = "Identity and data")]
    pub node_id: Option<NodeId>,

    /// Where inboxes and records are kept [default: sled]
    #[arg(long, env = "SPARKMESH_STORE", value_enum, ignore_case = true, help_heading = "Identity and data")]
    pub store: Option<StoreKind>,

    /// The file of the secrets that keys are signed with, one a line, `kid:secret` or bare: the first signs, all
    /// verify. Or put the same lines into SPARKMESH_SECRET
    #[arg(long, env = "SPARKMESH_SECRET_FILE", value_name = "FILE", help_heading = "Who may come in")]
    pub secret_file: Option<PathBuf>,

    /// For development, on this machine alone: makes a secret in the data directory and serves the demo pages
    #[arg(long, env = "SPARKMESH_DEV", help_heading = "Who may come in", value_name = "BOOL",
        num_args = 0..=1, default_missing_value = "true", value_parser = switch)]
    pub dev: Option<bool>,

    /// Let devices connect without a validation key (/connectV2), as old clients do
    #[arg(long, env = "SPARKMESH_ALLOW_DIRECT", help_heading = "Who may come in", value_name = "BOOL",
        num_args = 0..=1, default_missing_value = "true", value_parser = switch)]
    pub allow_direct: Option<bool>,

    /// Let web pages of this origin in, as https://app.example.com; * is all. May be given several times, or as a list
    /// with commas
    #[arg(
        long,
        env = "SPARKMESH_ALLOW_ORIGIN",
        value_name = "URL",
        value_delimiter = ',',
        help_heading = "Who may come in"
    )]
    pub allow_origin: Option<Vec<Origin>>,

    /// Let pushes go to private addresses too (webhooks and Web Push endpoints in your own network)
    #[arg(long, env = "SPARKMESH_ALLOW_PRIVATE_PUSH", help_heading = "Who may come in", value_name = "BOOL",
        num_args = 0..=1, default_missing_value = "true", value_parser = switch)]
    pub allow_private_push: Option<bool>,

    /// Believe X-Forwarded-For and Forwarded from proxies in this range, as 10.0.0.0/8. May be given several times, or
    /// as a list with commas
    #[arg(
        long,
        env = "SPARKMESH_TRUST_PROXY",
        value_name = "CIDR",
        value_delimiter = ',',
        help_heading = "Who may come in"
    )]
    pub trust_proxy: Option<Vec<Cidr>>,

    /// Most connections at once; those beyond get 503 [default: what the process's file limit allows]
    #[arg(long, env = "SPARKMESH_NUM_MAX_CONNECTIONS", value_name = "N", help_heading = "Limits")]
    pub num_max_connections: Option<u64>,

    /// Most devices that come in per second, with a burst of two seconds; offers spread more than that over time, and who
    /// comes without one gets 503 [default: 1000]
    #[arg(long, env = "SPARKMESH_ADMISSION_RATE", value_name = "DEVICES/S", help_heading = "Limits")]
    pub admission_rate: Option<u64>,

    /// Longest message, in bytes [default: 1000000]
    #[arg(long, env = "SPARKMESH_MAX_MESSAGE_BYTES", value_name = "BYTES", help_heading = "Limits")]
    pub max_message_bytes: Option<u64>,

    /// Most messages per second from one connection, with a burst of two seconds [default: 20000]
    #[arg(long, env = "SPARKMESH_RATE", value_name = "FRAMES/S", help_heading = "Limits")]
    pub rate: Option<u64>,

    /// Most bytes per second from one connection, with a burst of two seconds [default: 64000000]
    #[arg(long, env = "SPARKMESH_RATE_BYTES", value_name = "BYTES/S", help_heading = "Limits")]
    pub rate_bytes: Option<u64>,

    /// Most bytes in one device's inbox; the oldest go first [default: 67108864]
    #[arg(long, env = "SPARKMESH_INBOX_MAX_BYTES", value_name = "BYTES", help_heading = "Limits")]
    pub inbox_max_bytes: Option<u64>,

    /// Most messages in one device's inbox; the oldest go first [default: 10000]
    #[arg(long, env = "SPARKMESH_INBOX_MAX_COUNT", value_name = "N", help_heading = "Limits")]
    pub inbox_max_count: Option<u64>,

    /// How long a message waits in an inbox, in days [default: 30]
    #[arg(long, env = "SPARKMESH_INBOX_MAX_DAYS", value_name = "DAYS", help_heading = "Limits")]
    pub inbox_max_days: Option<u64>,

    /// Most bytes on their way to one connection; reliable messages beyond go to the inbox [default: 1048576]
    #[arg(long, env = "SPARKMESH_OUTBOX_MAX_BYTES", value_name = "BYTES", help_heading = "Limits")]
    pub outbox_max_bytes: Option<u64>,

    /// How long going away may take after SIGTERM, as 60s or 2m [default: 60s]
    #[arg(long, env = "SPARKMESH_DRAIN_DEADLINE", value_name = "TIME", help_heading = "Limits")]
    pub drain_deadline: Option<TimeSpan>,

    /// How much to log: error, warn, info, debug or trace [default: info, or what RUST_LOG says]
    #[arg(
        long,
        env = "SPARKMESH_LOG_LEVEL",
        value_enum,
        ignore_case = true,
        hide_possible_values = true,
        value_name = "LEVEL",
        help_heading = "Log"
    )]
    pub log_level: Option<LogLevel>,

    /// In the configuration file only.
    #[arg(skip)]
    #[serde(skip_serializing)]
    pub push: Option<PushSettings>,
}

impl Settings {
    fn defaults() -> Self {
        Self {
            host_address: Some("127.0.0.1".to_owned()),
            force: Some(false),
            data_dir: Some(DEFAULT_DATA_DIR.into()),
            store: Some(StoreKind::Sled),
            links: Some(LinkPlan::Full),
            link_demand_cert: Some(false),
            dev: Some(false),
            allow_direct: Some(false),
            allow_private_push: Some(false),
            admission_rate: Some(1000),
            max_message_bytes: Some(1_000_000),
            rate: Some(20_000),
            rate_bytes: Some(64_000_000),
            inbox_max_bytes: Some(64 << 20),
            inbox_max_count: Some(10_000),
            inbox_max_days: Some(30),
            outbox_max_bytes: Some(1 << 20),
            drain_deadline: Some(Duration::from_secs(60).into()),
            ..Self::default()
        }
    }

    /// The file of `--config`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Unparsable { path: path.to_owned(), source })
    }

    /// `given` (flags and environment) over `file` over the defaults.
    pub fn layered(given: &Self, mut file: Self, around: &Surroundings) -> Result<Self, ConfigError> {
        // A secret in the environment goes before a secret file named in the configuration file, as all else does.
        if given.secret_file.is_none() && around.secret_in_environment {
            file.secret_file = None;
        }
        let mut layers = toml::Table::new();
        for layer in [&Self::defaults(), &file, given] {
            layers.extend(toml::Table::try_from(layer).map_err(ConfigError::Unwritable)?);
        }
        let merged: Self = layers.try_into().map_err(ConfigError::Unmerged)?;
        Ok(Self { push: file.push, ..merged })
    }
}

/// As a configuration file, without the `[push]` section, which may hold what is nobody's business.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml::to_string(self).map_err(|_| fmt::Error)?)
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" | "" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// `--force=anything` has always meant yes (row A49); only a clear no is a no.
#[expect(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn loose_switch(text: &str) -> Result<bool, String> {
    Ok(switch(text).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AROUND: Surroundings = Surroundings { descriptors: 1024, secret_in_environment: false };

    fn file(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn each_layer_covers_the_one_below() {
        let file = file("port = 1\nrate = 7\nallow-origin = ['https://a.example']\ndrain-deadline = '5s'");
        let given = Settings { port: Some(2), ..Settings::default() };
        let merged = Settings::layered(&given, file, &AROUND).unwrap();
        assert_eq!((merged.port, merged.rate, merged.inbox_max_days), (Some(2), Some(7), Some(30)));
        assert_eq!(merged.allow_origin.unwrap(), ["https://a.example".parse().unwrap()]);
        assert_eq!(merged.drain_deadline.unwrap().millis(), 5000);
    }

    #[test]
    fn a_secret_in_the_environment_covers_a_file_named_in_the_file() {
        let file = file("secret-file = 'secrets'");
        let around = Surroundings { secret_in_environment: true, ..AROUND };
        let given = Settings { secret_file: Some("flag".into()), ..Settings::default() };
        let none = Settings::default();
        let secret = |given, around| Settings::layered(given, file.clone(), around).unwrap().secret_file;
        assert_eq!(secret(&none, &AROUND), Some("secrets".into()));
        assert_eq!(secret(&none, &around), None);
        assert_eq!(secret(&given, &around), Some("flag".into()));
    }

    #[test]
    fn an_unknown_or_mistyped_key_of_the_file_is_refused() {
        for (text, expected) in [
            ("prot = 1", "unknown field `prot`"),
            ("host_address = 'x'", "unknown field `host_address`"),
            ("port = 70000", "u16"),
            ("store = 'redis'", "redis"),
            ("drain-deadline = '1w'", "no length of time"),
            ("trust-proxy = ['10/8']", "no range of addresses"),
            ("node-id = 'a b'", "an id is made of"),
            ("pin = ['user-']", "write PREFIX=SERVER"),
        ] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_shown_can_be_given_again() {
        let given = Settings { allow_origin: Some(vec!["*".parse().unwrap()]), ..Settings::default() };
        let merged = Settings::layered(&given, Settings::default(), &AROUND).unwrap();
        let again = file(&merged.to_string());
        assert_eq!(merged.to_string(), again.to_string());
        assert!(merged.to_string().contains("inbox-max-bytes = 67108864"));
    }

    #[test]
    fn switches() {
        assert_eq!(switch("True"), Ok(true));
        assert_eq!(switch("off"), Ok(false));
        assert!(switch("anything").is_err());
        assert_eq!(loose_switch("anything"), Ok(true));
        assert_eq!(loose_switch("False"), Ok(false));
    }
}
