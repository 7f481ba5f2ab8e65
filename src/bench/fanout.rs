//! `fanout`: one member writes to a session, with a window of messages that not all others have yet.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};

use serde_json::json;

use super::meter::Meter;
use super::report::{Costs, Measured, Record, Shape};
use super::run::Run;
use super::socket::Peer;
use super::stamp::{self, Confirmed, Mark, Template};
use super::tally::{Arrival, Counts, Stream};
use super::{BenchError, Feature, Load};

/// Messages from one to all members of a session
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Members that receive
    #[arg(long, default_value_t = 1000)]
    pub members: u32,
    /// Messages sent
    #[arg(long, default_value_t = 1000)]
    pub messages: u32,
    #[command(flatten)]
    pub load: Load,
    /// Messages that not all members have yet
    #[arg(long, default_value_t = 8)]
    pub window: u32,
    /// Class of the messages
    #[arg(long, value_enum, default_value_t = Feature::Reliable)]
    pub feature: Feature,
}

/// What sender and members share: how many members each message is still on its way to.
struct Window {
    missing: Vec<u32>,
    free: u32,
    sender: Option<Waker>,
}

impl Window {
    fn arrived(&mut self, number: u32) {
        let missing = &mut self.missing[number as usize];
        *missing -= 1;
        if *missing == 0 {
            self.free += 1;
            if let Some(sender) = self.sender.take() {
                sender.wake();
            }
        }
    }
}

struct Sender {
    to_session: Template,
    window: Rc<RefCell<Window>>,
    sent: u32,
}

struct Member {
    from_sender: Stream,
    window: Rc<RefCell<Window>>,
    hint: usize,
}

/// One of both: a task's peer is of one type.
enum Device {
    Sender(Sender),
    Member(Member),
}

impl Peer for Device {
    fn wake(&mut self, cx: &mut Context<'_>, meter: &Meter, out: &mut Vec<u8>) {
        let Self::Sender(sender) = self else { return };
        let mut window = sender.window.borrow_mut();
        while window.free > 0 && (sender.sent as usize) < window.missing.len() {
            let mark = Mark { source: 0, number: sender.sent, sent: meter.now() };
            sender.to_session.write(mark, 0, out);
            sender.sent += 1;
            window.free -= 1;
        }
        window.sender = Some(cx.waker().clone());
    }

    fn hear(&mut self, text: &[u8], now: u64, meter: &Meter, _: &mut Vec<u8>) {
        let Self::Member(member) = self else { return meter.remark(text) };
        let Some(mark) = stamp::find(text, &mut member.hint) else { return meter.remark(text) };
        if member.from_sender.take(mark.number) == Arrival::First {
            meter.advance(now, now.saturating_sub(mark.sent));
            member.window.borrow_mut().arrived(mark.number);
        }
    }
}

pub(super) async fn run(args: &Args, run: &Run) -> Result<Record, BenchError> {
    if args.members == 0 {
        return Err(BenchError::Unfit("--members 0: somebody must receive".to_owned()));
    }
    let meter = Rc::new(Meter::new(u64::from(args.members) * u64::from(args.messages)));
    let _shown = run.progress.show("fanout", &meter);
    let empty = Costs::of(run.target.process);
    let count = args.members as usize + 1;
    let session = create_session(run, count).await?;
    let sockets = run.target.open_in_order("member", count, &meter).await?;
    let missing = vec![args.members; args.messages as usize];
    let window = Rc::new(RefCell::new(Window { missing, free: args.window, sender: None }));
    let fields = format!(r#""dest_session_id":"{session}","type":1,"feature":"{}""#, args.feature.word());
    let to_session = Template::new(&fields, args.load.size()?, Confirmed::No);
    let mut sender = Some(Sender { to_session, window: window.clone(), sent: 0 });
    let before = Costs::of(run.target.process);
    let began = meter.now();
    let mut devices = tokio::task::JoinSet::new();
    for socket in sockets {
        let device = match sender.take() {
            Some(sender) => Device::Sender(sender),
            None => {
                let from_sender = Stream::new(args.messages);
                Device::Member(Member { from_sender, window: window.clone(), hint: 0 })
            }
        };
        meter.opened();
        devices.spawn_local(socket.drive(device, meter.clone()));
    }
    let ended = meter.end(run.limit).await;
    let after = Costs::of(run.target.process);
    run.hang_up(&meter).await;
    let mut counts = Counts::default();
    for device in devices.join_all().await {
        if let Device::Member(member) = device {
            counts.add(member.from_sender.counts());
        }
    }
    let shape = Shape { connections: count as u64, window: args.window, size: args.load.size };
    let (scenario, unit) = ("fanout", "deliveries");
    Ok(Measured { scenario, unit, shape, meter: &meter, ended, began, counts, empty, before, after }.sum_up())
}

/// Makes the session with all its members at once, as an app may, before any of them is there to be told.
async fn create_session(run: &Run, members: usize) -> Result<String, BenchError> {
    let session = run.target.name("room", 0);
    let members: Vec<_> = (0..members).map(|index| json!({ "node_id": run.target.name("member", index) })).collect();
    let body = json!({ "session_id": session, "members": members });
    run.target.call_as_app(&["v1", "sessions"], &body).await?;
    Ok(session)
}
