//! `idle`: many connections that do nothing but answer pings. What counts is the memory of each.

use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use super::BenchError;
use super::meter::Meter;
use super::report::{Costs, Measured, Record, Shape};
use super::run::Run;
use super::socket::Peer;
use super::tally::Counts;
use crate::client::offer::InboxMode;

/// Files this process needs beside the connections.
const OTHER_FILES: u64 = 200;

/// Connections that are only there
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Connections
    #[arg(long, default_value_t = 10_000)]
    pub connections: u32,
    /// Seconds to hold them before memory is read
    #[arg(long, default_value_t = 3)]
    pub hold: u64,
}

struct Idler;

impl Peer for Idler {
    fn wake(&mut self, _: &mut Context<'_>, _: &Meter, _: &mut Vec<u8>) {}

    fn hear(&mut self, text: &[u8], _: u64, meter: &Meter, _: &mut Vec<u8>) {
        meter.remark(text);
    }
}

pub(super) async fn run(args: &Args, run: &Run) -> Result<Record, BenchError> {
    let wanted = u64::from(args.connections) + OTHER_FILES;
    let limit = rlimit::increase_nofile_limit(wanted)?;
    if limit < wanted {
        return Err(BenchError::Files { wanted, limit });
    }
    let meter = Rc::new(Meter::new(u64::from(args.connections)));
    let shown = run.progress.show("idle", &meter);
    let empty = Costs::of(run.target.process);
    let began = meter.now();
    let mut idlers = tokio::task::JoinSet::new();
    let opening =
        run.target.open_all("idle", args.connections as usize, InboxMode::Manual, &meter, |_, socket, took| {
            meter.opened();
            meter.advance(meter.now(), took);
            idlers.spawn_local(socket.drive(Idler, meter.clone()));
        });
    // Whatever was open by then is counted; the rest is what the row calls lost.
    let opened = tokio::time::timeout(run.limit, opening).await;
    if let Ok(Err(error)) = opened {
        return Err(error);
    }
    let ended = meter.end(Duration::ZERO).await;
    drop(shown);
    tokio::time::sleep(Duration::from_secs(args.hold)).await;
    let after = Costs::of(run.target.process);
    meter.stop();
    idlers.join_all().await;
    let shape = Shape { connections: meter.done(), ..Shape::default() };
    let (scenario, unit, counts) = ("idle", "connections", Counts::default());
    let before = empty;
    Ok(Measured { scenario, unit, shape, meter: &meter, ended, began, counts, empty, before, after }.sum_up())
}
