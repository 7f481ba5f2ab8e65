//! What other servers ask of this server's home, and what they answer.
//!
//! Everything is called on a link's thread, in the order of the asking server's stream: it queues and never blocks. An inbox
//! that by our list of members has its home at a third server is asked there on behalf of who asked us.

use super::Homes;
use super::question::{Answer, Question, WirePage};
use super::queue::{Asker, Command, Then};
use super::reader::{Request, Whom};
use super::remote::Reply;
use crate::model::frames::Dispatch;
use crate::model::ids::NodeId;
use crate::view::{Parcel, parcel};

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
                self.remote().asked(from, number, &question, |question, reply| self.serve(question, reply));
            }
            Dispatch::Reply { number, answer } => self.remote().replied(from, number, &answer),
            _ => log::error!("server {from} says to the home what is not for it"),
        }
    }

    fn serve(&self, question: Question, reply: Reply) {
        self.here().push(match question {
            // The sessions' own.
            Question::Session(_) => return,
            Question::Register { device, client } => {
                let pending = then(reply, |pending| Some(Answer::Count(pending)));
                Command::Register { device, client, pending: Some(pending) }
            }
            Question::Tokens { device, change } => {
                Command::Tokens { device, change, done: then(reply, |()| Some(Answer::Done)) }
            }
            Question::Profile { device } => {
                Command::Profile { device, answer: then(reply, |profile| Some(Answer::Profile(profile))) }
            }
            Question::Fetch { device, fetch } => {
                let answer = then(reply, |page| WirePage::of(&page).map(Answer::Page));
                Command::Read(Request::Fetch { device, fetch: fetch.into(), answer })
            }
            Question::Trim { device, to } => {
                let done = then(reply, |trimmed| Some(Answer::Trimmed(trimmed)));
                Command::Trim { device, to, done: Some(done) }
            }
            Question::Tell { device } => Command::Tell { device, news: then(reply, |lost| Some(Answer::Count(lost))) },
        });
    }
}
