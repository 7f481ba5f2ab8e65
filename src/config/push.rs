//! The `[push]` section of the configuration file.

use serde::Deserialize;

#[derive(Default, Clone, Debug, Deserialize)]
pub struct PushSettings {}
