//! What other servers ask of this server's home, and what they answer.
//!
//! Everything is called on a link's thread, in the order of the asking server's stream: it queues and never blocks. An inbox
//! that by our list of members has its home at a third server is asked there on behalf of who asked us.

use super::Homes;
use super::arrivals::Subject;
use super::copies::Copy;
use super::question::{Answer, Question, WirePage};
use super::queue::{Asker, Command, Then};
use super::reader::{Request, Whom};
use super::remote::Reply;
use crate::model::codes::{Code, Refusal};
use crate::model::frames::{Denial, Dispatch};
use crate::model::ids::{ClientId, NodeId};
use crate::model::inbox::Upto;
use crate::store::Unavailable;
use crate::view::{Parcel, parcel, steady};

pub(super) fn unreadable() -> Denial {
    let message = "it cannot be found out now who the devices of this client are; try again later";
    Denial::Refusal(Refusal::new(Code::Unavailable, message))
}

/// Answers with what `words` makes of it.
fn then<T: 'static>(reply: Reply, words: impl FnOnce(T) -> Option<Answer> + Send + 'static) -> Then<T> {
    Box::new(move |result| {
        // Dropped, it says that there is no answer.
        if let Some(answer) = result.ok().and_then(words) {
            reply.answer(&answer);
        }
    })
}

impl Homes {
    /// One dispatch that is for the home.
    pub(super) fn handle(&self, from: &NodeId, dispatch: Dispatch) {
        let Some(view) = self.view() else { return };
        match dispatch {
            Dispatch::Append { number, device, shown, why, envelope } => {
                let asker = Asker::Server { server: from.clone(), number, device };
                self.append_for(asker, Parcel { shown, ..parcel(envelope) }, why, Some(from));
            }
            Dispatch::Appended { number, seq, acquaintance } => {
                self.abroad().appended(view, from, number, seq, acquaintance);
            }
            Dispatch::Errand { device, errand } => {
                if view.mesh.home(device.as_str()) == *from {
                    self.errand_here(device, errand);
                } else {
                    self.errand(&device, errand);
                }
            }
            Dispatch::Read { number, device, from: first, room } => {
                let whom = Whom::Server { server: from.clone(), number, device };
                self.read_for(whom, first, usize::try_from(room).unwrap_or(usize::MAX), Some(from));
            }
            Dispatch::PageItem { number, envelope } => self.abroad().page_item(&view.mesh, from, number, envelope),
            Dispatch::Page { number, end } => self.abroad().page(view, from, number, end),
            Dispatch::Ask { number, question } => {
                self.remote().asked(from, number, &question, |question, reply| {
                    self.serve(from, question, reply);
                });
            }
            Dispatch::Devices { number, client } => {
                let (view, to) = (view.clone(), from.clone());
                self.find_devices(&client, move |devices| {
                    let answer = match devices {
                        Ok(devices) => Dispatch::DevicesAre { number, devices },
                        Err(Unavailable) => Dispatch::Refused { number, why: unreadable() },
                    };
                    // Whoever cannot be reached asks somebody else.
                    let _ = view.mesh.send(&to, &answer);
                });
            }
            Dispatch::Reply { number, answer } => self.remote().replied(from, number, &answer),
            _ => log::error!("server {from} says to the home what is not for it"),
        }
    }

    /// Which devices `client` has, for whoever sends to it.
    pub(super) fn find_devices(
        &self,
        client: &ClientId,
        then: impl FnOnce(Result<Vec<NodeId>, Unavailable>) + Send + 'static,
    ) {
        let subject = || Subject::Client(client.clone());
        self.push_about(subject, Command::Read(Request::Devices { client: client.clone(), then: Box::new(then) }));
    }

    fn serve(&self, from: &NodeId, question: Question, reply: Reply) {
        let (device, command) = match question {
            // The sessions' own, and those of whoever watches.
            Question::Session(_) | Question::Watch(_) => return,
            Question::HandBack => return self.debts().hand_back(from, reply),
            Question::HaveAll => return reply.answer(&Answer::Count(u64::from(self.placed().includes(from)))),
            Question::HaveLeft => {
                let own = self.view().map(|view| view.mesh.own());
                let has_left = own.is_some_and(|own| self.placed().includes_without(own, from));
                return reply.answer(&Answer::Count(u64::from(has_left)));
            }
            Question::Give { device } => {
                let done = then(reply, |_| Some(Answer::Done));
                return self.ship(&device, from.clone(), done);
            }
            Question::GiveClient { client } => return self.give_client(client, from.clone(), reply),
            Question::Copies(copies) => {
                let done = then(reply, |()| Some(Answer::Done));
                return self.here().push(Command::Copies { copies, done });
            }
            Question::Part(part) => {
                let done = then(reply, |()| Some(Answer::Done));
                return self.here().push(Command::Adopt { part, done });
            }
            Question::Register { device, client } => {
                self.coming().note(&device, from, steady());
                let pending = then(reply, |pending| Some(Answer::Count(pending)));
                (device.clone(), Command::Register { device, client, pending: Some(pending) })
            }
            Question::Tokens { device, change } => {
                let done = then(reply, |()| Some(Answer::Done));
                (device.clone(), Command::Tokens { device, change, done })
            }
            Question::Profile { device } => {
                let answer = then(reply, |profile| Some(Answer::Profile(profile)));
                (device.clone(), Command::Profile { device, answer })
            }
            Question::Fetch { device, fetch } => {
                let answer = then(reply, |page| WirePage::of(&page).map(Answer::Page));
                (device.clone(), Command::Read(Request::Fetch { device, fetch: fetch.into(), answer }))
            }
            Question::Trim { device, to, epoch } => {
                let done = then(reply, |trimmed| Some(Answer::Trimmed(trimmed)));
                (device.clone(), Command::Trim { device, upto: Upto { seq: to, epoch }, done: Some(done) })
            }
            Question::Tell { device } => {
                self.coming().note(&device, from, steady());
                let news = then(reply, |lost| Some(Answer::Count(lost)));
                (device.clone(), Command::Tell { device, news })
            }
        };
        self.push_device(&device, command);
    }

    /// What is known here of a client's devices goes to its new home.
    fn give_client(&self, client: ClientId, to: NodeId, reply: Reply) {
        let homes = self.clone();
        let send: Then<Vec<Copy>> = Box::new(move |copies| {
            let Ok(copies) = copies else { return };
            let done = move |result| {
                if matches!(result, Ok(Answer::Done)) {
                    reply.answer(&Answer::Done);
                }
            };
            homes.remote().ask_then(&to, &Question::Copies(copies), Box::new(done));
        });
        self.here().push(Command::Read(Request::Client { client, then: send }));
    }
}
