//! The homes of all ids, as everybody outside asks them: here where this server is the home, else at the right server.
//!
//! Inboxes are asked of the home alone. Small records are asked of who acts for them: the home, or its deputy while that
//! cannot be reached. Nothing here blocks.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;

use super::abroad::{self, Abroad};
use super::arrivals::{Arrivals, Subject};
use super::coming::Coming;
use super::debts::Debts;
use super::mover::Placed;
use super::moving::Shipments;
use super::postman::Bell;
use super::profile::{Profile, Trimmed};
use super::question::{Answer, Question};
use super::queue::{Asker, Command, Then, TokenChange};
use super::reader::{Request, Whom};
use super::remote::{Remote, Sessions};
use super::{Home, Unavailable};
use crate::model::custody::Verdict;
use crate::model::frames::{Dispatch, Errand};
use crate::model::ids::{ClientId, Epoch, Millis, NodeId, Seq};
use crate::model::inbox::Upto;
use crate::model::lane::Why;
use crate::model::outbox::{Custody, Wanted};
use crate::model::seen::Key;
use crate::push::PushToken;
use crate::store::{Done, Journal, Write};
use crate::view::{Acting, Device, Inboxes, Parcel, View, steady};
use crate::wire::config_request::{Fetch, Page};

/// How long a device that connects waits for somebody who acts for it, in milliseconds, and between two tries.
const REGISTER_MS: u64 = 3_000;
const REGISTER_PAUSE: Duration = Duration::from_millis(50);

/// How to reach the homes. Cheap to clone.
#[derive(Clone)]
pub struct Homes(Arc<Inner>);

struct Inner {
    home: Home,
    /// Set when the threads start; as long as the process lives.
    view: OnceLock<Arc<View>>,
    remote: Arc<Remote>,
    abroad: Arc<Abroad>,
    debts: Debts,
    arrivals: Arrivals,
    coming: Coming,
    placed: Placed,
    shipments: Shipments,
    bell: Bell,
}

/// Who is to be asked.
enum Who {
    Here,
    There(NodeId),
}

/// An answer that somebody waits for.
fn then<T: Send + 'static>() -> (Then<T>, oneshot::Receiver<Result<T, Unavailable>>) {
    let (sender, answer) = oneshot::channel();
    // Whoever asked may be gone; then nobody needs the answer.
    (Box::new(move |result| drop(sender.send(result))), answer)
}

impl Homes {
    pub(super) fn new(home: Home) -> Self {
        let abroad = Arc::new(Abroad::new(home.queue.clone()));
        Self(Arc::new(Inner {
            home,
            view: OnceLock::new(),
            remote: Arc::default(),
            abroad,
            debts: Debts::default(),
            arrivals: Arrivals::default(),
            coming: Coming::default(),
            placed: Placed::default(),
            shipments: Shipments::default(),
            bell: Bell::default(),
        }))
    }

    /// From now on other servers can be asked.
    pub(super) fn begin(&self, view: Arc<View>) {
        let of_remote = view.clone();
        self.0.remote.begin(Box::new(move |server, dispatch| of_remote.mesh.send(server, dispatch)));
        if view.mesh.placement().members().len() > 1 {
            self.return_home(&view);
        }
        // There is one view; a second one is a fault in the wiring, and the first stays.
        let _ = self.0.view.set(view);
    }

    /// This server's own.
    pub fn here(&self) -> &Home {
        &self.0.home
    }

    pub(super) fn view(&self) -> Option<&Arc<View>> {
        self.0.view.get()
    }

    pub(super) fn abroad(&self) -> &Arc<Abroad> {
        &self.0.abroad
    }

    pub(super) fn debts(&self) -> &Debts {
        &self.0.debts
    }

    pub(super) fn arrivals(&self) -> &Arrivals {
        &self.0.arrivals
    }

    pub(super) fn coming(&self) -> &Coming {
        &self.0.coming
    }

    pub(super) fn placed(&self) -> &Placed {
        &self.0.placed
    }

    pub(super) fn shipments(&self) -> &Shipments {
        &self.0.shipments
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.0.bell
    }

    /// Questions to the homes of other servers.
    pub fn remote(&self) -> &Arc<Remote> {
        &self.0.remote
    }

    /// The devices for which this envelope is on its way to their home, and that home.
    pub fn trace(&self, wanted: Wanted<'_>) -> Vec<(NodeId, NodeId)> {
        self.0.abroad.trace(wanted)
    }

    /// Who answers other servers for sessions.
    pub fn serve_sessions(&self, sessions: Arc<dyn Sessions>) {
        self.0.remote.serve_sessions(sessions);
    }

    pub fn epoch(&self) -> Epoch {
        self.0.home.epoch()
    }

    /// These can be reached no more, or only in a new life: what was asked of them goes another way. Not to be called under a
    /// lane's lock.
    pub fn lost(&self, servers: &[NodeId]) {
        let Some(view) = self.view().filter(|_| !servers.is_empty()) else { return };
        self.0.remote.lost(servers);
        self.0.abroad.lost(view, servers);
    }

    /// These can be reached again, or for the first time: held mail goes on, and devices read their inboxes.
    pub fn reachable(&self, servers: &[NodeId]) {
        self.0.bell.ring(servers);
    }

    /// The home of the inbox.
    fn of_inbox(&self, device: &NodeId) -> Who {
        match self.view() {
            Some(view) if !view.mesh.is_home(device.as_str()) => Who::There(view.mesh.home(device.as_str())),
            _ => Who::Here,
        }
    }

    /// Who acts for the small records of `id`.
    fn of_record(&self, id: &str) -> Result<Who, Unavailable> {
        match self.view().map_or(Acting::Here, |view| view.mesh.acting(id)) {
            Acting::Here => Ok(Who::Here),
            Acting::There(server) => Ok(Who::There(server)),
            Acting::Nobody => Err(Unavailable),
        }
    }

    /// Asks `who` says, and once more where that is somebody else by then. `None`: it is to be done here.
    async fn ask(
        &self,
        who: impl Fn() -> Result<Who, Unavailable>,
        question: Question,
    ) -> Result<Option<Answer>, Unavailable> {
        let Who::There(first) = who()? else { return Ok(None) };
        if let Ok(answer) = self.0.remote.ask(&first, &question).await {
            return Ok(Some(answer));
        }
        match who()? {
            Who::Here => Ok(None),
            Who::There(second) if second != first => self.0.remote.ask(&second, &question).await.map(Some),
            Who::There(_) => Err(Unavailable),
        }
    }

    /// The device asks where to connect, or connects: it is known from now on. How many envelopes wait for it, as far as who
    /// acts for it knows. While a mesh finds out who acts, this waits: a device that connects then need not hear of it.
    pub async fn register(&self, device: NodeId, client: Option<ClientId>) -> Result<u64, Unavailable> {
        let begun = steady();
        loop {
            match self.register_now(device.clone(), client.clone()).await {
                Err(Unavailable) if self.has_company() && steady().since(begun) < REGISTER_MS => {
                    tokio::time::sleep(REGISTER_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    fn goes_away(&self) -> bool {
        self.view().is_some_and(|view| !view.mesh.takes_mail(view.mesh.own()))
    }

    fn has_company(&self) -> bool {
        self.view().is_some_and(|view| !view.mesh.is_alone())
    }

    async fn register_now(&self, device: NodeId, client: Option<ClientId>) -> Result<u64, Unavailable> {
        let question = Question::Register { device: device.clone(), client: client.clone() };
        match self.ask(|| self.of_record(device.as_str()), question).await? {
            Some(Answer::Count(pending)) => return Ok(pending),
            Some(_) => return Err(Unavailable),
            None => {}
        }
        let (pending, answer) = then();
        self.push_device(&device.clone(), Command::Register { device, client, pending: Some(pending) });
        answer.await.unwrap_or(Err(Unavailable))
    }

    pub async fn change_tokens(&self, device: NodeId, change: TokenChange) -> Result<(), Unavailable> {
        let question = Question::Tokens { device: device.clone(), change: change.clone() };
        match self.ask(|| self.of_record(device.as_str()), question).await? {
            Some(Answer::Done) => return Ok(()),
            Some(_) => return Err(Unavailable),
            None => {}
        }
        let (done, answer) = then();
        self.push_device(&device.clone(), Command::Tokens { device, change, done });
        answer.await.unwrap_or(Err(Unavailable))
    }

    /// As [`Self::change_tokens`], for whoever cannot wait.
    pub fn remove_token(&self, device: NodeId, token: PushToken) {
        let change = TokenChange::Remove(token);
        match self.of_record(device.as_str()) {
            Ok(Who::Here) => {
                self.push_device(&device.clone(), Command::Tokens { device, change, done: Box::new(|_| {}) });
            }
            Ok(Who::There(server)) => {
                // A dead token that stays is found dead again.
                let question = Question::Tokens { device, change };
                self.0.remote.ask_then(&server, &question, Box::new(|_| {}));
            }
            Err(Unavailable) => {}
        }
    }

    pub async fn fetch(&self, device: NodeId, fetch: Fetch) -> Result<Page, Unavailable> {
        let question = Question::Fetch { device: device.clone(), fetch: fetch.into() };
        match self.ask(|| Ok(self.of_inbox(&device)), question).await? {
            Some(Answer::Page(page)) => return Ok(page.page()),
            Some(_) => return Err(Unavailable),
            None => {}
        }
        let (answer, page) = then();
        self.push_device(&device.clone(), Command::Read(Request::Fetch { device, fetch, answer }));
        page.await.unwrap_or(Err(Unavailable))
    }

    /// Acknowledges the inbox, durably; nothing where that has begun anew since, which the answer's epoch tells.
    pub async fn trim(&self, device: NodeId, upto: Upto) -> Result<Trimmed, Unavailable> {
        let question = Question::Trim { device: device.clone(), to: upto.seq, epoch: upto.epoch };
        match self.ask(|| Ok(self.of_inbox(&device)), question).await? {
            Some(Answer::Trimmed(trimmed)) => return Ok(trimmed),
            Some(_) => return Err(Unavailable),
            None => {}
        }
        let (done, answer) = then();
        self.push_device(&device.clone(), Command::Trim { device, upto, done: Some(done) });
        answer.await.unwrap_or(Err(Unavailable))
    }

    /// What is known of a device; `None`: it was never here.
    pub async fn profile(&self, device: NodeId) -> Result<Option<Profile>, Unavailable> {
        let question = Question::Profile { device: device.clone() };
        match self.ask(|| self.of_record(device.as_str()), question).await? {
            Some(Answer::Profile(profile)) => return Ok(profile),
            Some(_) => return Err(Unavailable),
            None => {}
        }
        let (answer, profile) = then();
        self.push_device(&device.clone(), Command::Profile { device, answer });
        profile.await.unwrap_or(Err(Unavailable))
    }

    /// How many envelopes a limit has pushed out since the device was told; none where the home cannot say.
    pub async fn tell_lost(&self, device: NodeId) -> u64 {
        let question = Question::Tell { device: device.clone() };
        match self.ask(|| Ok(self.of_inbox(&device)), question).await {
            Ok(Some(Answer::Count(lost))) => return lost,
            Ok(None) => {}
            Ok(Some(_)) | Err(Unavailable) => return 0,
        }
        let (news, answer) = then();
        self.push_device(&device.clone(), Command::Tell { device, news });
        answer.await.unwrap_or(Ok(0)).unwrap_or(0)
    }

    /// Everything handed over before to this server's home is durable, or has failed.
    pub async fn flush(&self) {
        self.0.home.flush().await;
    }

    /// Whether this server's store takes a write.
    pub async fn probe(&self, now: Millis) -> Result<(), Unavailable> {
        self.0.home.probe(now).await
    }

    /// Nothing more will be handed over.
    pub fn close(&self) {
        self.0.bell.close();
        self.0.home.close();
    }

    /// To this server's own home, which may still have to fetch what there is of `device`.
    pub(super) fn push_device(&self, device: &NodeId, command: Command) {
        self.push_about(|| Subject::Device(device.clone()), command);
    }

    /// What is to be done with an inbox, without an answer.
    pub(super) fn errand(&self, device: &NodeId, errand: Errand) {
        let (Who::There(home), Some(view)) = (self.of_inbox(device), self.view()) else {
            return self.errand_here(device.clone(), errand);
        };
        // What cannot be taken out of an inbox now comes to the device once more, and is taken out then.
        let _ = view.mesh.send(&home, &Dispatch::Errand { device: device.clone(), errand });
    }

    pub(super) fn errand_here(&self, device: NodeId, errand: Errand) {
        let id = device.clone();
        self.push_device(
            &id,
            match errand {
                Errand::Remove(seq) => Command::Remove { device, seq },
                Errand::Trim(seq) => Command::Trim { device, upto: Upto { seq, epoch: None }, done: None },
                Errand::Acknowledge(key) => Command::Acknowledge { device, key },
            },
        );
    }

    /// For a lane of this server, or another server.
    pub(super) fn append_for(&self, asker: Asker, item: Parcel, why: Why, from: Option<&NodeId>) {
        let home = match (self.of_inbox(asker.device()), self.view()) {
            // Who asks me holds me for the home, and I hold it for that: the lists of members are about to become equal.
            (Who::There(home), Some(view)) if Some(&home) != from => (home, view),
            (who, _) => {
                if matches!(who, Who::There(_)) {
                    self.0.placed.stray();
                }
                let id = asker.device().clone();
                return self.push_device(&id, Command::Append { asker, item, why });
            }
        };
        self.0.abroad.append(&home.1.mesh, &home.0, asker, item, why);
    }

    pub(super) fn read_for(&self, whom: Whom, from: Seq, room: usize, asker: Option<&NodeId>) {
        match (self.of_inbox(whom.device()), self.view()) {
            (Who::There(home), Some(view)) if Some(&home) != asker => {
                self.0.abroad.read(&view.mesh, &home, whom, from, room);
            }
            _ => {
                let id = whom.device().clone();
                self.push_device(&id, Command::Read(Request::Replay { whom, from, room }));
            }
        }
    }
}

impl Inboxes for Homes {
    fn append(&self, device: &Arc<Device>, item: Parcel, why: Why) {
        let stays = item.custody == Custody::Own && !abroad::is_held(&item) && self.0.abroad.holds(device.id());
        if stays {
            return self.0.abroad.hold(device, item, why);
        }
        if item.custody != Custody::Own && self.goes_away() {
            // Its custodian stays, and holds it where the device will be sooner than this inbox.
            return self.here().push(Command::Refuse { asker: Asker::Lane(device.clone()), item });
        }
        self.append_for(Asker::Lane(device.clone()), item, why, None);
    }

    fn goes_behind(&self, device: &NodeId, item: &Parcel) -> bool {
        if abroad::is_held(item) {
            // It comes late, so it comes with its place in the inbox where the home can give it one.
            return self.view().is_some_and(|view| view.mesh.takes_mail(&view.mesh.home(device.as_str())));
        }
        item.custody == Custody::Own && self.0.abroad.holds(device)
    }

    fn present(&self, device: &NodeId) {
        if self.0.abroad.resume(device) {
            self.0.bell.ring(&[]);
        }
    }

    fn remove(&self, device: &NodeId, seq: Seq) {
        self.errand(device, Errand::Remove(seq));
    }

    fn trim(&self, device: &NodeId, to: Seq) {
        self.errand(device, Errand::Trim(to));
    }

    fn read(&self, device: &Arc<Device>, from: Seq, room: usize, generation: u64) {
        self.read_for(Whom::Lane(device.clone(), generation), from, room, None);
    }

    fn acknowledge(&self, device: &NodeId, key: Key) {
        self.errand(device, Errand::Acknowledge(key));
    }

    fn devices_of(&self, client: ClientId, number: u64) {
        let Some(view) = self.view().cloned() else { return };
        self.find_devices(&client, move |devices| match devices {
            Ok(devices) => view.devices_are(number, &devices),
            Err(Unavailable) => view.refused(number, super::asked::unreadable()),
        });
    }

    fn to_client(&self, client: ClientId, except: Vec<NodeId>, item: Parcel) {
        let subject = || Subject::Client(client.clone());
        self.push_about(subject, Command::ToClient { client: client.clone(), except, item });
    }

    fn dispatched(&self, from: &NodeId, dispatch: Dispatch) {
        self.handle(from, dispatch);
    }

    fn forwarded(&self, number: u64, verdict: Verdict) {
        self.0.abroad.forwarded(number, verdict);
        self.0.bell.ring(&[]);
    }
}

impl Journal for Homes {
    fn submit(&self, writes: Vec<Write>, done: Done) {
        self.0.home.submit(writes, done);
    }
}
