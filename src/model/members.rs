//! The members of the mesh: the servers that were admitted, and those that were forgotten. Only grows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ids::NodeId;

/// When and where a server was admitted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Admission {
    /// One more than the highest that the admitting server knew; ties go by the server's id.
    pub ordinal: u64,
}

/// See the module's header.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Members {
    admitted: BTreeMap<NodeId, Admission>,
    forgotten: BTreeSet<NodeId>,
}
