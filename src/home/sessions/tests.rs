//! Several servers' sessions in one process: real stores and committers, a mesh of words that are cut and joined by hand.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::words::{Request, Response};
use super::*;
use crate::home::{Content, keys};
use crate::model::ids::{Epoch, Incarnation, Millis};
use crate::model::inbox::Limits;
use crate::model::keyed::HashMap;
use crate::model::placement::Placement;
use crate::model::session::{Mask, Role, SessionType};
use crate::model::topology::{About, Address, LinkState, Load, Standing, Topology};
use crate::store::memory::MemoryStore;
use crate::store::{Store, Table, Write};
use crate::view::Mesh;

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn about() -> About {
    let load = Load { max_connections: 100, ..Load::default() };
    About { address: Address::default(), load, standing: Standing::Serving, epoch: 1 }
}

/// Who can be asked, and by whom not.
#[derive(Default)]
struct Wires {
    homes: Mutex<HashMap<NodeId, Addr<SessionHome>>>,
    groups: Mutex<Vec<Vec<NodeId>>>,
}

impl Wires {
    fn joined(&self, one: &NodeId, other: &NodeId) -> bool {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.iter().any(|group| group.contains(one) && group.contains(other))
    }
}

struct End {
    own: NodeId,
    wires: Arc<Wires>,
}

/// Through JSON, as between servers.
fn copied<T: Serialize + for<'de> Deserialize<'de>>(words: &T) -> T {
    serde_json::from_str(&serde_json::to_string(words).unwrap()).unwrap()
}

impl Peers for End {
    fn ask(&self, server: &NodeId, request: Request) -> super::peers::Answer {
        let home = self.wires.homes.lock().unwrap().get(server).cloned();
        let (home, request) = match home {
            Some(home) if self.wires.joined(&self.own, server) => (home, copied(&request)),
            _ => return Box::pin(std::future::ready(Response::Unavailable)),
        };
        let (answer, answered) = oneshot::channel();
        let reply = Box::new(move |response: Response| drop(answer.send(copied(&response))));
        home.do_send(Asked { from: self.own.clone(), request, reply });
        Box::pin(async move { answered.await.unwrap_or(Response::Unavailable) })
    }
}

struct Server {
    own: NodeId,
    view: Arc<View>,
    store: Arc<dyn Store>,
    sessions: Addr<SessionHome>,
    homes: Homes,
    incarnation: u64,
}

struct Net {
    wires: Arc<Wires>,
    members: Vec<NodeId>,
    servers: Vec<Server>,
}

impl Net {
    fn new(count: usize) -> Self {
        let members: Vec<NodeId> = (0..count).map(|n| id(&format!("s{n}"))).collect();
        let mut net = Self { wires: Arc::default(), members: members.clone(), servers: Vec::new() };
        for own in members {
            let server = net.start(own, Arc::new(MemoryStore::new(Epoch(1))), 1);
            net.servers.push(server);
        }
        net.join(&[&(0..count).collect::<Vec<_>>()]);
        net
    }

    fn placement(&self) -> Placement {
        Placement::new([7; 32], self.members.clone(), Vec::new()).unwrap()
    }

    fn start(&self, own: NodeId, store: Arc<dyn Store>, incarnation: u64) -> Server {
        let desk = Home::open(store.clone());
        let (home, homes) = (desk.home(), desk.homes());
        let topology = Topology::new(own.clone(), Incarnation(incarnation), about());
        let mesh = Mesh::new(own.clone(), Incarnation(incarnation), topology.routes(), self.placement());
        let view = Arc::new(View::new(mesh, Box::new(homes.clone()), 1 << 20, incarnation));
        let doubtful = load(&*store, &view).unwrap();
        let limits = Limits { bytes: 1 << 20, count: 100, age_ms: 1 << 40 };
        desk.start(view.clone(), limits, Arc::new(|_| {}), Content::Hidden).unwrap();
        let peers = Arc::new(End { own: own.clone(), wires: self.wires.clone() });
        let sessions = SessionHome::with(peers, home, view.clone(), doubtful).start();
        self.wires.homes.lock().unwrap().insert(own.clone(), sessions.clone());
        Server { own, view, store, sessions, homes, incarnation }
    }

    /// Who is in one group can reach each other, and nobody else.
    fn join(&self, groups: &[&[usize]]) {
        let ids = |group: &&[usize]| group.iter().map(|at| self.servers[*at].own.clone()).collect::<Vec<_>>();
        *self.wires.groups.lock().unwrap() = groups.iter().map(ids).collect();
        for server in &self.servers {
            let topology = |of: &Server| {
                let mut topology = Topology::new(of.own.clone(), Incarnation(of.incarnation), about());
                let joined =
                    self.servers.iter().filter(|peer| peer.own != of.own && self.wires.joined(&of.own, &peer.own));
                topology.set_links(joined.map(|peer| LinkState { peer: peer.own.clone(), cost: 10 }).collect());
                topology
            };
            let mut own = topology(server);
            for other in &self.servers {
                let _ = own.accept(topology(other).own().clone(), Millis(0));
            }
            server.view.mesh.publish(own.routes(), HashMap::default());
            server.view.mesh.publish_placement(self.placement());
        }
    }

    /// The process of a server ends, and begins anew on its disk.
    fn restart(&mut self, at: usize) {
        let old = &self.servers[at];
        let (own, store, incarnation) = (old.own.clone(), old.store.clone(), old.incarnation + 1);
        old.homes.close();
        self.servers[at] = self.start(own, store, incarnation);
    }

    fn at(&self, server: &NodeId) -> usize {
        self.servers.iter().position(|one| one.own == *server).unwrap()
    }

    /// Home, deputy, and the one that is neither.
    fn roles(&self, session: &SessionId) -> (usize, usize, usize) {
        let (home, deputy) = self.placement().ranked(session.as_str());
        let (home, deputy) = (self.at(&home), self.at(&deputy.unwrap()));
        (home, deputy, (0..self.servers.len()).find(|at| *at != home && *at != deputy).unwrap_or(home))
    }

    async fn ask(&self, at: usize, by: &str, operation: Operation) -> Result<Done, Refusal> {
        self.servers[at].sessions.send(Ask { by: device(by), operation }).await.unwrap()
    }

    async fn join_as(&self, at: usize, session: &SessionId, node: &str) -> Result<Done, Refusal> {
        let join = Join { node: None, mask: Mask::Named };
        self.ask(at, node, Operation::Join(session.clone(), join)).await
    }

    /// As it is on the disk of a server.
    fn on_disk(&self, at: usize, session: &SessionId) -> Option<Session> {
        let server = &self.servers[at];
        let mesh = Mesh::new(
            server.own.clone(),
            Incarnation(9),
            Topology::new(server.own.clone(), Incarnation(9), about()).routes(),
            self.placement(),
        );
        let view = View::new(mesh, Box::new(server.homes.clone()), 1 << 20, 1);
        load(&*server.store, &view).unwrap();
        view.sessions.get(session).map(|published| Session::clone(&published.current()))
    }

    fn members_on_disk(&self, at: usize, session: &SessionId) -> Option<BTreeSet<String>> {
        self.on_disk(at, session).map(|session| nodes(&session))
    }
}

fn nodes(session: &Session) -> BTreeSet<String> {
    session.members().map(|member| member.node().to_string()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn device(node: &str) -> Requester {
    Requester { node: id(node), role: Role::Device }
}

fn draft(name: Naming) -> Draft {
    Draft {
        id: name,
        owner: None,
        mask: Mask::Named,
        members: Vec::new(),
        session_type: SessionType::Normal,
        anyone_can_join: true,
        presence: false,
        notify_only_last_few_users: None,
    }
}

fn lobby() -> SessionId {
    id("lobby")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came to be: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn whole(net: &Net) {
    until("all servers have asked each other", || {
        net.servers.iter().all(|server| server.view.sessions.is_whole(&server.view.mesh.placement()))
    })
    .await;
}

#[actix_web::test]
async fn whoever_is_asked_answers_alike() {
    let net = Net::new(3);
    for at in 0..3 {
        let created = net.ask(at, "ann", Operation::Create(draft(Naming::Random(at as u128)))).await.unwrap();
        let session = created.id.clone();
        assert_eq!(nodes(&created.session.unwrap()), set(&["ann"]));
        for (other, node) in [(0, "bob"), (1, "cid"), (2, "dan")] {
            let joined = net.join_as(other, &session, node).await.unwrap();
            assert_eq!(joined.answer.unwrap().node, id(node));
            let again = net.join_as(other, &session, node).await.unwrap();
            assert_eq!((again.members, again.shown), (joined.members, Some(id(node))));
        }
        for other in 0..3 {
            let seen = net.ask(other, "ann", Operation::Look(session.clone())).await.unwrap().session.unwrap();
            assert_eq!(nodes(&seen), set(&["ann", "bob", "cid", "dan"]));
            let code = |result: Result<Done, Refusal>| result.unwrap_err().code;
            let again = Operation::Create(draft(Naming::Chosen(session.clone())));
            assert_eq!(code(net.ask(other, "eve", again).await), Code::Conflict);
            assert_eq!(code(net.ask(other, "eve", Operation::Leave(session.clone(), None)).await), Code::Forbidden);
            assert_eq!(code(net.ask(other, "ann", Operation::Reveal(session.clone())).await), Code::Conflict);
            assert_eq!(code(net.ask(other, "ann", Operation::Look(id("none"))).await), Code::NotFound);
            assert_eq!(code(net.join_as(other, &id("none"), "ann").await), Code::NotFound);
            let masked = Join { node: None, mask: Mask::Anonymous(id("bob")) };
            assert_eq!(code(net.ask(other, "eve", Operation::Join(session.clone(), masked)).await), Code::Conflict);
            let left = net.ask(other, ["bob", "cid", "dan"][other], Operation::Leave(session.clone(), None)).await;
            assert_eq!(left.unwrap().members, 3);
            net.join_as(other, &session, ["bob", "cid", "dan"][other]).await.unwrap();
        }
    }
}

#[actix_web::test]
async fn what_is_answered_is_on_disk_at_home_and_deputy_and_nowhere_else() {
    let net = Net::new(3);
    whole(&net).await;
    net.ask(0, "ann", Operation::Create(draft(Naming::Chosen(lobby())))).await.unwrap();
    let (home, deputy, third) = net.roles(&lobby());
    for at in [home, deputy] {
        assert_eq!(net.members_on_disk(at, &lobby()), Some(set(&["ann"])));
    }
    net.join_as(third, &lobby(), "bob").await.unwrap();
    net.ask(third, "ann", Operation::Leave(lobby(), None)).await.unwrap();
    net.join_as(third, &lobby(), "cid").await.unwrap();
    for at in [home, deputy] {
        assert_eq!(net.members_on_disk(at, &lobby()), Some(set(&["bob", "cid"])));
        assert!(net.servers[at].view.sessions.get(&lobby()).is_some());
    }
    assert_eq!(net.members_on_disk(third, &lobby()), None);
    assert!(net.servers[third].view.sessions.get(&lobby()).is_none());
    let of = |at: usize| net.on_disk(at, &lobby()).unwrap();
    assert_eq!(of(home).horizon(), of(deputy).horizon());
}

#[actix_web::test]
async fn while_the_home_is_away_its_deputy_serves_and_then_the_home_takes_the_changes_back() {
    let mut net = Net::new(3);
    whole(&net).await;
    net.ask(0, "ann", Operation::Create(draft(Naming::Chosen(lobby())))).await.unwrap();
    let (home, deputy, third) = net.roles(&lobby());
    net.join_as(third, &lobby(), "bob").await.unwrap();
    net.join(&[&[deputy, third], &[home]]);
    net.join_as(third, &lobby(), "cid").await.unwrap();
    net.ask(third, "bob", Operation::Leave(lobby(), None)).await.unwrap();
    let created = net.ask(third, "ann", Operation::Create(draft(Naming::Chosen(id("late"))))).await;
    assert_eq!(created.is_ok(), net.servers[third].view.mesh.acting("late") != Acting::Nobody);
    net.restart(home);
    net.join(&[&[0, 1, 2]]);
    until("the home has it back", || net.members_on_disk(home, &lobby()) == Some(set(&["ann", "cid"]))).await;
    let seen = net.ask(third, "ann", Operation::Look(lobby())).await.unwrap().session.unwrap();
    assert_eq!(Some(nodes(&seen)), Some(set(&["ann", "cid"])));
    // Both keep it again.
    net.join_as(third, &lobby(), "dan").await.unwrap();
    for at in [home, deputy] {
        assert_eq!(net.members_on_disk(at, &lobby()), Some(set(&["ann", "cid", "dan"])), "at {at}");
    }
}

#[actix_web::test]
async fn a_home_that_comes_back_does_not_say_that_there_is_no_session() {
    let mut net = Net::new(2);
    whole(&net).await;
    let (home, deputy, _) = net.roles(&lobby());
    net.join(&[&[home], &[deputy]]);
    net.ask(deputy, "ann", Operation::Create(draft(Naming::Chosen(lobby())))).await.unwrap();
    net.restart(home);
    net.join(&[&[0, 1]]);
    // Asked at once, while it is on its way.
    assert_eq!(net.join_as(home, &lobby(), "bob").await.unwrap().members, 2);
    let again = net.ask(home, "eve", Operation::Create(draft(Naming::Chosen(lobby())))).await;
    assert_eq!(again.unwrap_err().code, Code::Conflict);
}

#[actix_web::test]
async fn what_both_sides_of_a_partition_have_changed_is_merged() {
    let net = Net::new(2);
    whole(&net).await;
    net.ask(0, "ann", Operation::Create(draft(Naming::Chosen(lobby())))).await.unwrap();
    for node in ["bob", "cid"] {
        net.join_as(1, &lobby(), node).await.unwrap();
    }
    net.join(&[&[0], &[1]]);
    net.ask(0, "bob", Operation::Leave(lobby(), None)).await.unwrap();
    net.ask(1, "cid", Operation::Leave(lobby(), None)).await.unwrap();
    for (at, node) in [(0, "dan"), (1, "eve"), (0, "both"), (1, "both")] {
        let join = Join { node: None, mask: Mask::Anonymous(id(if node == "both" { "mask" } else { "fox" })) };
        net.ask(at, node, Operation::Join(lobby(), join)).await.unwrap();
    }
    net.join(&[&[0, 1]]);
    let is_same = || {
        let (one, other) = (net.on_disk(0, &lobby()).unwrap(), net.on_disk(1, &lobby()).unwrap());
        one.horizon() == other.horizon() && Some(nodes(&one)) == Some(set(&["ann", "both", "dan", "eve"]))
    };
    until("both have the same", is_same).await;
    let seen = net.ask(1, "ann", Operation::Look(lobby())).await.unwrap().session.unwrap();
    let masks: BTreeSet<String> = seen.members().map(|member| member.shown().id().to_string()).collect();
    assert_eq!(masks.len(), 4, "nobody wears another's mask: {masks:?}");
    assert!(!masks.contains("dan") && !masks.contains("eve"), "and nobody has lost its own");
}

#[actix_web::test]
async fn sessions_move_to_a_server_that_joins_and_back_when_one_is_forgotten() {
    let mut net = Net::new(2);
    whole(&net).await;
    let ids: Vec<SessionId> = (0..40).map(|n| id(&format!("room-{n}"))).collect();
    for session in &ids {
        net.ask(0, "ann", Operation::Create(draft(Naming::Chosen(session.clone())))).await.unwrap();
        net.join_as(1, session, "bob").await.unwrap();
    }
    net.members.push(id("s2"));
    let third = net.start(id("s2"), Arc::new(MemoryStore::new(Epoch(1))), 1);
    net.servers.push(third);
    net.join(&[&[0, 1, 2]]);
    // Meanwhile nobody is told that there is none.
    for (at, session) in ids.iter().enumerate() {
        assert_eq!(net.join_as(at % 3, session, "cid").await.unwrap().members, 3, "{session}");
    }
    let keepers = |net: &Net, session: &SessionId| -> BTreeSet<usize> {
        (0..net.servers.len())
            .filter(|at| net.members_on_disk(*at, session) == Some(set(&["ann", "bob", "cid"])))
            .collect()
    };
    let is_moved = |net: &Net| {
        ids.iter().all(|session| {
            let (home, deputy, other) = net.roles(session);
            keepers(net, session) == BTreeSet::from([home, deputy]) && net.on_disk(other, session).is_none()
        })
    };
    until("each is at its home and its deputy, and nowhere else", || is_moved(&net)).await;
    assert!(ids.iter().any(|session| net.roles(session).0 == 2), "some have moved");
    for session in &ids {
        let (home, deputy, other) = net.roles(session);
        let has = |at: usize| net.servers[at].view.sessions.get(session).is_some();
        assert_eq!((has(home), has(deputy), has(other)), (true, true, false));
    }

    // One is forgotten: those who stay have all, each at both.
    net.members.retain(|member| member.as_str() != "s0");
    net.join(&[&[1, 2], &[0]]);
    let both = |session: &SessionId| [1, 2].iter().all(|at| keepers(&net, session).contains(at));
    until("both have all", || ids.iter().all(both)).await;
    for session in &ids {
        assert_eq!(net.join_as(1, session, "dan").await.unwrap().members, 4);
    }
}

#[actix_web::test]
async fn a_large_session_is_fetched_in_parts() {
    let net = Net::new(2);
    whole(&net).await;
    let (home, deputy, _) = net.roles(&lobby());
    net.join(&[&[home], &[deputy]]);
    let mut crowd = draft(Naming::Chosen(lobby()));
    crowd.members = (0..2500).map(|n| (id(&format!("d{n}")), Mask::Random(n))).collect();
    let by = Requester { node: id("app"), role: Role::App };
    let created = net.servers[home].sessions.send(Ask { by, operation: Operation::Create(crowd) }).await.unwrap();
    assert_eq!(created.unwrap().members, 2500);
    net.join(&[&[0, 1]]);
    until("it is there", || net.on_disk(deputy, &lobby()).is_some_and(|session| session.len() == 2500)).await;
}

#[actix_web::test]
async fn a_session_that_was_half_created_is_not_served_and_leaves_nothing_behind() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Epoch(1)));
    let mut net = Net::new(1);
    let by = Requester { node: id("app"), role: Role::App };
    let mut bulk = draft(Naming::Chosen(lobby()));
    bulk.members = vec![(id("ann"), Mask::Named), (id("bob"), Mask::Named)];
    let scribe = Scribe::new(id("s0"), Incarnation(1));
    let (_, change) = Session::create(&by, bulk.clone(), Millis(1), scribe).unwrap();
    let writes: Vec<Write> = change.records.iter().map(|record| records::write(&lobby(), record)).collect();
    for cut in 0..writes.len() {
        store.commit(&writes[..cut]).unwrap();
        net.servers[0] = net.start(id("s0"), store.clone(), 2 + cut as u64);
        until("it is alone", || net.servers[0].view.sessions.is_whole(&net.servers[0].view.mesh.placement())).await;
        let look = net.ask(0, "ann", Operation::Look(lobby())).await;
        assert_eq!(look.unwrap_err().code, Code::NotFound, "{cut} records");
        let created = net.ask(0, "cid", Operation::Create(draft(Naming::Chosen(lobby())))).await.unwrap();
        assert_eq!(nodes(&created.session.unwrap()), set(&["cid"]));
        assert_eq!(net.members_on_disk(0, &lobby()), Some(set(&["cid"])), "{cut} records");
        let gone = [keys::session(&lobby()), keys::member(&lobby(), &id("cid"))];
        let delete = |key: Bytes| Write::Delete { table: Table::Records, key };
        store.commit(&gone.map(delete)).unwrap();
    }
}
