//! Envelopes to a session whose home is another server.

use bytestring::ByteString;
use sparkmesh::model::decide::Sender;
use sparkmesh::model::ids::{Incarnation, Millis, SessionId};
use sparkmesh::model::session::{Draft, Mask, Naming, Requester, Role, Scribe, Session, SessionType};
use sparkmesh::wire::native::{self, Origin};

use super::net::{Net, id};
use super::{all, confirmed, payloads};

/// With home s2 and deputy s1, which both have it; `members` are in it.
fn session(net: &Net, members: &[&str]) -> SessionId {
    let placement = net.servers[0].view.mesh.placement();
    let rank = (id("s2"), Some(id("s1")));
    let name = (0..10_000).map(|n| format!("room{n}")).find(|name| {
        let (home, deputy) = placement.ranked(name);
        (home.clone(), deputy) == rank
    });
    let session: SessionId = id(&name.unwrap());
    for server in &net.servers[1..] {
        let draft = Draft {
            id: Naming::Chosen(session.clone()),
            owner: None,
            mask: Mask::Named,
            members: members.iter().map(|member| (id(member), Mask::Named)).collect(),
            session_type: SessionType::Normal,
            anyone_can_join: false,
            presence: false,
            notify_only_last_few_users: None,
        };
        let by = Requester { node: id("app"), role: Role::App };
        let scribe = Scribe::new(server.id.clone(), Incarnation(1));
        server.view.sessions.publish(Session::create(&by, draft, Millis(0), scribe).unwrap().0);
    }
    session
}

fn say(net: &Net, session: &SessionId, number: usize) {
    let json = format!(
        r#"{{"dest_session_id":"{session}","type":1,"id":"m{number}","reference":"r{number}","payload":{number}}}"#
    );
    let text = ByteString::from(json);
    let sender = Sender { node: id("a"), client: None, role: Role::Device };
    let envelope = native::decode(&text, Origin::Device).unwrap();
    net.servers[0].view.send_elsewhere(session.clone(), &sender, &envelope, text.as_bytes(), None);
}

/// All linked; the home is gone, and the deputy, which is the last to hear of it, sends there what it gets: four so far.
fn gone() -> (Net, SessionId) {
    let mut net = Net::new(3, &[(0, 1), (0, 2), (1, 2)]);
    net.attach("a", 0);
    net.attach("b", 0);
    let session = session(&net, &["a", "b"]);
    net.cut(0, 2);
    net.cut(1, 2);
    net.publish_at(&[0]);
    (0..4).for_each(|number| say(&net, &session, number));
    net.run();
    (net, session)
}

#[test]
fn what_a_deputy_is_sent_goes_behind_what_waits_there_for_the_home() {
    let (mut net, session) = gone();
    let deputy = net.servers[1].view.clone();
    deputy.mesh.hide(&[id("s2")]);
    (4..8).for_each(|number| say(&net, &session, number));
    net.run();
    deputy.post_again(&[id("s2")]);
    let received = net.settle();
    assert_eq!(payloads(&received["b"], 1), (0..8).collect::<Vec<_>>());
    assert_eq!(confirmed(&received["a"]), all("delivered", 0..8));
}

#[test]
fn what_is_posted_again_to_a_deputy_where_it_still_waits_is_numbered_once() {
    let (mut net, session) = gone();
    // They lose each other for a moment.
    let deputy = net.servers[1].view.clone();
    deputy.post_again(&[id("s0")]);
    net.servers[0].view.post_again(&[id("s1")]);
    net.run();
    deputy.mesh.hide(&[id("s2")]);
    deputy.post_again(&[id("s2")]);
    net.run();
    say(&net, &session, 4);
    let received = net.settle();
    assert_eq!(payloads(&received["b"], 1), (0..5).collect::<Vec<_>>());
    let last: serde_json::Value = serde_json::from_str(received["b"].last().unwrap()).unwrap();
    assert_eq!(last["session_seq"], 5);
}

#[test]
fn what_is_at_hand_while_a_server_is_lost_and_found_does_not_overtake_what_was_sent_there() {
    let mut net = Net::new(3, &[(0, 1), (0, 2), (1, 2)]);
    net.attach("a", 0);
    net.attach("b", 1);
    net.attach("c", 2);
    let session = session(&net, &["a", "b", "c"]);
    // What the home sends to b is lost.
    net.cut(1, 2);
    say(&net, &session, 0);
    net.run();
    net.link(1, 2);
    let (home, links) = (net.servers[2].view.clone(), net.links_of(2));
    let lost_and_found = Box::new(move || {
        let routes = home.mesh.routes();
        home.mesh.publish(routes.without(&[id("s1")]), links.clone());
        home.look_again(&id("b"));
        home.mesh.publish(routes.as_ref().clone(), links);
    });
    // Its copy for b waits to be sent, together with others.
    *net.disk.meanwhile.lock().unwrap() = Some((id("c"), lost_and_found));
    say(&net, &session, 1);
    let received = net.settle();
    assert!(net.disk.meanwhile.lock().unwrap().is_none());
    assert_eq!(payloads(&received["b"], 1), [0; 0], "both are stored, in order");
    let stored: Vec<String> = net.disk.appended.lock().unwrap().iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(payloads(&stored, 1), [0, 1]);
    assert_eq!(confirmed(&received["a"]), all("stored", 0..2));
}
