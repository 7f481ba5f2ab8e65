//! Inboxes that are used from either server, and mail that is held while their home is away.

use super::*;
use crate::home::keys;
use crate::model::ids::Seq;
use crate::model::inbox::Upto;
use crate::store::Table;

#[test]
fn an_inbox_is_used_from_any_server() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    assert_eq!(block_on(world.b.homes.register(id(&device), None)), Ok(0));
    for n in 0..3 {
        assert_eq!(status(world.b.send(&device, &format!("m{n}"))), Some(Status::Stored));
    }
    assert_eq!(world.a.inbox(&device), ["m0", "m1", "m2"]);
    assert_eq!(world.b.inbox(&device), ["m0", "m1", "m2"]);
    assert_eq!(block_on(world.b.homes.register(id(&device), None)), Ok(3));
    assert_eq!(block_on(world.b.homes.trim(id(&device), Upto { seq: Seq(2), epoch: None })).unwrap().pending, 1);
    assert_eq!(world.a.inbox(&device), ["m2"]);
    let profile = block_on(world.b.homes.profile(id(&device))).unwrap().unwrap();
    assert_eq!(profile.pending, 1);
    assert!(world.b.store.get(Table::Records, &keys::head(&id(&device))).unwrap().is_none());
}

#[test]
fn a_device_reads_its_inbox_at_any_server_and_empties_it() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    for n in 0..40 {
        assert_eq!(status(world.a.send(&device, &format!("m{n}"))), Some(Status::Stored));
    }
    let edge = world.b.attach(&device, 1);
    let mut came = Vec::new();
    until("all has come", || {
        came.extend(world.b.read(&device, edge));
        came.len() == 40
    });
    assert_eq!(came, (0..40).map(|n| format!("m{n}")).collect::<Vec<_>>());
    until("the inbox is empty", || world.a.inbox(&device).is_empty());
}

#[test]
fn what_is_for_a_home_that_is_away_is_held_and_goes_on_in_order() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    // Of somebody who was never there less is kept.
    block_on(world.a.homes.register(id(&device), None)).unwrap();
    assert_eq!(status(world.b.send(&device, "m0")), Some(Status::Stored));
    world.cut();
    for n in 1..200 {
        assert_eq!(status(world.b.send(&device, &format!("m{n}"))), Some(Status::Stored));
    }
    assert_eq!(world.a.inbox(&device), ["m0"]);
    world.link();
    // Behind what is held.
    assert_eq!(status(world.b.send(&device, "m200")), Some(Status::Stored));
    until("all has gone on", || world.a.inbox(&device).len() == 201);
    assert_eq!(world.a.inbox(&device), (0..201).map(|n| format!("m{n}")).collect::<Vec<_>>());
    until("nothing is held", || !world.b.homes.abroad().holds(&id(&device)));
    assert_eq!(status(world.b.send(&device, "last")), Some(Status::Stored));
    assert_eq!(world.a.inbox(&device).len(), 202);
}

#[test]
fn held_mail_outlives_its_server() {
    let world = World::new();
    let device = World::device_of(&world.a);
    for n in 0..5 {
        assert_eq!(status(world.b.send(&device, &format!("m{n}"))), Some(Status::Stored));
    }
    let world = world.restart_b();
    assert!(world.b.homes.abroad().holds(&id(&device)));
    assert_eq!(status(world.b.send(&device, "m5")), Some(Status::Stored));
    world.link();
    until("all has gone on", || world.a.inbox(&device).len() == 6);
    assert_eq!(world.a.inbox(&device), (0..6).map(|n| format!("m{n}")).collect::<Vec<_>>());
    until("nothing is held", || world.b.store.get(Table::Held, &keys::held(&id(&device), 6)).unwrap().is_none());
}

#[test]
fn held_mail_goes_to_a_device_that_comes_while_its_home_is_away() {
    let world = World::new();
    let device = World::device_of(&world.a);
    assert_eq!(status(world.b.send(&device, "m0")), Some(Status::Stored));
    let edge = world.b.attach(&device, 1);
    let mut came = Vec::new();
    until("it has come", || {
        came.extend(world.b.read(&device, edge));
        !came.is_empty()
    });
    assert_eq!(came, ["m0"]);
    until("it is held no more", || !world.b.homes.abroad().holds(&id(&device)));
}

#[test]
fn what_was_under_way_when_the_home_was_lost_is_held() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    let verdicts: Vec<_> = (0..50).map(|n| world.b.send(&device, &format!("m{n}"))).collect();
    world.cut();
    for verdict in verdicts {
        assert_eq!(status(verdict), Some(Status::Stored));
    }
    world.link();
    until("all is there", || world.a.inbox(&device).len() == 50);
    assert_eq!(world.a.inbox(&device), (0..50).map(|n| format!("m{n}")).collect::<Vec<_>>());
}
