//! The link-state database: what each server says of itself and of its links.

use super::ids::{Incarnation, NodeId};

/// What one server says of itself. A record with a higher incarnation, or the same and a higher number, replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub server: NodeId,
    pub incarnation: Incarnation,
    pub number: u64,
    pub about: About,
    pub links: Vec<LinkState>,
}

/// What a server says of itself beside its links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub address: Address,
    pub load: Load,
    pub standing: Standing,
    /// The highest epoch of sessions that this server has given out or heard of.
    pub epoch: u64,
}

/// Where clients and servers reach a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    /// Empty: it cannot be dialled, and is never offered.
    pub host: String,
    pub port: u16,
    pub scheme: Scheme,
    pub proxy_80_port: Option<String>,
    /// As clients name it in `region`.
    pub region: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    #[default]
    Plain,
    Tls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub connections: u64,
    pub max_connections: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Back from a crash, and not yet told what its deputies have changed meanwhile: serves no small records.
    Returning,
    Serving,
    Draining,
}

/// One link as one of its ends announces it. It counts when both do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    pub peer: NodeId,
    /// Smoothed round trip in microseconds, at least 1.
    pub cost: u32,
}
