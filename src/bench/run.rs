//! What every scenario is given.

use std::time::Duration;

use super::meter::Meter;
use super::progress::Progress;
use super::target::Target;

/// Pings of the last messages come within this; whoever leaves before it answers would be owed them still.
const LAST_PINGS: Duration = Duration::from_millis(300);

/// One run of the bench.
pub(super) struct Run {
    pub(super) target: Target,
    pub(super) progress: Progress,
    /// No measurement takes longer.
    pub(super) limit: Duration,
}

impl Run {
    /// Answers the last pings, then closes all connections of a measurement.
    pub(super) async fn hang_up(&self, meter: &Meter) {
        tokio::time::sleep(LAST_PINGS).await;
        meter.stop();
    }
}
