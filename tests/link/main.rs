//! Links between servers, over real sockets.

mod certificates;
mod greeting;
mod kit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kit::{Plan, Wire, id, say, send};
use sparkmesh::config::peers::LinkPlan;
use sparkmesh::link::{Dialled, Learned, LinkStop};
use sparkmesh::model::frames::Hop;
use sparkmesh::model::lane::Delivery;
use sparkmesh::model::members::Members;
use sparkmesh::model::topology::Address;
use sparkmesh::view::LINK_QUEUE_LIMIT;

/// Frames each way.
const MANY: u64 = 20_000;

#[actix::test]
async fn two_servers_link_up_and_both_speak_in_order() {
    let a = Plan::new("a").start();
    let b = Plan::new("b").dials(a.port).start();
    a.until_linked(&b).await;
    b.until_linked(&a).await;
    for number in 1..=MANY {
        assert_eq!(a.send(number, 100), Delivery::Queued);
        assert_eq!(b.send(number, 100), Delivery::Queued);
    }
    for (server, from) in [(&a, &b), (&b, &a)] {
        server.until("all", |seen| seen.carried.len() == MANY as usize).await;
        let seen = server.log.lock().unwrap();
        let numbers: Vec<u64> = seen.carried.iter().map(|carried| carried.1).collect();
        assert_eq!(numbers, (1..=MANY).collect::<Vec<_>>());
        assert!(seen.carried.iter().all(|carried| carried.0 == from.name && carried.2 == 100));
        assert!(seen.flushes < MANY as usize / 4, "one flush for many frames, not {}", seen.flushes);
    }
    say(&b.queue(), &Hop::Members(Arc::new(Members::first(id("x")))));
    a.until("heard", |seen| matches!(&seen.heard[..], [Hop::Members(list)] if list.is_member(&id("x")))).await;
    for server in [&a, &b] {
        server.until("measured", |seen| !seen.measured.is_empty()).await;
        let (rtt, offset) = server.log.lock().unwrap().measured[0];
        assert!((1..1_000_000).contains(&rtt) && offset.abs() < 1000, "{rtt} us, {offset} ms");
    }
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_large_frame_passes_between_small_ones() {
    let a = Plan::new("a").start();
    let b = Plan::new("b").dials(a.port).start();
    a.until_linked(&b).await;
    b.until_linked(&a).await;
    for server in [&a, &b] {
        for (number, size) in [(1, 10), (2, 8 << 20), (3, 10)] {
            assert_eq!(server.send(number, size), Delivery::Queued);
        }
    }
    for server in [&a, &b] {
        server.until("all", |seen| seen.carried.len() == 3).await;
        let sizes: Vec<usize> = server.log.lock().unwrap().carried.iter().map(|carried| carried.2).collect();
        assert_eq!(sizes, [10, 8 << 20, 10]);
    }
}

#[actix::test]
async fn a_peer_that_falls_silent_is_dead_after_six_seconds_on_both_sides_and_dialled_again() {
    let a = Plan::new("a").start();
    let wire = Wire::to(a.port).await;
    let b = Plan::new("b").dials(wire.port).start();
    a.until_linked(&b).await;
    b.until_linked(&a).await;
    wire.stop();
    let stopped = Instant::now();
    a.until("down", |seen| !seen.downs.is_empty()).await;
    b.until("down", |seen| !seen.downs.is_empty()).await;
    let took = stopped.elapsed();
    assert!((Duration::from_millis(3500)..Duration::from_secs(8)).contains(&took), "{took:?}");
    wire.heal();
    a.until_linked(&b).await;
    b.until_linked(&a).await;
}

#[actix::test]
async fn a_link_that_breaks_is_dialled_again_at_once() {
    let a = Plan::new("a").start();
    let wire = Wire::to(a.port).await;
    let b = Plan::new("b").dials(wire.port).start();
    b.until_linked(&a).await;
    // A link that has lived is no failure.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    wire.cut();
    b.until("down", |seen| seen.up.is_empty()).await;
    a.until("down", |seen| seen.up.is_empty()).await;
    wire.heal();
    let healed = Instant::now();
    b.until_linked(&a).await;
    a.until_linked(&b).await;
    assert!(healed.elapsed() < Duration::from_secs(2), "{:?}", healed.elapsed());
}

#[actix::test]
async fn of_two_links_the_one_that_the_lower_id_has_dialled_stays() {
    let a = Plan::new("a").start();
    let to_a = Wire::to(a.port).await;
    let b = Plan::new("b").start();
    // Each names the other, and both begin at the same moment.
    let c = Plan::new("c").start();
    let (first, second) = (learned("b", b.port), learned("a", to_a.port));
    a.dialler.do_send(first);
    b.dialler.do_send(second);
    for (server, peer) in [(&a, &b), (&b, &a)] {
        server.until_linked(peer).await;
    }
    // The higher id may have been first, and its link is replaced.
    a.until("by us", |seen| seen.up.values().all(|link| link.1 == Dialled::ByUs) && seen.up.len() == 1).await;
    b.until("by them", |seen| seen.up.values().all(|link| link.1 == Dialled::ByThem) && seen.up.len() == 1).await;
    assert_eq!(send(&a.queue(), &a.name, 1, 5), Delivery::Queued);
    b.until("carried", |seen| seen.carried.len() == 1).await;
    assert!(c.log.lock().unwrap().up.is_empty());
}

#[actix::test]
async fn two_servers_that_name_each_other_settle_on_one_link() {
    let a = Plan::new("a").start();
    let wire_to_a = Wire::to(a.port).await;
    let b = Plan::new("b").dials(wire_to_a.port).start();
    b.until_linked(&a).await;
    a.until("by them", |seen| seen.up.values().any(|link| link.1 == Dialled::ByThem)).await;
    // The lower id, which does not know yet that it is linked to whom it dials, wins.
    let again = Plan::new("a").dials(b.port).start();
    again.until("by us", |seen| seen.up.values().any(|link| link.1 == Dialled::ByUs)).await;
    b.until("one", |seen| seen.up.len() == 1 && seen.up.values().all(|link| link.1 == Dialled::ByThem)).await;
    a.until("replaced", |seen| seen.up.is_empty()).await;
}

fn learned(name: &str, port: u16) -> Learned {
    let address = Address { host: "127.0.0.1".to_owned(), port, ..Address::default() };
    Learned(vec![(id(name), address)])
}

#[actix::test]
async fn what_is_learned_is_dialled_unless_links_are_static() {
    let a = Plan::new("a").start();
    let full = Plan::new("f").start();
    let fixed = Plan { links: LinkPlan::Static, ..Plan::new("s") }.start();
    for server in [&full, &fixed] {
        server.dialler.do_send(learned("a", a.port));
    }
    full.until_linked(&a).await;
    a.until("f", |seen| seen.up.len() == 1).await;
    // Longer than the courtesy of a higher id.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fixed.log.lock().unwrap().ups, 0);
    // Said again, and once more with somebody who cannot be dialled: one link remains one.
    full.dialler.do_send(Learned(vec![(id("z"), Address::default())]));
    full.dialler.do_send(learned("a", a.port));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((full.log.lock().unwrap().ups, a.log.lock().unwrap().ups), (1, 1));
}

#[actix::test]
async fn what_waits_is_still_written_when_a_link_is_told_to_end() {
    for by_dialler in [true, false] {
        let a = Plan::new("a").start();
        let b = Plan::new("b").dials(a.port).start();
        a.until_linked(&b).await;
        b.until_linked(&a).await;
        let (from, to) = if by_dialler { (&b, &a) } else { (&a, &b) };
        for number in 1..=1000 {
            from.send(number, 1000);
        }
        let stop = from.log.lock().unwrap().up.values().next().unwrap().3.clone();
        stop.do_send(LinkStop);
        to.until("all", |seen| seen.carried.len() == 1000).await;
        from.until("down", |seen| seen.downs.len() == 1).await;
        to.until("down", |seen| seen.downs.len() == 1).await;
    }
}

#[actix::test]
async fn a_write_that_blocks_does_not_stop_the_reader_and_the_queue_is_bounded() {
    const BODY: usize = 1 << 20;
    for dialler_blocks in [true, false] {
        let a = Plan::new("a").start();
        let wire = Wire::to(a.port).await;
        let b = Plan::new("b").dials(wire.port).start();
        a.until_linked(&b).await;
        b.until_linked(&a).await;
        if dialler_blocks {
            wire.stop_to_server();
        } else {
            wire.stop_to_dialler();
        }
        let (blocked, free) = if dialler_blocks { (&b, &a) } else { (&a, &b) };
        let (mut sent, mut most) = (0, 0);
        while blocked.send(1, BODY) == Delivery::Queued {
            sent += 1;
            most = most.max(blocked.queue().bytes());
            // The rest is in the buffers of the two sockets and the wire.
            assert!(sent * BODY < LINK_QUEUE_LIMIT * 3 / 2, "{sent} frames are taken, {most} bytes wait");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!((LINK_QUEUE_LIMIT - 2 * BODY..=LINK_QUEUE_LIMIT).contains(&most), "{most}");
        assert_eq!(blocked.queue().bytes(), most, "nothing can be written, and what waits is kept");
        for number in 1..=100 {
            assert_eq!(free.send(number, 1000), Delivery::Queued);
        }
        blocked.until("all", |seen| seen.carried.len() == 100).await;
    }
}
