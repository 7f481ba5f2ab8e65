//! One reading of a server's figures, from its metrics and from what the system says of the process.

use crate::metrics;
use crate::model::history::Reading;
use crate::model::ids::Millis;
use crate::process::Process;

/// Where the system says nothing of processor time or memory, those are 0.
pub(super) fn read(at: Millis) -> Reading {
    let both = |of: fn(&metrics::Outcomes) -> u64| of(&metrics::RELIABLE) + of(&metrics::FAST);
    let level = |gauge: &prometheus::IntGauge| u64::try_from(gauge.get()).unwrap_or(0);
    let own = Process(std::process::id());
    Reading {
        at,
        connections: level(&metrics::CONNECTIONS),
        received: metrics::RECEIVED_RELIABLE.get() + metrics::RECEIVED_FAST.get(),
        delivered: both(|of| of.delivered.get()),
        stored: both(|of| of.stored.get()),
        dropped: both(|of| of.dropped.get()),
        relayed: metrics::LINK_RELAYED.get(),
        queue_bytes: level(&metrics::QUEUE_BYTES),
        inbox_envelopes: level(&metrics::INBOX_ENVELOPES),
        inbox_bytes: level(&metrics::INBOX_BYTES),
        held_envelopes: level(&metrics::HELD_ENVELOPES),
        commits: metrics::COMMIT_SECONDS.get_sample_count(),
        commit_us: (metrics::COMMIT_SECONDS.get_sample_sum() * 1e6) as u64,
        cpu_us: own.cpu().map_or(0, |cpu| cpu.as_micros() as u64),
        memory_bytes: own.resident().unwrap_or(0),
    }
}
