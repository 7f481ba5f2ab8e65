//! The wiring of one server.

use crate::config::Config;

#[derive(Debug, thiserror::Error)]
pub enum AppError {}

#[expect(clippy::unused_async)]
pub async fn serve(_config: Config) -> Result<(), AppError> {
    Ok(())
}
