//! Where the cluster secret comes from. The secret itself is read in `auth`, and is never part of the configuration.

use std::path::{Path, PathBuf};

/// Holds secrets in the same form as the secret file: one a line.
pub const SECRET_VARIABLE: &str = "SPARKMESH_SECRET";
/// The secret that `--dev` makes, within the data directory.
const DEV_FILE: &str = "secret";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    File(PathBuf),
    /// [`SECRET_VARIABLE`].
    Environment,
    /// Made there the first time.
    Dev(PathBuf),
}

#[derive(Debug, thiserror::Error)]
#[error(
    "there is no secret to make and to verify keys with: give --secret-file FILE, or set SPARKMESH_SECRET \
     (`openssl rand -hex 32` makes a good one), or use `serve --dev` on this machine alone"
)]
pub struct NoSecret;

impl SecretSource {
    pub fn dev(data_dir: &Path) -> Self {
        Self::Dev(data_dir.join(DEV_FILE))
    }

    /// For commands beside a server: the file if one is named, else the environment, else what `serve --dev` made in
    /// `data_dir`.
    pub fn find(file: Option<&Path>, data_dir: &Path) -> Result<Self, NoSecret> {
        let made = data_dir.join(DEV_FILE);
        match file {
            Some(file) => Ok(Self::File(file.to_owned())),
            None if Self::in_environment() => Ok(Self::Environment),
            None if made.is_file() => Ok(Self::File(made)),
            None => Err(NoSecret),
        }
    }

    pub fn in_environment() -> bool {
        std::env::var_os(SECRET_VARIABLE).is_some_and(|value| !value.is_empty())
    }
}
