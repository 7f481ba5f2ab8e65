//! `pairs`: devices two by two, each with a window of messages to the other in flight, or only the first of the two; each
//! message that arrives is answered by one, until all have sent their share.

use std::rc::Rc;
use std::task::Context;

use super::meter::Meter;
use super::report::{Costs, Measured, Record, Shape};
use super::run::Run;
use super::socket::Peer;
use super::stamp::{self, Confirmed, Mark, Template};
use super::tally::{Arrival, Counts, Stream};
use super::{BenchError, Feature, Load, at_least};

/// Which of two devices sends before it has heard from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Begins {
    Both,
    /// With a window of one: one message of a pair is under way at a time.
    One,
}

/// Messages from device to device
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Connections, an even number
    #[arg(long, default_value_t = 100, value_parser = at_least(2))]
    pub connections: u32,
    /// Messages in all
    #[arg(long, default_value_t = 200_000, value_parser = at_least(1))]
    pub messages: u32,
    #[command(flatten)]
    pub load: Load,
    /// Messages in flight per connection
    #[arg(long, default_value_t = 16, value_parser = at_least(1))]
    pub window: u32,
    /// Which of the two devices of a pair begins
    #[arg(long, value_enum, default_value_t = Begins::Both)]
    pub begins: Begins,
    /// Class of the messages
    #[arg(long, value_enum, default_value_t = Feature::Reliable)]
    pub feature: Feature,
}

struct Device {
    to_partner: Template,
    from_partner: Stream,
    source: u32,
    window: u32,
    sent: u32,
    quota: u32,
    hint: usize,
}

impl Device {
    fn send(&mut self, now: u64, out: &mut Vec<u8>) {
        if self.sent < self.quota {
            self.to_partner.write(Mark { source: self.source, number: self.sent, sent: now }, 0, out);
            self.sent += 1;
        }
    }
}

impl Peer for Device {
    fn wake(&mut self, _: &mut Context<'_>, meter: &Meter, out: &mut Vec<u8>) {
        let first = std::mem::take(&mut self.window);
        (0..first).for_each(|_| self.send(meter.now(), out));
    }

    fn hear(&mut self, text: &[u8], now: u64, meter: &Meter, out: &mut Vec<u8>) {
        let Some(mark) = stamp::find(text, &mut self.hint) else { return meter.remark(text) };
        match self.from_partner.take(mark.number) {
            Arrival::First => {
                meter.advance(now, now.saturating_sub(mark.sent));
                self.send(now, out);
            }
            Arrival::Again => {}
            Arrival::Foreign => meter.remark(text),
        }
    }
}

pub(super) async fn run(args: &Args, run: &Run) -> Result<Record, BenchError> {
    if !args.connections.is_multiple_of(2) {
        return Err(BenchError::Unfit(format!("--connections {}: pairs need an even number", args.connections)));
    }
    let quota = |index: u32| args.messages / args.connections + u32::from(index < args.messages % args.connections);
    let meter = Rc::new(Meter::new(u64::from(args.messages)));
    let _shown = run.progress.show("pairs", &meter);
    let empty = Costs::of(run.target.process);
    let sockets = run.target.open_in_order("pair", args.connections as usize, &meter).await?;
    run.target.meet(args.connections as usize).await?;
    let before = Costs::of(run.target.process);
    let began = meter.now();
    let mut devices = tokio::task::JoinSet::new();
    for (index, socket) in (0..).zip(sockets) {
        let partner = index ^ 1;
        let fields = format!(
            r#""dest_id":"{}","type":1,"feature":"{}""#,
            run.target.name("pair", partner as usize),
            args.feature.word()
        );
        let is_answerer = args.begins == Begins::One && index % 2 == 1;
        let device = Device {
            to_partner: Template::new(&fields, args.load.size()?, Confirmed::No),
            from_partner: Stream::new(quota(partner)),
            source: index,
            window: if is_answerer { 0 } else { args.window },
            sent: 0,
            quota: quota(index),
            hint: 0,
        };
        meter.opened();
        devices.spawn_local(socket.drive(device, meter.clone()));
    }
    let ended = meter.end(run.limit).await;
    let after = Costs::of(run.target.process);
    run.hang_up(&meter).await;
    let mut counts = Counts::default();
    devices.join_all().await.iter().for_each(|device| counts.add(device.from_partner.counts()));
    let shape = Shape { connections: u64::from(args.connections), window: args.window, size: args.load.size };
    let (scenario, unit) = ("pairs", "messages");
    Ok(Measured { scenario, unit, shape, meter: &meter, ended, began, counts, empty, before, after }.sum_up())
}
