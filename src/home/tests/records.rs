//! Small records at home and deputy.

use super::*;
use crate::home::TokenChange;
use crate::home::boxes::{DeviceRecord, read_json};
use crate::home::copies::Belonging;
use crate::home::keys;
use crate::model::ids::ClientId;
use crate::store::{Order, Table};

#[test]
fn a_token_is_changed_from_any_server() {
    let world = World::linked();
    let device = World::device_of(&world.a);
    let change = TokenChange::add("fcm", "token".to_owned()).unwrap();
    assert_eq!(block_on(world.b.homes.change_tokens(id(&device), change)), Ok(()));
    let profile = block_on(world.a.homes.profile(id(&device))).unwrap().unwrap();
    assert_eq!(profile.providers.len(), 1);
}

fn providers(server: &Server, device: &str) -> usize {
    let record: Option<DeviceRecord> = read_json(&*server.store, &keys::device(&id(device))).unwrap();
    record.map_or(0, |record| record.tokens.len())
}

fn owed(server: &Server, to: &str) -> usize {
    let (from, to) = keys::all_owed(&id(to));
    let mut count = 0;
    let mut visit = |_: &[u8], _| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    };
    server.store.scan(Table::Records, &from, &to, Order::Ascending, &mut visit).unwrap();
    count
}

fn token(text: &str) -> TokenChange {
    TokenChange::add("fcm", text.to_owned()).unwrap()
}

#[test]
fn a_change_is_at_home_and_deputy_before_it_is_answered() {
    let world = World::linked();
    for server in [&world.a, &world.b] {
        let device = World::device_of(server);
        assert_eq!(block_on(world.b.homes.change_tokens(id(&device), token("t"))), Ok(()));
        assert_eq!((providers(&world.a, &device), providers(&world.b, &device)), (1, 1));
    }
    until("nothing is owed", || owed(&world.a, "b") + owed(&world.b, "a") == 0);
}

#[test]
fn a_deputy_serves_while_the_home_is_away_and_hands_back() {
    let world = World::linked();
    let device = World::device_of(&world.b);
    block_on(world.a.homes.change_tokens(id(&device), token("t1"))).unwrap();
    world.cut();
    block_on(world.a.homes.change_tokens(id(&device), token("t2"))).unwrap();
    assert_eq!((providers(&world.a, &device), providers(&world.b, &device)), (2, 1));
    let world = world.restart_b();
    assert!(!world.b.view.mesh.returning().is_over());
    world.link();
    until("it has returned", || world.b.view.mesh.returning().is_over());
    assert_eq!(providers(&world.b, &device), 2, "before it serves it has what was changed");
    until("nothing is owed", || owed(&world.a, "b") == 0);
}

#[test]
fn a_server_that_nobody_reaches_serves_after_a_while() {
    let world = World::new();
    assert!(!world.b.view.mesh.returning().is_over());
    until("it has returned", || world.b.view.mesh.returning().is_over());
}

#[test]
fn the_devices_of_a_client_are_known_at_the_clients_home() {
    let world = World::linked();
    let clients: Vec<ClientId> = (0..8).map(|n| format!("c{n}").parse().unwrap()).collect();
    for (n, client) in clients.iter().enumerate() {
        block_on(world.a.homes.register(id(&format!("e{n}")), Some(client.clone()))).unwrap();
    }
    let known = |server: &Server, n: usize, client: &ClientId| {
        let value = server.store.get(Table::Records, &keys::device_of(client, &id(&format!("e{n}"))));
        value.unwrap().is_some_and(|value| Belonging::decode(&value).is_one())
    };
    for (n, client) in clients.iter().enumerate() {
        assert!(known(&world.a, n, client) && known(&world.b, n, client));
    }
    // It changes hands.
    block_on(world.b.homes.register(id("e0"), Some(clients[1].clone()))).unwrap();
    for server in [&world.a, &world.b] {
        assert!(!known(server, 0, &clients[0]) && known(server, 0, &clients[1]));
    }
}
