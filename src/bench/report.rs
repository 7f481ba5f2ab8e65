//! What was measured, as a row of a table and as a record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::histogram::Histogram;
use super::meter::{Ended, Meter};
use super::tally::Counts;
use crate::process::Process;

/// What the processes had cost at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    server: Option<Process>,
    server_cpu: Option<Duration>,
    load_cpu: Option<Duration>,
    resident: Option<u64>,
}

impl Costs {
    pub(super) fn of(server: Option<Process>) -> Self {
        Self {
            server,
            server_cpu: server.and_then(Process::cpu),
            load_cpu: Process(std::process::id()).cpu(),
            resident: server.and_then(Process::resident),
        }
    }
}

/// What a scenario was asked to do.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Shape {
    pub(super) connections: u64,
    /// Messages in flight of each sender; 0 where it means nothing.
    pub(super) window: u32,
    /// Bytes of a payload; 0 where it means nothing.
    pub(super) size: usize,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Latency {
    fn of(seen: &Histogram) -> Self {
        let at = |share| seen.quantile(share) as f64 / 1000.0;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: seen.max() as f64 / 1000.0 }
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Record {
    pub(super) scenario: &'static str,
    /// What is counted.
    pub(super) unit: &'static str,
    pub(super) ended: Ended,
    #[serde(flatten)]
    pub(super) shape: Shape,
    pub(super) expected: u64,
    pub(super) done: u64,
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    pub(super) latency_us: Latency,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    /// Connections that ended before their time.
    pub(super) broken: u64,
    pub(super) server_cpu_us_each: Option<f64>,
    pub(super) load_cpu_us_each: Option<f64>,
    pub(super) server_resident_bytes: Option<u64>,
    /// What the connections of this measurement added, divided among them.
    pub(super) resident_bytes_per_connection: Option<u64>,
    /// Frames that were no messages of the load, by type.
    pub(super) other_frames: BTreeMap<i64, u64>,
    /// The server's first complaint, in its words.
    pub(super) complaint: Option<String>,
}

/// One measurement, before it is summed up.
pub(super) struct Measured<'a> {
    pub(super) scenario: &'static str,
    pub(super) unit: &'static str,
    pub(super) shape: Shape,
    pub(super) meter: &'a Meter,
    pub(super) ended: Ended,
    /// On the meter's clock, in nanoseconds.
    pub(super) began: u64,
    pub(super) counts: Counts,
    /// Before the first connection.
    pub(super) empty: Costs,
    pub(super) before: Costs,
    pub(super) after: Costs,
}

impl Measured<'_> {
    pub(super) fn sum_up(self) -> Record {
        let Self { meter, shape, before, after, empty, .. } = self;
        let done = meter.done();
        let seconds = meter.last().saturating_sub(self.began) as f64 / 1e9;
        let each = |now: Option<Duration>, then: Option<Duration>| {
            Some((now?.saturating_sub(then?)).as_secs_f64() * 1e6 / done.max(1) as f64)
        };
        let added = after.resident.zip(empty.resident).map(|(now, then)| now.saturating_sub(then));
        let remarks = meter.remarks();
        Record {
            scenario: self.scenario,
            unit: self.unit,
            ended: self.ended,
            shape,
            expected: meter.goal(),
            done,
            seconds,
            per_second: if seconds > 0.0 { done as f64 / seconds } else { 0.0 },
            latency_us: Latency::of(&meter.latency.borrow()),
            lost: meter.goal().saturating_sub(done),
            duplicates: self.counts.duplicates,
            reordered: self.counts.reordered,
            broken: meter.broken(),
            server_cpu_us_each: after.server.and_then(|_| each(after.server_cpu, before.server_cpu)),
            load_cpu_us_each: each(after.load_cpu, before.load_cpu),
            server_resident_bytes: after.resident,
            resident_bytes_per_connection: added.map(|added| added / shape.connections.max(1)),
            other_frames: remarks.frames,
            complaint: remarks.first,
        }
    }
}

/// The table's first line.
pub(super) fn header() -> String {
    format!(
        "{:<12} {:>7} {:>4} {:>10} {:>8} {:>10} {:>9} {:>9} {:>9} {:>9} {:>6} {:>5} {:>7} {:>8} {:>8}",
        "scenario",
        "conns",
        "win",
        "done",
        "seconds",
        "per s",
        "p50",
        "p90",
        "p99",
        "max",
        "lost",
        "dup",
        "cpu us",
        "RSS MB",
        "KB/conn"
    )
}

/// One line of the table, and one more for each thing that went wrong.
pub(super) fn row(record: &Record) -> String {
    let latency = record.latency_us;
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut row = format!(
        "{:<12} {:>7} {:>4} {:>10} {:>8.2} {:>10.0} {:>9} {:>9} {:>9} {:>9} {:>6} {:>5} {:>7} {:>8} {:>8}",
        record.scenario,
        record.shape.connections,
        record.shape.window,
        record.done,
        record.seconds,
        record.per_second,
        time(latency.p50),
        time(latency.p90),
        time(latency.p99),
        time(latency.max),
        record.lost,
        record.duplicates,
        or_dash(record.server_cpu_us_each.map(|us| format!("{us:.2}"))),
        or_dash(record.server_resident_bytes.map(|bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)))),
        or_dash(record.resident_bytes_per_connection.map(|bytes| format!("{:.1}", bytes as f64 / 1024.0))),
    );
    // Writing to a string cannot fail.
    if record.ended != Ended::Complete || record.broken > 0 || record.reordered > 0 {
        let _ = write!(
            row,
            "\n  {:?}: {} of {} {}, {} out of order, {} connections broke",
            record.ended, record.done, record.expected, record.unit, record.reordered, record.broken
        );
    }
    if let Some(complaint) = &record.complaint {
        let _ = write!(row, "\n  the first complaint: {}", complaint.escape_debug());
    }
    row
}

/// Microseconds, in the unit that reads best.
fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1000.0),
        us => format!("{:.2} s", us / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(meter: &Meter, ended: Ended) -> Record {
        let costs = Costs { server: None, server_cpu: None, load_cpu: None, resident: None };
        let known = |cpu, resident| Costs {
            server: Some(Process(1)),
            server_cpu: Some(Duration::from_micros(cpu)),
            load_cpu: None,
            resident: Some(resident),
        };
        let shape = Shape { connections: 2, window: 1, size: 1000 };
        let counts = Counts::default();
        let (empty, before, after) = match ended {
            Ended::Complete => (known(0, 1000), known(100, 0), known(300, 9000)),
            _ => (costs, costs, costs),
        };
        let (scenario, unit) = ("pairs", "messages");
        Measured { scenario, unit, shape, meter, ended, began: 1_000_000_000, counts, empty, before, after }.sum_up()
    }

    #[test]
    fn figures_are_per_message_and_per_connection() {
        let meter = Meter::new(4);
        (0..4).for_each(|_| meter.advance(2_000_000_000, 1_500_000));
        let record = measured(&meter, Ended::Complete);
        assert_eq!((record.done, record.lost), (4, 0));
        assert!((record.per_second - 4.0).abs() < 1e-9 && (record.seconds - 1.0).abs() < 1e-9);
        assert_eq!(record.server_cpu_us_each, Some(50.0));
        assert_eq!(record.resident_bytes_per_connection, Some(4000));
        let row = row(&record);
        assert!(row.contains("1.50 ms") && !row.contains('\n'), "{row}");
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!((&json["window"], &json["ended"]), (&1.into(), &"complete".into()));
    }

    #[test]
    fn what_went_wrong_is_under_the_row() {
        let meter = Meter::new(4);
        meter.remark(b"\x1b[2J");
        let record = measured(&meter, Ended::Stalled);
        assert_eq!((record.lost, record.server_cpu_us_each), (4, None));
        let row = row(&record);
        assert!(row.contains("0 of 4 messages") && row.contains("complaint") && !row.contains('\u{1b}'), "{row}");
    }
}
