//! What the process finds around it and the settings depend on.

use super::secret::SecretSource;

/// Taken once at the start, and an argument from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// Files and sockets this process may have open at once.
    pub descriptors: u64,
    /// Whether `SPARKMESH_SECRET` is set.
    pub secret_in_environment: bool,
}

impl Surroundings {
    /// Raises the process's file limit as far as it goes, and looks around.
    pub fn take() -> Self {
        let descriptors = rlimit::increase_nofile_limit(u64::MAX)
            .or_else(|_| rlimit::getrlimit(rlimit::Resource::NOFILE).map(|(soft, _)| soft))
            // Where nobody can say, what every system of the last decades allows.
            .unwrap_or(1024);
        Self { descriptors, secret_in_environment: SecretSource::in_environment() }
    }
}
