//! `inbox`: publishers write to devices that are away, each with a window of messages without a confirmation; then the
//! devices come and drain what waits. Two rows: stored (a CONFIRMATION says so) and drained.

use std::rc::Rc;
use std::task::Context;

use serde::Deserialize;

use super::meter::Meter;
use super::report::{Costs, Measured, Record, Shape};
use super::run::Run;
use super::socket::Peer;
use super::stamp::{self, Confirmed, Mark, Template};
use super::tally::{Arrival, Counts, Stream};
use super::{BenchError, Load};
use crate::client::offer::InboxMode;
use crate::model::codes::kind;

/// Messages to devices that are away, stored and then drained
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Devices that are away
    #[arg(long, default_value_t = 100)]
    pub devices: u32,
    /// Messages for each device
    #[arg(long, default_value_t = 500)]
    pub messages: u32,
    /// Devices that write to them
    #[arg(long, default_value_t = 8)]
    pub publishers: u32,
    /// Messages of each publisher without a confirmation
    #[arg(long, default_value_t = 32)]
    pub window: u32,
    #[command(flatten)]
    pub load: Load,
}

impl Args {
    fn total(&self) -> u32 {
        self.devices.saturating_mul(self.messages)
    }

    /// Messages that publisher `index` sends.
    fn quota(&self, index: u32) -> u32 {
        self.total() / self.publishers + u32::from(index < self.total() % self.publishers)
    }

    /// Whom the `turn`-th message of publisher `index` is for: all publishers together go round the devices.
    fn device(&self, index: u32, turn: u32) -> u32 {
        let overall = u64::from(turn) * u64::from(self.publishers) + u64::from(index);
        (overall % u64::from(self.devices)) as u32
    }
}

struct Publisher {
    args: Args,
    index: u32,
    /// One for each device.
    to: Rc<Vec<Template>>,
    /// By reference, which is the turn: when it was sent.
    sent_at: Vec<u64>,
    confirmed: Stream,
    free: u32,
    quota: u32,
}

impl Publisher {
    fn send(&mut self, now: u64, out: &mut Vec<u8>) {
        let turn = self.sent_at.len() as u32;
        if turn >= self.quota || self.free == 0 {
            return;
        }
        let device = self.args.device(self.index, turn);
        self.to[device as usize].write(Mark { source: self.index, number: turn, sent: now }, turn, out);
        self.sent_at.push(now);
        self.free -= 1;
    }
}

/// As much of a CONFIRMATION as counts here.
#[derive(Deserialize)]
struct Confirmation<'a> {
    #[serde(rename = "type")]
    kind: i64,
    reference: &'a str,
    status: &'a str,
}

impl Peer for Publisher {
    fn wake(&mut self, _: &mut Context<'_>, meter: &Meter, out: &mut Vec<u8>) {
        while self.free > 0 && (self.sent_at.len() as u32) < self.quota {
            self.send(meter.now(), out);
        }
    }

    fn hear(&mut self, text: &[u8], now: u64, meter: &Meter, out: &mut Vec<u8>) {
        let turn = match serde_json::from_slice::<Confirmation<'_>>(text) {
            Ok(told) if told.kind == kind::CONFIRMATION && told.status == "stored" => stamp::reference(told.reference),
            _ => None,
        };
        let Some(turn) = turn else { return meter.remark(text) };
        let Some(sent) = self.sent_at.get(turn as usize) else { return meter.remark(text) };
        if self.confirmed.take(turn) == Arrival::First {
            meter.advance(now, now.saturating_sub(*sent));
            self.free += 1;
            self.send(now, out);
        }
    }
}

struct Reader {
    /// One for each publisher; its numbers are that publisher's turns, of which this device gets some.
    from: Vec<Stream>,
    opened: u64,
    hint: usize,
}

impl Peer for Reader {
    fn wake(&mut self, _: &mut Context<'_>, _: &Meter, _: &mut Vec<u8>) {}

    fn hear(&mut self, text: &[u8], now: u64, meter: &Meter, _: &mut Vec<u8>) {
        let Some(mark) = stamp::find(text, &mut self.hint) else { return meter.remark(text) };
        let Some(stream) = self.from.get_mut(mark.source as usize) else { return meter.remark(text) };
        if stream.take(mark.number) == Arrival::First {
            meter.advance(now, now.saturating_sub(self.opened));
        }
    }
}

pub(super) async fn run(args: &Args, run: &Run) -> Result<[Record; 2], BenchError> {
    if args.devices == 0 || args.publishers == 0 || args.window == 0 {
        return Err(BenchError::Unfit("--devices, --publishers and --window must be at least 1".to_owned()));
    }
    introduce(args, run).await?;
    let stored = store(args, run).await?;
    let drained = drain(args, run, stored.done).await?;
    Ok([stored, drained])
}

/// Connects each device once: for ids never seen little is kept.
async fn introduce(args: &Args, run: &Run) -> Result<(), BenchError> {
    let meter = Rc::new(Meter::new(u64::from(args.devices)));
    for socket in run.target.open_in_order("away", args.devices as usize, &meter).await? {
        socket.close().await;
    }
    Ok(())
}

async fn store(args: &Args, run: &Run) -> Result<Record, BenchError> {
    let meter = Rc::new(Meter::new(u64::from(args.total())));
    let _shown = run.progress.show("inbox store", &meter);
    let size = args.load.size()?;
    let template = |device: u32| {
        let fields = format!(r#""dest_id":"{}","type":1"#, run.target.name("away", device as usize));
        Template::new(&fields, size, Confirmed::Yes)
    };
    let to: Rc<Vec<Template>> = Rc::new((0..args.devices).map(template).collect());
    let empty = Costs::of(run.target.process);
    let sockets = run.target.open_in_order("publisher", args.publishers as usize, &meter).await?;
    let before = Costs::of(run.target.process);
    let began = meter.now();
    let mut publishers = tokio::task::JoinSet::new();
    for (index, socket) in (0..).zip(sockets) {
        let quota = args.quota(index);
        let publisher = Publisher {
            args: args.clone(),
            index,
            to: to.clone(),
            sent_at: Vec::with_capacity(quota as usize),
            confirmed: Stream::new(quota),
            free: args.window,
            quota,
        };
        meter.opened();
        publishers.spawn_local(socket.drive(publisher, meter.clone()));
    }
    let ended = meter.end(run.limit).await;
    let after = Costs::of(run.target.process);
    run.hang_up(&meter).await;
    let mut counts = Counts::default();
    // Confirmations have no order to keep.
    publishers.join_all().await.iter().for_each(|publisher| counts.add(publisher.confirmed.counts()));
    counts.reordered = 0;
    let shape = Shape { connections: u64::from(args.publishers), window: args.window, size: args.load.size };
    let (scenario, unit) = ("inbox store", "stored messages");
    Ok(Measured { scenario, unit, shape, meter: &meter, ended, began, counts, empty, before, after }.sum_up())
}

async fn drain(args: &Args, run: &Run, stored: u64) -> Result<Record, BenchError> {
    let meter = Rc::new(Meter::new(stored));
    let _shown = run.progress.show("inbox drain", &meter);
    let empty = Costs::of(run.target.process);
    let began = meter.now();
    let mut readers = tokio::task::JoinSet::new();
    let opening = run.target.open_all("away", args.devices as usize, InboxMode::Auto, &meter, |_, socket, took| {
        let from = (0..args.publishers).map(|index| Stream::new(args.quota(index))).collect();
        let reader = Reader { from, opened: meter.now() - took, hint: 0 };
        meter.opened();
        readers.spawn_local(socket.drive(reader, meter.clone()));
    });
    opening.await?;
    let ended = meter.end(run.limit).await;
    let after = Costs::of(run.target.process);
    run.hang_up(&meter).await;
    let mut counts = Counts::default();
    for reader in readers.join_all().await {
        reader.from.iter().for_each(|stream| counts.add(stream.counts()));
    }
    let shape = Shape { connections: u64::from(args.devices), window: 0, size: args.load.size };
    let (scenario, unit) = ("inbox drain", "drained messages");
    Ok(Measured { scenario, unit, shape, meter: &meter, ended, began, counts, empty, before: empty, after }.sum_up())
}
