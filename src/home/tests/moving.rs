//! What belongs to a server that joins moves there, and what a forgotten one has to the others.

use super::*;
use crate::home::keys;
use crate::model::ids::Seq;
use crate::model::inbox::Upto;
use crate::model::members::Members;
use crate::store::Table;
use crate::wire::config_request::More;

/// `a` has been alone, and has an inbox and a token for each of these; then `b` joins.
fn joined(devices: &[String]) -> World {
    let store = |epoch| Arc::new(MemoryStore::new(Epoch(epoch)));
    let a = Arc::new(Server::start("a", &["a"], 1, store(5)));
    for device in devices {
        block_on(a.homes.register(id(device), Some("client".parse().unwrap()))).unwrap();
        for n in 0..3 {
            assert_eq!(status(a.send(device, &format!("{device}-{n}"))), Some(Status::Stored));
        }
        block_on(a.homes.trim(id(device), Upto { seq: Seq(1), epoch: None })).unwrap();
    }
    let b = Arc::new(Server::start("b", &["b"], 1, store(6)));
    let wire = Wire::between(a.clone(), b.clone());
    World { a, b, wire }
}

fn members() -> Members {
    let mut members = Members::first(id("a"));
    let _ = members.admit(&id("b"));
    members
}

impl World {
    fn place(&self) {
        self.publish_members(&members(), &["a", "b"]);
    }

    fn forget_b(&self) {
        let mut members = members();
        let _ = members.forget(&id("b"));
        self.publish_members(&members, &["a"]);
    }

    fn publish_members(&self, members: &Members, current: &[&str]) {
        for server in [&self.b, &self.a] {
            server.view.mesh.publish_placement(placement(current));
            server.homes.members_changed(members);
        }
    }
}

fn page(server: &Server, device: &str) -> (Vec<u64>, Epoch) {
    let fetch = Fetch { from_seq: None, to_seq: None, after: None, before: None, first: First::Oldest, limit: 1000 };
    let page = block_on(server.homes.fetch(id(device), fetch)).unwrap();
    (page.messages.iter().map(|(seq, _)| seq.0).collect(), page.epoch)
}

/// All that lies in the inbox of `device`, page by page.
fn whole(server: &Server, device: &str) -> Vec<(Seq, String)> {
    let mut all: Vec<(Seq, String)> = Vec::new();
    loop {
        let from_seq = all.last().map(|(seq, _)| seq.next());
        let fetch = Fetch { from_seq, to_seq: None, after: None, before: None, first: First::Oldest, limit: 1000 };
        let page = block_on(server.homes.fetch(id(device), fetch)).unwrap();
        all.extend(page.messages.iter().map(|(seq, text)| (*seq, name_of(text))));
        if page.more == More::No {
            return all;
        }
    }
}

fn has_inbox(server: &Server, device: &str) -> bool {
    server.store.get(Table::Inbox, &keys::envelope(&id(device), Seq(2))).unwrap().is_some()
}

#[test]
fn what_belongs_to_a_newcomer_moves_there_with_its_numbers() {
    let devices: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
    let world = joined(&devices);
    world.link();
    world.place();
    // At once, while they are on their way.
    for device in devices.iter().rev() {
        assert_eq!(page(&world.b, device), (vec![2, 3], Epoch(5)), "{device}");
        assert_eq!(status(world.b.send(device, &format!("{device}-new"))), Some(Status::Stored));
        assert_eq!(page(&world.a, device), (vec![2, 3, 4], Epoch(5)), "{device}");
    }
    let home = |device: &String| world.b.view.mesh.is_home(device);
    until("all is where it belongs", || {
        devices
            .iter()
            .all(|device| has_inbox(&world.b, device) == home(device) && has_inbox(&world.a, device) != home(device))
    });
    assert!(devices.iter().any(&home) && !devices.iter().all(home));
    until("nothing is asked for any more", || world.b.homes.arrivals().unsettled().is_empty());
    for device in &devices {
        assert_eq!(
            block_on(world.b.homes.profile(id(device))).unwrap().unwrap().client,
            Some("client".parse().unwrap())
        );
        assert_eq!(page(&world.b, device), (vec![2, 3, 4], Epoch(5)), "{device}");
    }
    until("both keep the client's devices", || {
        let client = "client".parse().unwrap();
        let of = |server: &Server| crate::home::moving::devices_of(&*server.store, &client).unwrap().len();
        of(&world.a) == 40 && of(&world.b) == 40
    });
}

#[test]
fn what_moves_later_goes_behind_what_is_there_already() {
    let devices: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
    let world = joined(&devices);
    world.place();
    let device = World::device_of(&world.b);
    assert_eq!(status(world.b.send(&device, "new")), Some(Status::Stored), "its former home cannot be asked");
    world.link();
    until("it has come", || page(&world.b, &device).0.len() == 3);
    let (seqs, epoch) = page(&world.b, &device);
    assert_eq!(seqs, [1, 2, 3]);
    assert!(epoch != Epoch(5) && epoch != Epoch(6), "numbers mean something else now");
    assert_eq!(world.a.inbox(&device), ["new".to_owned(), format!("{device}-1"), format!("{device}-2")]);
}

#[test]
fn a_long_inbox_moves_in_parts() {
    let after = placement(&["a", "b"]);
    let device = (0..1000).map(|n| format!("d{n}")).find(|device| *after.home(device) == id("b")).unwrap();
    let world = joined(std::slice::from_ref(&device));
    let verdicts: Vec<_> = (0..500).map(|n| world.a.send_long(&device, &format!("m{n}"), &"x".repeat(2000))).collect();
    for verdict in verdicts {
        assert_eq!(status(verdict), Some(Status::Stored));
    }
    let before = whole(&world.a, &device);
    assert_eq!(before.len(), 502);
    world.link();
    world.place();
    assert_eq!(whole(&world.b, &device), before, "at once");
    until("it is there, and here no more", || has_inbox(&world.b, &device) && !has_inbox(&world.a, &device));
    assert_eq!(whole(&world.a, &device), before);
}

/// `b` is home to some of these, each with an inbox; with `b`'s own epoch.
fn shared(devices: &[String]) -> World {
    let world = joined(&[]);
    world.link();
    world.place();
    until("b is at home", || world.b.homes.arrivals().unsettled().is_empty());
    for device in devices {
        block_on(world.a.homes.register(id(device), Some("client".parse().unwrap()))).unwrap();
        for n in 0..3 {
            assert_eq!(status(world.a.send(device, &format!("{device}-{n}"))), Some(Status::Stored));
        }
        block_on(world.a.homes.trim(id(device), Upto { seq: Seq(1), epoch: None })).unwrap();
    }
    world
}

fn is_given_away(world: &World) -> bool {
    let mut members = members();
    let _ = members.forget(&id("b"));
    crate::home::is_given_away(&*world.b.store, &members).unwrap()
}

#[test]
fn what_a_forgotten_server_has_moves_to_the_others_with_its_numbers() {
    let devices: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
    let world = shared(&devices);
    let were_at_b: Vec<&String> = devices.iter().filter(|device| world.b.view.mesh.is_home(device)).collect();
    assert!(!were_at_b.is_empty() && were_at_b.len() < devices.len());
    assert!(!is_given_away(&world));
    world.forget_b();
    // At once, while they are on their way; and from the server that leaves, too.
    for device in devices.iter().rev() {
        let epoch = if were_at_b.contains(&device) { Epoch(6) } else { Epoch(5) };
        assert_eq!(page(&world.a, device), (vec![2, 3], epoch), "{device}");
        assert_eq!(status(world.b.send(device, &format!("{device}-new"))), Some(Status::Stored));
        assert_eq!(page(&world.b, device), (vec![2, 3, 4], epoch), "{device}");
    }
    until("it has given all away", || is_given_away(&world));
    until("nothing is asked for any more", || world.a.homes.arrivals().unsettled().is_empty());
    for device in &devices {
        assert_eq!(page(&world.a, device).0, [2, 3, 4], "{device}");
        let profile = block_on(world.a.homes.profile(id(device))).unwrap().unwrap();
        assert_eq!(profile.client, Some("client".parse().unwrap()));
    }
}

#[test]
fn a_forgotten_server_that_comes_back_gives_away_what_it_had() {
    let devices: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
    let world = shared(&devices);
    let device = devices.iter().find(|device| world.b.view.mesh.is_home(device)).unwrap();
    let world = world.restart_b();
    world.forget_b();
    assert_eq!(status(world.a.send(device, "new")), Some(Status::Stored), "it goes on without");
    assert_eq!(world.a.inbox(device), ["new"]);
    world.link();
    until("it has given all away", || is_given_away(&world));
    assert_eq!(world.a.inbox(device), ["new".to_owned(), format!("{device}-1"), format!("{device}-2")]);
}

#[test]
fn one_device_is_on_its_way_once_at_a_time() {
    let world = shared(&["d0".to_owned(), "d1".to_owned(), "d2".to_owned(), "d3".to_owned()]);
    let device = World::device_of(&world.b);
    assert_eq!(status(world.a.send(&device, "m")), Some(Status::Stored));
    world.forget_b();
    let (sender, ends) = std::sync::mpsc::sync_channel(20);
    for _ in 0..20 {
        let sender = sender.clone();
        world.b.homes.ship(&id(&device), id("a"), Box::new(move |result| sender.send(result).unwrap()));
    }
    let ends: Vec<_> = (0..20).map(|_| ends.recv_timeout(std::time::Duration::from_secs(20)).unwrap()).collect();
    assert!(ends.iter().filter(|end| **end == Ok(true)).count() <= 1, "what has gone is not sent again: {ends:?}");
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
}
