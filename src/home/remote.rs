//! Questions to the homes of other servers, and their answers.
//!
//! Owns what was asked and is not answered: by number, bounded in number and bytes. Invariants: every question is answered
//! once: by the server asked, or with [`Unavailable`] when it is lost, when [`PATIENCE_MS`] have passed, or when too much
//! is open. No lock is held while an answer is given to whoever waits for it.
//!
//! What is asked is [`Question`]. Sessions speak words of their own through [`Remote::ask_session`] and [`Sessions`], and so
//! does the service that watches, through [`Remote::ask_watch`] and [`Watched`].

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::question::{Answer, Question};
use crate::metrics;
use crate::model::frames::Dispatch;
use crate::model::ids::{Millis, NodeId};
use crate::model::keyed::HashMap;
use crate::store::Unavailable;
use crate::view::{NoWay, steady};

/// How long an answer is waited for, in milliseconds.
const PATIENCE_MS: u64 = 5_000;
/// Questions that may be open.
const MAX_OPEN: usize = 20_000;
/// Bytes of open questions.
const MAX_BYTES: usize = 32 << 20;

/// Called once with the answer, on whatever thread brings it: must be quick, and must not block.
pub(super) type Then = Box<dyn FnOnce(Result<Answer, Unavailable>) + Send>;
/// Sends to another server.
pub(super) type Way = Box<dyn Fn(&NodeId, &Dispatch) -> Result<(), NoWay> + Send + Sync>;

/// The service that keeps sessions, as other servers ask it.
pub trait Sessions: Send + Sync {
    /// `from` asks; `reply` is its answer, now or later. Called on a link's thread: must not block.
    fn asked(&self, from: &NodeId, question: Box<RawValue>, reply: Reply);

    /// `to` has come back: whatever was changed here in its stead goes there, and then `done` is called. Must not block.
    fn hand_back(&self, to: &NodeId, done: Box<dyn FnOnce() + Send>) {
        let _ = to;
        done();
    }
}

/// The service that tells operators of this server, as other servers ask it.
pub trait Watched: Send + Sync {
    /// Called on a link's thread: must not block.
    fn asked(&self, from: &NodeId, question: Box<RawValue>, reply: Reply);
}

/// One question of another server, to be answered once. Dropped without an answer it says that there is none.
pub struct Reply {
    remote: Arc<Remote>,
    to: NodeId,
    number: u64,
    is_answered: bool,
}

impl Reply {
    /// In the words of the sessions' service.
    pub fn session(self, answer: Box<RawValue>) {
        self.answer(&Answer::Session(answer));
    }

    /// In the words of the service that watches.
    pub fn watch(self, answer: Box<RawValue>) {
        self.answer(&Answer::Watch(answer));
    }

    pub(super) fn answer(mut self, answer: &Answer) {
        self.is_answered = true;
        self.send(answer);
    }

    fn send(&self, answer: &Answer) {
        let reply = Dispatch::Reply { number: self.number, answer: encode(answer) };
        // Whoever cannot be reached stops waiting by itself.
        let _ = self.remote.send(&self.to, &reply);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_answered {
            self.send(&Answer::Unavailable);
        }
    }
}

struct Asked {
    server: NodeId,
    bytes: usize,
    since: Millis,
    then: Then,
}

#[derive(Default)]
struct Open {
    last: u64,
    asked: HashMap<u64, Asked>,
    bytes: usize,
}

impl Open {
    fn remove(&mut self, number: u64, server: &NodeId) -> Option<Asked> {
        if self.asked.get(&number)?.server != *server {
            return None;
        }
        let asked = self.asked.remove(&number)?;
        self.bytes -= asked.bytes;
        Some(asked)
    }

    fn remove_all(&mut self, which: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        let gone: Vec<Asked> = self.asked.extract_if(|_, asked| which(asked)).map(|(_, asked)| asked).collect();
        self.bytes -= gone.iter().map(|asked| asked.bytes).sum::<usize>();
        gone
    }
}

/// See the module's header.
#[derive(Default)]
pub struct Remote {
    /// Set when the server's parts are put together.
    way: OnceLock<Way>,
    open: Mutex<Open>,
    sessions: OnceLock<Arc<dyn Sessions>>,
    watched: OnceLock<Arc<dyn Watched>>,
}

impl Remote {
    pub(super) fn begin(&self, way: Way) {
        // There is one way; a second one is a fault in the wiring, and the first stays.
        let _ = self.way.set(way);
    }

    /// Who answers for sessions; the first that is named.
    pub fn serve_sessions(&self, sessions: Arc<dyn Sessions>) {
        let _ = self.sessions.set(sessions);
    }

    /// Who tells operators of this server; the first that is named.
    pub fn serve_watch(&self, watched: Arc<dyn Watched>) {
        let _ = self.watched.set(watched);
    }

    pub(super) fn sessions(&self) -> Option<&Arc<dyn Sessions>> {
        self.sessions.get()
    }

    fn send(&self, server: &NodeId, dispatch: &Dispatch) -> Result<(), NoWay> {
        self.way.get().map_or(Err(NoWay::Unreachable), |way| way(server, dispatch))
    }

    fn open<R>(&self, act: impl FnOnce(&mut Open) -> R) -> R {
        // Nothing panics while it is held.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = act(&mut open);
        metrics::HOME_ASKED.set(open.asked.len() as i64);
        answer
    }

    /// Asks `server`; its answer, or [`Unavailable`] after at most five seconds.
    pub(super) async fn ask(&self, server: &NodeId, question: &Question) -> Result<Answer, Unavailable> {
        let (then, answer) = oneshot::channel();
        // Whoever asked may be gone; then nobody needs the answer.
        self.ask_then(server, question, Box::new(move |result| drop(then.send(result))));
        answer.await.unwrap_or(Err(Unavailable))
    }

    /// As [`Self::ask`], in the words of the sessions' service.
    ///
    /// # Errors
    /// [`Unavailable`] also where the other server has nothing to say.
    pub async fn ask_session(&self, server: &NodeId, question: Box<RawValue>) -> Result<Box<RawValue>, Unavailable> {
        match self.ask(server, &Question::Session(question)).await? {
            Answer::Session(answer) => Ok(answer),
            _ => Err(Unavailable),
        }
    }

    /// As [`Self::ask`], in the words of the service that watches.
    ///
    /// # Errors
    /// [`Unavailable`] also where the other server does not know such a question.
    pub async fn ask_watch(&self, server: &NodeId, question: Box<RawValue>) -> Result<Box<RawValue>, Unavailable> {
        match self.ask(server, &Question::Watch(question)).await? {
            Answer::Watch(answer) => Ok(answer),
            _ => Err(Unavailable),
        }
    }

    /// As [`Self::ask`], for whoever cannot wait.
    pub(super) fn ask_then(&self, server: &NodeId, question: &Question, then: Then) {
        let question = encode(question);
        let bytes = question.len();
        let taken = self.open(|open| {
            if open.asked.len() >= MAX_OPEN || (open.bytes > 0 && open.bytes + bytes > MAX_BYTES) {
                return Err(then);
            }
            open.last += 1;
            open.bytes += bytes;
            open.asked.insert(open.last, Asked { server: server.clone(), bytes, since: steady(), then });
            Ok(open.last)
        });
        let number = match taken {
            Ok(number) => number,
            Err(then) => return then(Err(Unavailable)),
        };
        // It is open before it is sent, so that whoever loses the server finds it.
        if self.send(server, &Dispatch::Ask { number, question }).is_err()
            && let Some(asked) = self.open(|open| open.remove(number, server))
        {
            (asked.then)(Err(Unavailable));
        }
    }

    /// Another server answers.
    pub(super) fn replied(&self, from: &NodeId, number: u64, answer: &Bytes) {
        let Some(asked) = self.open(|open| open.remove(number, from)) else { return };
        let result = match serde_json::from_slice(answer) {
            Ok(Answer::Unavailable) => Err(Unavailable),
            Ok(answer) => Ok(answer),
            Err(error) => {
                log::error!("server {from} answers what cannot be read: {error}");
                Err(Unavailable)
            }
        };
        (asked.then)(result);
    }

    /// Another server asks. What is not for sessions is answered by `serve`, which must not block.
    pub(super) fn asked(
        self: &Arc<Self>,
        from: &NodeId,
        number: u64,
        question: &Bytes,
        serve: impl FnOnce(Question, Reply),
    ) {
        let reply = Reply { remote: self.clone(), to: from.clone(), number, is_answered: false };
        match serde_json::from_slice(question) {
            Ok(Question::Session(question)) => {
                if let Some(sessions) = self.sessions.get() {
                    sessions.asked(from, question, reply);
                }
            }
            Ok(Question::Watch(question)) => {
                if let Some(watched) = self.watched.get() {
                    watched.asked(from, question, reply);
                }
            }
            Ok(question) => serve(question, reply),
            Err(error) => log::error!("server {from} asks what cannot be read: {error}"),
        }
    }

    /// These can be reached no more, or only in a new life: nobody there answers what was asked.
    pub(super) fn lost(&self, servers: &[NodeId]) {
        let gone = self.open(|open| open.remove_all(|asked| servers.contains(&asked.server)));
        gone.into_iter().for_each(|asked| (asked.then)(Err(Unavailable)));
    }

    /// Ends the waiting that has lasted too long. To be called several times a second.
    pub(super) fn tick(&self) {
        let now = steady();
        let late = self.open(|open| open.remove_all(|asked| now.since(asked.since) > PATIENCE_MS));
        late.into_iter().for_each(|asked| (asked.then)(Err(Unavailable)));
    }
}

fn encode(words: &impl serde::Serialize) -> Bytes {
    // Our own words are plain enums of numbers, strings and JSON, which always serialise.
    serde_json::to_vec(words).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    type Wire = mpsc::Receiver<(NodeId, Dispatch)>;

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    /// A remote and what it sends.
    fn remote() -> (Arc<Remote>, Wire) {
        let (sender, wire) = mpsc::sync_channel(MAX_OPEN + 1);
        let remote = Arc::new(Remote::default());
        remote.begin(Box::new(move |server: &NodeId, dispatch: &Dispatch| {
            if server.as_str() == "nowhere" {
                return Err(NoWay::Unreachable);
            }
            sender.send((server.clone(), dispatch.clone())).unwrap();
            Ok(())
        }));
        (remote, wire)
    }

    fn ask(remote: &Remote, server: &str) -> mpsc::Receiver<Result<Answer, Unavailable>> {
        let (sender, answer) = mpsc::sync_channel(1);
        let then = Box::new(move |result| sender.send(result).unwrap());
        remote.ask_then(&id(server), &Question::Tell { device: id("d") }, then);
        answer
    }

    fn question(wire: &Wire) -> (u64, Bytes) {
        match wire.try_recv().unwrap().1 {
            Dispatch::Ask { number, question } => (number, question),
            other => panic!("{other:?}"),
        }
    }

    fn reply(wire: &Wire) -> (u64, Bytes) {
        match wire.try_recv().unwrap().1 {
            Dispatch::Reply { number, answer } => (number, answer),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_question_is_answered_by_the_server_asked() {
        let ((here, sent), (there, answered)) = (remote(), remote());
        let answer = ask(&here, "there");
        let (number, question) = question(&sent);
        there.asked(&id("here"), number, &question, |question, reply| {
            assert!(matches!(question, Question::Tell { device } if device == id("d")));
            reply.answer(&Answer::Count(7));
        });
        let (number, bytes) = reply(&answered);
        here.replied(&id("another"), number, &bytes);
        assert!(answer.try_recv().is_err(), "nobody else can answer");
        here.replied(&id("there"), number, &bytes);
        assert!(matches!(answer.try_recv().unwrap(), Ok(Answer::Count(7))));
        here.replied(&id("there"), number, &bytes);
        assert!(answer.try_recv().is_err(), "it is answered once");
        assert_eq!(here.open(|open| (open.asked.len(), open.bytes)), (0, 0));
    }

    #[test]
    fn who_is_not_answered_is_told_so() {
        let (here, sent) = remote();
        assert!(matches!(ask(&here, "nowhere").try_recv().unwrap(), Err(Unavailable)));
        let (lost, kept) = (ask(&here, "there"), ask(&here, "other"));
        here.lost(&[id("there")]);
        assert!(matches!(lost.try_recv().unwrap(), Err(Unavailable)));
        here.tick();
        assert!(kept.try_recv().is_err(), "the other one may still answer");
        here.open(|open| open.asked.values_mut().for_each(|asked| asked.since = Millis(0)));
        here.tick();
        assert!(matches!(kept.try_recv().unwrap(), Err(Unavailable)));
        drop(sent);
    }

    #[test]
    fn a_reply_that_is_dropped_and_words_that_are_not_known_are_no_answer() {
        let ((here, sent), (there, answered)) = (remote(), remote());
        let answer = ask(&here, "there");
        let (number, _) = question(&sent);
        there.asked(&id("here"), number, &Bytes::from_static(b"{\"New\":{}}"), |_, _| panic!("it is not known"));
        let (number, bytes) = reply(&answered);
        here.replied(&id("there"), number, &bytes);
        assert!(matches!(answer.try_recv().unwrap(), Err(Unavailable)));
    }

    #[test]
    fn what_is_open_is_bounded() {
        let (here, sent) = remote();
        let answers: Vec<_> = (0..=MAX_OPEN).map(|_| ask(&here, "there")).collect();
        assert!(answers[MAX_OPEN].try_recv().unwrap().is_err());
        assert!(answers[MAX_OPEN - 1].try_recv().is_err());
        drop((here, sent));
    }

    #[test]
    fn sessions_speak_their_own_words() {
        struct Echo;
        impl Sessions for Echo {
            fn asked(&self, _: &NodeId, question: Box<RawValue>, reply: Reply) {
                reply.session(question);
            }
        }
        let ((here, sent), (there, answered)) = (remote(), remote());
        there.serve_sessions(Arc::new(Echo));
        let (sender, answer) = mpsc::sync_channel(1);
        let words = RawValue::from_string("{\"join\": [1,2]}".to_owned()).unwrap();
        here.ask_then(&id("there"), &Question::Session(words), Box::new(move |result| sender.send(result).unwrap()));
        let (number, question) = question(&sent);
        there.asked(&id("here"), number, &question, |_, _| panic!("it is for sessions"));
        let (number, bytes) = reply(&answered);
        here.replied(&id("there"), number, &bytes);
        match answer.try_recv().unwrap() {
            Ok(Answer::Session(words)) => assert_eq!(words.get(), "{\"join\": [1,2]}"),
            other => panic!("{other:?}"),
        }
    }
}
