//! Data paths of several servers in one process: what one sends, another delivers, whatever happens to the way.

mod net;
mod sessions;

use bytestring::ByteString;
use net::{Net, id};
use sparkmesh::model::decide::{Decision, Sender, decide};
use sparkmesh::model::session::Role;
use sparkmesh::view::{Message, Payer, fresh_id};
use sparkmesh::wire::native::{self, Origin};

/// `from` says `json` at server `at`.
fn say(net: &Net, at: usize, from: &str, json: &str) {
    let view = &net.servers[at].view;
    let sender = Sender { node: id(from), client: None, role: Role::Device };
    let envelope = native::decode(&ByteString::from(json), Origin::Device).unwrap();
    match decide(&sender, &envelope, &**view) {
        Decision::Send { route, from, src_id, src_client_id } => {
            let id = envelope.id.clone().unwrap_or_else(fresh_id);
            let payer = Payer::Sender(sender.node, None);
            view.send(Message { envelope, route, payer, from, src_id, src_client_id, id });
        }
        other => panic!("{other:?}"),
    }
}

fn write(net: &Net, at: usize, from: &str, to: &str, number: usize) {
    let json = format!(r#"{{"dest_id":"{to}","type":1,"id":"m{number}","reference":"r{number}","payload":{number}}}"#);
    say(net, at, from, &json);
}

fn payloads(frames: &[String], kind: i64) -> Vec<usize> {
    let parsed = frames.iter().map(|frame| serde_json::from_str::<serde_json::Value>(frame).unwrap());
    parsed.filter(|value| value["type"] == kind).map(|value| value["payload"].as_u64().unwrap() as usize).collect()
}

fn confirmed(frames: &[String]) -> Vec<(String, String)> {
    let parsed = frames.iter().map(|frame| serde_json::from_str::<serde_json::Value>(frame).unwrap());
    let confirmations = parsed.filter(|value| value["type"] == -7);
    confirmations.map(|c| (c["reference"].as_str().unwrap().into(), c["status"].as_str().unwrap().into())).collect()
}

fn all(status: &str, numbers: std::ops::Range<usize>) -> Vec<(String, String)> {
    numbers.map(|number| (format!("r{number}"), status.to_owned())).collect()
}

#[test]
fn a_message_crosses_a_line_of_four_and_its_confirmation_comes_back() {
    let mut net = Net::line(4);
    net.attach("a", 0);
    net.attach("b", 3);
    (0..50).for_each(|number| write(&net, 0, "a", "b", number));
    let received = net.settle();
    assert_eq!(payloads(&received["b"], 1), (0..50).collect::<Vec<_>>());
    assert_eq!(confirmed(&received["a"]), all("delivered", 0..50));
    assert!(net.disk.appended.lock().unwrap().is_empty(), "who is there costs no disk write");
    for server in &net.servers {
        assert_eq!(server.view.mesh.unacknowledged(&id("s3")), 0);
    }
}

#[test]
fn what_was_on_a_cut_link_goes_the_other_way_once_and_in_order() {
    for moved in 0..12 {
        let mut net = Net::new(4, &[(0, 1), (1, 3), (0, 2), (2, 3)]);
        net.attach("a", 0);
        net.attach("b", 3);
        (0..20).for_each(|number| write(&net, 0, "a", "b", number));
        net.budget = Some(moved);
        net.run();
        net.cut(0, 1);
        net.cut(1, 3);
        net.budget = None;
        net.publish();
        (20..40).for_each(|number| write(&net, 0, "a", "b", number));
        let received = net.settle();
        assert_eq!(payloads(&received["b"], 1), (0..40).collect::<Vec<_>>(), "after {moved}");
        assert_eq!(confirmed(&received["a"]), all("delivered", 0..40), "after {moved}");
    }
}

#[test]
fn what_a_dead_server_held_is_stored_and_confirmed_as_such() {
    for moved in 0..8 {
        let mut net = Net::line(3);
        net.attach("a", 0);
        net.attach("b", 2);
        (0..10).for_each(|number| write(&net, 0, "a", "b", number));
        net.budget = Some(moved);
        net.run();
        net.cut(1, 2);
        net.budget = None;
        net.publish();
        (10..15).for_each(|number| write(&net, 0, "a", "b", number));
        let received = net.settle();
        let confirmed = confirmed(&received["a"]);
        assert_eq!(confirmed.len(), 15, "after {moved}");
        let mut stored: Vec<usize> = Vec::new();
        for (_, text) in net.disk.appended.lock().unwrap().iter() {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            stored.push(value["payload"].as_u64().unwrap() as usize);
        }
        for (reference, status) in confirmed {
            let number: usize = reference[1..].parse().unwrap();
            assert!(status == "delivered" || stored.contains(&number), "{reference} after {moved}");
        }
        assert!(stored.is_sorted(), "{stored:?}");
    }
}

#[test]
fn a_server_in_a_new_life_is_reached_again() {
    let mut net = Net::line(3);
    net.attach("a", 0);
    net.attach("b", 2);
    (0..10).for_each(|number| write(&net, 0, "a", "b", number));
    net.settle();
    net.restart(2);
    net.publish();
    net.attach("b", 2);
    (10..20).for_each(|number| write(&net, 0, "a", "b", number));
    let received = net.settle();
    assert_eq!(payloads(&received["b"], 1), (10..20).collect::<Vec<_>>());
    assert_eq!(confirmed(&received["a"]), all("delivered", 10..20));
    net.restart(0);
    net.publish();
    net.attach("a", 0);
    (20..30).for_each(|number| write(&net, 0, "a", "b", number));
    let received = net.settle();
    assert_eq!(payloads(&received["b"], 1), (20..30).collect::<Vec<_>>());
    assert_eq!(confirmed(&received["a"]), all("delivered", 20..30));
}

/// As when one of two servers stands still for a while: when it wakes, it does not know that it was away.
#[test]
fn who_was_taken_for_lost_and_does_not_know_is_answered_all_the_same() {
    for read_before in [true, false] {
        let mut net = Net::line(3);
        net.attach("a", 0);
        net.attach("b", 2);
        (0..5).for_each(|number| write(&net, 0, "a", "b", number));
        net.run();
        let mut got = if read_before { net.read("b") } else { Vec::new() };
        net.cut(0, 1);
        net.cut(1, 2);
        net.publish_at(&[2]);
        net.link(0, 1);
        net.link(1, 2);
        (5..10).for_each(|number| write(&net, 0, "a", "b", number));
        net.publish_at(&[2, 1, 0]);
        let mut received = net.settle();
        got.extend(received.remove("b").unwrap());
        assert_eq!(confirmed(&received["a"]).len(), 10, "{read_before}: every one is told of");
        let delivered = payloads(&got, 1);
        let texts: Vec<String> = net.disk.appended.lock().unwrap().iter().map(|(_, text)| text.clone()).collect();
        let stored = payloads(&texts, 1);
        assert!(
            (0..10).all(|number| delivered.contains(&number) || stored.contains(&number)),
            "{delivered:?} {stored:?}"
        );
        assert!(delivered.is_sorted() && stored.is_sorted(), "{delivered:?} {stored:?}");
    }
}

#[test]
fn what_a_roaming_device_has_not_acknowledged_follows_it() {
    let mut net = Net::line(3);
    net.attach("a", 0);
    net.attach("b", 1);
    (0..5).for_each(|number| write(&net, 0, "a", "b", number));
    net.run();
    // It has read nothing, and comes to another server.
    net.attach("b", 2);
    (5..10).for_each(|number| write(&net, 0, "a", "b", number));
    let received = net.settle();
    assert_eq!(payloads(&received["b"], 1), (0..10).collect::<Vec<_>>());
    assert_eq!(confirmed(&received["a"]), all("delivered", 0..10));
}

#[test]
fn a_sender_that_has_moved_is_told_where_it_is() {
    let mut net = Net::line(3);
    net.attach("a", 0);
    net.attach("b", 2);
    write(&net, 0, "a", "b", 1);
    net.run();
    net.attach("a", 1);
    let received = net.settle();
    assert_eq!(confirmed(&received["a"]), all("delivered", 1..2));
}

/// As when a client has given up a connection that was slow to open, and that opens after all.
#[test]
fn a_sender_is_told_where_it_spoke_though_a_newer_edge_of_it_is_elsewhere() {
    let mut net = Net::line(3);
    net.attach("a", 0);
    net.attach("b", 2);
    net.set_aside("a", "a at s0");
    net.attach("a", 1);
    write(&net, 0, "a", "b", 1);
    let received = net.settle();
    assert_eq!(confirmed(&received["a at s0"]), all("delivered", 1..2));
    assert_eq!(confirmed(&received["a"]), all("delivered", 1..2), "it may have lost the other one");
}

#[test]
fn what_an_edge_that_breaks_has_not_acknowledged_is_stored() {
    let mut net = Net::line(3);
    net.attach("a", 0);
    net.attach("b", 2);
    (0..5).for_each(|number| write(&net, 0, "a", "b", number));
    net.run();
    net.detach("b");
    (5..10).for_each(|number| write(&net, 0, "a", "b", number));
    let received = net.settle();
    assert_eq!(confirmed(&received["a"]).len(), 10);
    assert!(confirmed(&received["a"]).iter().all(|(_, status)| status == "stored"));
    let texts: Vec<String> = net.disk.appended.lock().unwrap().iter().map(|(_, text)| text.clone()).collect();
    let mut stored = payloads(&texts, 1);
    // Both servers may store what was open: an inbox knows it by its key.
    let mut known = std::collections::HashSet::new();
    stored.retain(|number| known.insert(*number));
    assert_eq!(stored, (0..10).collect::<Vec<_>>(), "in order");
}

/// One world of chance: devices that move, links that are cut and heal, frames that are under way meanwhile.
fn world(seed: u64) {
    const WAYS: [(usize, usize); 5] = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let mut net = Net::new(4, &WAYS);
    net.attach("a", 0);
    net.attach("b", 3);
    let (mut sent, mut cut) = (0, [false; WAYS.len()]);
    let mut received: Vec<String> = Vec::new();
    for _ in 0..60 {
        match random(10) {
            0..4 => {
                for _ in 0..random(4) {
                    write(&net, 0, "a", "b", sent);
                    sent += 1;
                }
            }
            4 => net.attach("b", random(4)),
            5 | 6 => {
                let at = random(WAYS.len());
                let (a, b) = WAYS[at];
                cut[at] = !cut[at];
                if cut[at] {
                    net.cut(a, b);
                } else {
                    net.link(a, b);
                }
                if random(2) == 0 {
                    net.publish();
                }
            }
            7 if random(2) == 0 => net.publish_at(&[random(4), random(4)]),
            7 => net.publish(),
            8 => received.extend(net.read("b")),
            _ => {
                net.budget = Some(random(8));
                net.run();
                net.budget = None;
            }
        }
    }
    for (at, (a, b)) in WAYS.into_iter().enumerate() {
        if cut[at] {
            net.link(a, b);
        }
    }
    net.publish();
    let mut last = net.settle();
    received.extend(last.remove("b").unwrap());
    let confirmed = confirmed(&last["a"]);
    let delivered = payloads(&received, 1);
    let texts: Vec<String> = net.disk.appended.lock().unwrap().iter().map(|(_, text)| text.clone()).collect();
    let stored = payloads(&texts, 1);
    assert_eq!(confirmed.len(), sent, "seed {seed}: the sender is told of each, once");
    for (reference, status) in confirmed {
        let number: usize = reference[1..].parse().unwrap();
        let has = if status == "delivered" { &delivered } else { &stored };
        assert!(has.contains(&number), "seed {seed}: {reference} is {status}");
    }
    assert!(delivered.iter().chain(&stored).all(|number| *number < sent), "seed {seed}: nothing is invented");
}

#[test]
fn whatever_happens_to_the_ways_nothing_confirmed_is_lost() {
    let seeds = std::env::var("SPARKMESH_SEED").ok().and_then(|seed| seed.parse().ok());
    match seeds {
        Some(seed) => world(seed),
        None => (1..100).for_each(world),
    }
}
