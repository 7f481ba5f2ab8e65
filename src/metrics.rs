//! Every figure that `/metrics` shows, in one place, as static handles: counting is one atomic addition.
//!
//! Names follow Prometheus' conventions: base units (bytes, seconds), `_total` for counters. Labels come from small
//! fixed sets, never from ids of clients, so that a client cannot grow the page; the servers of the mesh are such a set.

use std::sync::LazyLock;

use prometheus::{
    Encoder, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, TextEncoder, register_histogram,
    register_int_counter, register_int_counter_vec, register_int_gauge, register_int_gauge_vec,
};

/// Counters that are on the page from the start, at zero, so that a graph does not begin with the first fault.
fn announce() {
    LazyLock::force(&RELIABLE);
    LazyLock::force(&FAST);
    LazyLock::force(&RECEIVED_RELIABLE);
    LazyLock::force(&RECEIVED_FAST);
    for gauge in [
        &CONNECTIONS,
        &QUEUE_BYTES,
        &INBOX_ENVELOPES,
        &INBOX_BYTES,
        &COMMIT_QUEUE_BYTES,
        &PUSH_QUEUE,
        &SESSIONS,
        &HELD_ENVELOPES,
        &HELD_BYTES,
        &LINKS,
        &SERVERS,
        &MEMBERS,
        &ATTACHMENTS_ELSEWHERE,
    ] {
        LazyLock::force(gauge);
    }
    for counter in [
        &CONNECTIONS_TOTAL,
        &NOTICES_DROPPED,
        &STORE_FAILURES,
        &STORE_MOVED_ASIDE,
        &TOPOLOGY_RECOMPUTATIONS,
        &HELD_REFUSED,
        &FAST_REPLACED,
    ] {
        LazyLock::force(counter);
    }
    for family in [
        &CLOSED,
        &REFUSED,
        &ADMISSIONS_REFUSED,
        &DIVERTED,
        &INBOX_DROPPED,
        &PUSHES,
        &AUTH_FAILURES,
        &LINK_FRAMES_REFUSED,
        &LINK_ENDS,
        &LINK_FAILURES,
        &FLOODS,
    ] {
        LazyLock::force(family);
    }
    for histogram in [&COMMIT_SECONDS, &COMMIT_WRITES] {
        LazyLock::force(histogram);
    }
}

macro_rules! metric {
    ($name:ident: IntCounter, $text:literal, $help:literal) => {
        #[doc = $help]
        pub static $name: LazyLock<IntCounter> =
            LazyLock::new(|| register_int_counter!($text, $help).expect("each metric is registered once"));
    };
    ($name:ident: IntGauge, $text:literal, $help:literal) => {
        #[doc = $help]
        pub static $name: LazyLock<IntGauge> =
            LazyLock::new(|| register_int_gauge!($text, $help).expect("each metric is registered once"));
    };
    ($name:ident: IntCounterVec[$($label:literal),+], $text:literal, $help:literal) => {
        #[doc = $help]
        pub static $name: LazyLock<IntCounterVec> =
            LazyLock::new(|| register_int_counter_vec!($text, $help, &[$($label),+]).expect("each metric is registered once"));
    };
    ($name:ident: IntGaugeVec[$($label:literal),+], $text:literal, $help:literal) => {
        #[doc = $help]
        pub static $name: LazyLock<IntGaugeVec> =
            LazyLock::new(|| register_int_gauge_vec!($text, $help, &[$($label),+]).expect("each metric is registered once"));
    };
    ($name:ident: Histogram[$($bucket:expr),+], $text:literal, $help:literal) => {
        #[doc = $help]
        pub static $name: LazyLock<Histogram> =
            LazyLock::new(|| register_histogram!($text, $help, vec![$($bucket),+]).expect("each metric is registered once"));
    };
}

metric!(CONNECTIONS: IntGauge, "sparkmesh_connections", "Edges open now");
metric!(CONNECTIONS_TOTAL: IntCounter, "sparkmesh_connections_total", "Edges opened since the start");
metric!(CLOSED: IntCounterVec["reason"], "sparkmesh_closed_total", "Edges closed, by close reason");
metric!(ENVELOPES: IntCounterVec["feature", "outcome"], "sparkmesh_envelopes_total",
    "Deliveries by class (reliable, fast) and outcome (delivered, stored, dropped, failed, duplicate)");
metric!(NOTICES_DROPPED: IntCounter, "sparkmesh_notices_dropped_total",
    "Frames of the server's own that found no room or no edge");
metric!(FAST_REPLACED: IntCounter, "sparkmesh_fast_replaced_total",
    "FAST envelopes that were not sent because a newer one of the same sender and collapse key took their place in an outbox");
metric!(RECEIVED: IntCounterVec["feature"], "sparkmesh_received_total", "Envelopes taken from senders, by class");
metric!(ADMISSIONS_REFUSED: IntCounterVec["came"], "sparkmesh_admissions_refused_total",
    "Handshakes refused because too many came at once (offered, direct)");
metric!(REFUSED: IntCounterVec["reason"], "sparkmesh_refused_total", "Frames, requests and connections refused, by error word");
metric!(QUEUE_BYTES: IntGauge, "sparkmesh_queue_bytes", "Bytes in all outboxes, unacknowledged ones included");
metric!(DIVERTED: IntCounterVec["reason"], "sparkmesh_diverted_total",
    "Envelopes moved from an outbox to the inbox (overflow, stalled, broken)");
metric!(INBOX_ENVELOPES: IntGauge, "sparkmesh_inbox_envelopes", "Envelopes waiting in the inboxes that are in memory");
metric!(INBOX_BYTES: IntGauge, "sparkmesh_inbox_bytes", "Bytes waiting in the inboxes that are in memory");
metric!(INBOX_DROPPED: IntCounterVec["reason"], "sparkmesh_inbox_dropped_total",
    "Envelopes that left an inbox unread (limit, expired, collapsed, damaged)");
metric!(COMMIT_SECONDS: Histogram[0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0],
    "sparkmesh_commit_seconds", "Time of one durable group commit");
metric!(COMMIT_WRITES: Histogram[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0], "sparkmesh_commit_writes", "Writes in one group commit");
metric!(COMMIT_QUEUE_BYTES: IntGauge, "sparkmesh_commit_queue_bytes", "Bytes waiting for the committer");
metric!(STORE_BYTES: IntGaugeVec["kind"], "sparkmesh_store_bytes", "Bytes of the store (live, disk)");
metric!(STORE_FAILURES: IntCounter, "sparkmesh_store_failures_total", "Commits that failed");
metric!(STORE_MOVED_ASIDE: IntCounter, "sparkmesh_store_moved_aside_total", "Stores that had lost something at start: moved aside, or what was left kept, under a new epoch");
metric!(PUSHES: IntCounterVec["provider", "outcome"], "sparkmesh_pushes_total",
    "Notifications by provider and outcome (`sent`, `retried`, `dead_token`, `refused`, `gave_up`, `throttled`, `broken`, `dropped`)");
metric!(PUSH_QUEUE: IntGauge, "sparkmesh_push_queue", "Notifications waiting to be pushed");
metric!(AUTH_FAILURES: IntCounterVec["reason"], "sparkmesh_auth_failures_total", "Keys refused, by reason");
metric!(SESSIONS: IntGauge, "sparkmesh_sessions", "Sessions this server keeps");

metric!(HOME_ASKED: IntGauge, "sparkmesh_home_questions", "Questions to homes at other servers that are not answered yet");
metric!(HOME_APPENDING_BYTES: IntGauge, "sparkmesh_home_appending_bytes", "Bytes on their way to inboxes at other servers");
metric!(GATED_BYTES: IntGauge, "sparkmesh_gated_bytes", "Bytes of messages that wait until it is known which devices a client has");
metric!(POSTED_BYTES: IntGauge, "sparkmesh_posted_bytes", "Bytes of envelopes to sessions and clients that other servers see to, not answered for yet");
metric!(HELD_ENVELOPES: IntGauge, "sparkmesh_held_envelopes", "Envelopes held for inboxes whose home cannot be reached");
metric!(HELD_BYTES: IntGauge, "sparkmesh_held_bytes", "Bytes held for inboxes whose home cannot be reached");
metric!(HELD_REFUSED: IntCounter, "sparkmesh_held_refused_total", "Envelopes that were not held: too much was held already");
metric!(LINKS: IntGauge, "sparkmesh_links", "Links to other servers open now");
metric!(LINK_QUEUE_BYTES: IntGaugeVec["peer"], "sparkmesh_link_queue_bytes", "Bytes that wait for a link");
metric!(LINK_BYTES: IntCounterVec["peer", "direction"], "sparkmesh_link_bytes_total", "Bytes of the frames of a link (in, out)");
metric!(LINK_FRAMES: IntCounterVec["peer"], "sparkmesh_link_frames_total", "Frames that came over a link");
metric!(LINK_RTT: IntGaugeVec["peer"], "sparkmesh_link_rtt_microseconds", "Smoothed round trip of a link");
metric!(LINK_FRAMES_REFUSED: IntCounterVec["urgency"], "sparkmesh_link_frames_refused_total", "Frames that found no room in a link's queue (data, control)");
metric!(LINK_ENDS: IntCounterVec["reason"], "sparkmesh_link_ends_total",
    "Links that ended (`closed`, `lost`, `silent`, `broken`, `told`, `overflow`)");
metric!(LINK_FAILURES: IntCounterVec["reason"], "sparkmesh_link_failures_total",
    "Greetings that came to nothing, of links dialled and accepted (`unreachable`, `timeout`, `secret`, `version`, `own_id`, `refused`, `malformed`)");

metric!(LINK_CLOCK_OFFSET: IntGaugeVec["peer"], "sparkmesh_link_clock_offset_milliseconds", "How far the clock of a linked server is ahead of ours");
metric!(SERVERS: IntGauge, "sparkmesh_servers", "Servers that can be reached, this one included");
metric!(MEMBERS: IntGauge, "sparkmesh_members", "Servers that are members of the mesh");
metric!(ATTACHMENTS_ELSEWHERE: IntGauge, "sparkmesh_attachments_elsewhere", "Devices known to be attached at other servers");
metric!(TOPOLOGY_RECOMPUTATIONS: IntCounter, "sparkmesh_topology_recomputations_total", "How often the ways to all servers were computed");
metric!(FLOODS: IntCounterVec["what"], "sparkmesh_floods_total",
    "Announcements told to the neighbours, our own and passed on (record, delta, members, digests, snapshot)");

/// The outcomes of one class, looked up once.
pub struct Outcomes {
    pub delivered: IntCounter,
    pub stored: IntCounter,
    pub dropped: IntCounter,
    pub failed: IntCounter,
    /// Came again, and was not delivered again.
    pub duplicate: IntCounter,
}

impl Outcomes {
    fn of(feature: &str) -> Self {
        let outcome = |outcome| ENVELOPES.with_label_values(&[feature, outcome]);
        Self {
            delivered: outcome("delivered"),
            stored: outcome("stored"),
            dropped: outcome("dropped"),
            failed: outcome("failed"),
            duplicate: outcome("duplicate"),
        }
    }
}

pub static RELIABLE: LazyLock<Outcomes> = LazyLock::new(|| Outcomes::of("reliable"));
pub static FAST: LazyLock<Outcomes> = LazyLock::new(|| Outcomes::of("fast"));
pub static RECEIVED_RELIABLE: LazyLock<IntCounter> = LazyLock::new(|| RECEIVED.with_label_values(&["reliable"]));
pub static RECEIVED_FAST: LazyLock<IntCounter> = LazyLock::new(|| RECEIVED.with_label_values(&["fast"]));

/// The page in Prometheus' text format, and its content type.
pub fn page() -> (String, &'static str) {
    announce();
    let mut page = Vec::new();
    // Encoding into memory fails only on a metric without a name, which registration refuses.
    let _ = TextEncoder::new().encode(&prometheus::gather(), &mut page);
    (String::from_utf8_lossy(&page).into_owned(), prometheus::TEXT_FORMAT)
}
metric!(LINK_DROPPED: IntCounterVec["reason"], "sparkmesh_link_dropped_total",
    "Frames to other servers that were not passed on and are sent again (no link, full, no way, unreadable)");
metric!(LINK_REPEATED: IntCounter, "sparkmesh_link_repeated_total", "Frames of other servers that came again, or too early");
metric!(LINK_RELAYED: IntCounter, "sparkmesh_link_relayed_total", "Frames passed on from one server to another");
