//! Any value that servers may send each other.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::model::attachments::{Attachment, Change, Delta, Digest, Snapshot};
use crate::model::codes::{Code, Refusal};
use crate::model::custody::{Acquaintance, Counts, Outcome};
use crate::model::decide::Sender;
use crate::model::frames::{Carried, Carry, Denial, Dispatch, EdgeWish, Errand, Fate, Hop, MAX_HOPS, Recipient, Stop};
use crate::model::ids::{ClientId, EnvelopeId, Incarnation, Millis, NodeId, Seq, SessionId};
use crate::model::lane::{End, Why};
use crate::model::members::{Admission, Members};
use crate::model::outbox::{Class, Keep, Prompt};
use crate::model::seen::Key;
use crate::model::session::Role;
use crate::model::topology::{About, Address, LinkState, Load, Record, Scheme, Standing};
use crate::wire::frame;

pub(super) use proptest::prelude::any;

/// An envelope as an edge sends it on.
pub(super) fn deliver(recipients: usize, text: &str) -> Dispatch {
    let recipient = |n| Recipient {
        device: format!("device-{n}").parse().unwrap(),
        number: n as u64,
        shown: None,
        known: Seq(0),
        way: 1,
    };
    let keep = Keep {
        sender: "alice".parse().unwrap(),
        id: "m-1".parse().unwrap(),
        collapse: None,
        kind: 1,
        timestamp: Millis(1_700_000_000_000),
        session: None,
        prompt: Prompt::Soon,
    };
    let envelope = Carried {
        encoded: frame::text(text),
        key: None,
        seq: None,
        class: Class::Reliable,
        ttl: Some(60_000),
        keep: Arc::new(keep),
    };
    Dispatch::Deliver { recipients: (0..recipients).map(recipient).collect(), envelope }
}

/// Of every length that a number has on the wire.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..200,
        any::<u64>(),
        (0u32..64).prop_map(|bits| 1 << bits),
        (0u32..64).prop_map(|bits| (1 << bits) - 1)
    ]
}

fn session_id() -> impl Strategy<Value = SessionId> {
    "[a-z]{1,9}".prop_map(|id| id.parse().unwrap())
}

fn seq() -> impl Strategy<Value = Seq> {
    number().prop_map(Seq)
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    number().prop_map(Incarnation)
}

fn key() -> impl Strategy<Value = Key> {
    any::<u128>().prop_map(Key)
}

fn node() -> impl Strategy<Value = NodeId> {
    prop_oneof!["[A-Za-z0-9_.:@-]{1,20}", "[a-z]{1}".prop_map(|id| id.repeat(128))].prop_map(|id| id.parse().unwrap())
}

fn client() -> impl Strategy<Value = ClientId> {
    "[a-z]{1,9}".prop_map(|id| id.parse().unwrap())
}

fn envelope_id() -> impl Strategy<Value = EnvelopeId> {
    "\\PC{1,64}".prop_map(|id| id.parse().unwrap())
}

fn attachment() -> impl Strategy<Value = Attachment> {
    (node(), option::of(client()), number()).prop_map(|(device, client, number)| Attachment { device, client, number })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![attachment().prop_map(Change::Attached), node().prop_map(Change::Detached)]
}

fn digest() -> impl Strategy<Value = Digest> {
    (node(), incarnation(), number()).prop_map(|(server, incarnation, number)| Digest { server, incarnation, number })
}

fn address() -> impl Strategy<Value = Address> {
    let scheme = prop_oneof![Just(Scheme::Plain), Just(Scheme::Tls)];
    ("\\PC{0,20}", any::<u16>(), scheme, option::of("\\PC{0,9}"), option::of("\\PC{0,9}"))
        .prop_map(|(host, port, scheme, proxy_80_port, region)| Address { host, port, scheme, proxy_80_port, region })
}

fn about() -> impl Strategy<Value = About> {
    let load = (number(), number(), number());
    let load =
        load.prop_map(|(connections, max_connections, per_second)| Load { connections, max_connections, per_second });
    let standing = prop_oneof![
        Just(Standing::Returning),
        Just(Standing::Serving),
        Just(Standing::Draining),
        Just(Standing::Leaving),
        Just(Standing::Empty)
    ];
    (address(), load, standing, number()).prop_map(|(address, load, standing, epoch)| About {
        address,
        load,
        standing,
        epoch,
    })
}

fn record() -> impl Strategy<Value = Record> {
    let link = (node(), any::<u32>()).prop_map(|(peer, cost)| LinkState { peer, cost });
    (node(), incarnation(), number(), about(), vec(link, 0..5))
        .prop_map(|(server, incarnation, number, about, links)| Record { server, incarnation, number, about, links })
}

fn members() -> impl Strategy<Value = Members> {
    let admission = number().prop_map(|ordinal| Admission { ordinal });
    (vec((node(), admission), 0..5), vec(node(), 0..5))
        .prop_map(|(admitted, forgotten)| Members::of(admitted, forgotten))
}

/// Shorter and longer than what is copied.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..20), (any::<u8>(), 250usize..600).prop_map(|(byte, len)| vec![byte; len])]
}

fn stop() -> impl Strategy<Value = Stop> {
    (node(), number(), number(), bytes()).prop_map(|(server, generation, number, head)| Stop {
        server,
        generation,
        number,
        head: head.into(),
    })
}

pub(super) fn hop() -> impl Strategy<Value = Hop> {
    prop_oneof![
        number().prop_map(|counter| Hop::Ping { counter }),
        (number(), number()).prop_map(|(counter, clock)| Hop::Pong { counter, clock: Millis(clock) }),
        record().prop_map(|record| Hop::Record(Arc::new(record))),
        (node(), incarnation(), number(), vec(change(), 0..5)).prop_map(|(server, incarnation, from, changes)| {
            Hop::Delta(Arc::new(Delta { server, incarnation, from, changes }))
        }),
        vec(digest(), 0..5).prop_map(Hop::Digests),
        (node(), incarnation(), number(), any::<(u32, u32)>(), vec(attachment(), 0..5)).prop_map(
            |(server, incarnation, number, (part, parts), attachments)| {
                Hop::Snapshot(Arc::new(Snapshot { server, incarnation, number, part, parts, attachments }))
            }
        ),
        members().prop_map(|members| Hop::Members(Arc::new(members))),
        (0..=MAX_HOPS, node(), incarnation(), vec(stop(), 0..5), bytes()).prop_map(
            |(hops, origin, incarnation, stops, body)| {
                Hop::Carry(Carry { hops, origin, incarnation, stops, body: body.into() })
            }
        ),
        (0..=MAX_HOPS, node(), node(), incarnation(), number(), number()).prop_map(
            |(hops, to, by, incarnation, generation, number)| Hop::Acked {
                hops,
                to,
                by,
                incarnation,
                generation,
                number
            }
        ),
    ]
}

fn keep() -> impl Strategy<Value = Keep> {
    let session = option::of(session_id());
    let prompt = prop_oneof![Just(Prompt::Soon), Just(Prompt::Later)];
    (node(), envelope_id(), option::of(key()), any::<i64>(), number(), session, prompt).prop_map(
        |(sender, id, collapse, kind, timestamp, session, prompt)| Keep {
            sender,
            id,
            collapse,
            kind,
            timestamp: Millis(timestamp),
            session,
            prompt,
        },
    )
}

fn carried() -> impl Strategy<Value = Carried> {
    let text = prop_oneof!["\\PC{0,50}", Just("x".repeat(130)), Just("x".repeat(70_000))];
    let class = prop_oneof![Just(Class::Reliable), Just(Class::FastTracked), Just(Class::Fast)];
    (text, option::of(key()), option::of(seq()), class, option::of(number()), keep()).prop_map(
        |(text, key, seq, class, ttl, keep)| Carried {
            encoded: frame::text(text),
            key,
            seq,
            class,
            ttl,
            keep: Arc::new(keep),
        },
    )
}

fn recipient() -> impl Strategy<Value = Recipient> {
    (node(), number(), option::of(node()), seq(), number()).prop_map(|(device, number, shown, known, way)| Recipient {
        device,
        number,
        shown,
        known,
        way,
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Delivered), Just(Outcome::Stored), Just(Outcome::Dropped), Just(Outcome::Failed)]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![outcome().prop_map(Fate::Settled), Just(Fate::Elsewhere)]
}

fn acquaintance() -> impl Strategy<Value = Acquaintance> {
    prop_oneof![Just(Acquaintance::Known), Just(Acquaintance::Unknown)]
}

fn why() -> impl Strategy<Value = Why> {
    prop_oneof![Just(Why::Absent), Just(Why::Stalled), Just(Why::Silent), Just(Why::Overflow), Just(Why::Behind)]
}

fn errand() -> impl Strategy<Value = Errand> {
    prop_oneof![seq().prop_map(Errand::Remove), seq().prop_map(Errand::Trim), key().prop_map(Errand::Acknowledge)]
}

fn sender() -> impl Strategy<Value = Sender> {
    let role = prop_oneof![Just(Role::Device), Just(Role::App), Just(Role::Admin)];
    (node(), option::of(client()), role).prop_map(|(node, client, role)| Sender { node, client, role })
}

fn counts() -> impl Strategy<Value = Counts> {
    any::<(u32, u32, u32, u32)>().prop_map(|(delivered, stored, dropped, failed)| Counts {
        delivered,
        stored,
        dropped,
        failed,
    })
}

fn denial() -> impl Strategy<Value = Denial> {
    prop_oneof![
        Just(Denial::Unauthorized),
        Just(Denial::NoSession),
        node().prop_map(Denial::NoMember),
        (prop::sample::select(Code::ALL.to_vec()), "\\PC{0,50}")
            .prop_map(|(code, message)| Denial::Refusal(Refusal { code, message })),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Reached), Just(End::More), Just(End::Away)]
}

pub(super) fn dispatch() -> impl Strategy<Value = Dispatch> {
    prop_oneof![
        2 => (vec(recipient(), 0..5), carried())
            .prop_map(|(recipients, envelope)| Dispatch::Deliver { recipients, envelope }),
        1 => vec((number(), fate()), 0..5).prop_map(Dispatch::Fates),
        1 => (number(), node(), acquaintance())
            .prop_map(|(number, shown, acquaintance)| Dispatch::Away { number, shown, acquaintance }),
        1 => (number(), node(), option::of(node()), why(), carried()).prop_map(
            |(number, device, shown, why, envelope)| Dispatch::Append { number, device, shown, why, envelope }
        ),
        1 => (number(), option::of(seq()), acquaintance())
            .prop_map(|(number, seq, acquaintance)| Dispatch::Appended { number, seq, acquaintance }),
        1 => (node(), errand()).prop_map(|(device, errand)| Dispatch::Errand { device, errand }),
        1 => (number(), node(), seq(), number())
            .prop_map(|(number, device, from, room)| Dispatch::Read { number, device, from, room }),
        1 => (number(), carried()).prop_map(|(number, envelope)| Dispatch::PageItem { number, envelope }),
        1 => (number(), end()).prop_map(|(number, end)| Dispatch::Page { number, end }),
        1 => (node(), seq()).prop_map(|(device, seq)| Dispatch::Stored { device, seq }),
        1 => (number(), client()).prop_map(|(number, client)| Dispatch::Devices { number, client }),
        1 => (number(), vec(node(), 0..5)).prop_map(|(number, devices)| Dispatch::DevicesAre { number, devices }),
        1 => (number(), sender(), envelope_id(), bytes()).prop_map(
            |(number, sender, id, text)| Dispatch::ToSession { number, sender, id, text: text.into() }
        ),
        1 => (number(), counts()).prop_map(|(number, counts)| Dispatch::Verdict { number, counts }),
        1 => (number(), denial()).prop_map(|(number, why)| Dispatch::Refused { number, why }),
        1 => (node(), bytes()).prop_map(|(device, frame)| Dispatch::Notify { device, frame: frame.into() }),
        1 => (number(), node(), any::<bool>()).prop_map(|(number, device, close)| {
            let wish = if close { EdgeWish::Close } else { EdgeWish::Count };
            Dispatch::Edges { number, device, wish }
        }),
        1 => (number(), number()).prop_map(|(number, edges)| Dispatch::EdgesAre { number, edges }),
        1 => (number(), session_id()).prop_map(|(number, session)| Dispatch::Gathering { number, session }),
        1 => (number(), vec((node(), number()), 0..4))
            .prop_map(|(number, servers)| Dispatch::GatheringIs { number, servers }),
        1 => (number(), bytes()).prop_map(|(number, question)| Dispatch::Ask { number, question: question.into() }),
        1 => (number(), bytes()).prop_map(|(number, answer)| Dispatch::Reply { number, answer: answer.into() }),
    ]
}
